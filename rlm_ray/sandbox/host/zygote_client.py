"""The host's end of a zygote: has it fork and kill children, hears of their deaths, and says why one is gone.

Every method belongs to one event loop, with which the control socket is registered. Messages are
posted at once and sent as the socket takes them, so killing never waits.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from rlm_ray.sandbox.settings import Sandbox
from rlm_ray.sandbox.wire.messages import EXIT_MEMORY

UNKNOWN_STATUS = -1
"""The wait status of a child whose zygote died, or that could not be forked."""

_AGAIN = "All variables are lost: define again what you need"


def from_wait_status(status: int, settings: Sandbox) -> str:
    """Say how a child ended by itself or by the kernel's hand."""
    if status == UNKNOWN_STATUS:
        return _sentence("its supervising process died")
    code = os.waitstatus_to_exitcode(status)
    if code == -signal.SIGVTALRM:
        return _sentence(
            f"the cell used more than {settings.cell_cpu_s:g} s of processor time in a call that cannot be interrupted",
            "and compute less in one call",
        )
    if code == -signal.SIGXCPU:
        return _sentence("it used processor time while no cell ran")
    if code in (EXIT_MEMORY, -signal.SIGKILL):
        return _sentence(
            f"it ran out of memory ({settings.memory_mb:,} MB beyond the context)", "and keep less at a time"
        )
    what = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return _sentence(f"it crashed ({what})", "without deep recursion or deeply nested data")


def was_external_kill(status: int) -> bool:
    """Tell whether its zygote died, or somebody sent SIGKILL: an operator, or the kernel for want of memory."""
    return status == UNKNOWN_STATUS or os.waitstatus_to_exitcode(status) == -signal.SIGKILL


def deadline_exceeded(settings: Sandbox) -> str:
    return _sentence(
        f"the cell ran longer than {settings.cell_timeout_s:g} s (sub-calls not counted) and could not be interrupted",
        "and do less in one call",
    )


def protocol_violation(what: str) -> str:
    return _sentence(f"it broke the protocol ({what})")


def _sentence(why: str, advice: str = "") -> str:
    return f"The interpreter was stopped: {why}. {_AGAIN}{' ' if advice else ''}{advice}."


_PACKET_BYTES = 4_096
IDLE_NOTICE_S = 1.0
"""A child that is idle for less is not worth two messages: most replies are there before, and their cells begin."""


@dataclass(eq=False, slots=True)
class ReplChild:
    """A REPL's process, by the number its zygote knows."""

    id: int
    channel: socket.socket
    """Non-blocking; ours to close."""
    exited: asyncio.Future[int]
    """The wait status, once it has been reaped; `GONE` when nobody can tell."""
    idle_timer: asyncio.TimerHandle | None = None
    is_idle: bool = False
    """The zygote has been told so."""


@dataclass(eq=False, slots=True)
class _OutgoingPacket:
    data: bytes
    sockets: tuple[socket.socket, ...] = ()
    descriptors: tuple[int, ...] = field(default=())


class ZygoteClient:
    """One zygote, seen from its host."""

    def __init__(self, control: socket.socket) -> None:
        control.setblocking(False)
        self._control = control
        self._loop = asyncio.get_running_loop()
        self._outbox: deque[_OutgoingPacket] = deque()
        self._children: dict[int, ReplChild] = {}
        self._count = 0
        self.is_alive = True
        self.closed: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(control, self._on_readable)

    @property
    def children(self) -> int:
        """Return how many children have not been reaped yet."""
        return len(self._children)

    def fork_repl(self, **order: Any) -> ReplChild:
        """Fork a child; what is written to its channel waits until it is there to read."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self._count += 1
        child = ReplChild(self._count, ours, self._loop.create_future())
        if not self.is_alive:
            theirs.close()
            child.exited.set_result(UNKNOWN_STATUS)
            return child
        self._children[child.id] = child
        self._enqueue({"op": "fork", "id": child.id, **order}, theirs)
        return child

    def fork_context_zygote(self, memory_file: int) -> ZygoteClient:
        """Fork a zygote of its own for the context in this file."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._count += 1
        self._enqueue({"op": "branch", "id": self._count}, theirs, descriptors=(os.dup(memory_file),))
        return ZygoteClient(ours)

    def kill(self, child: ReplChild) -> None:
        if child.id in self._children:
            self._enqueue({"op": "kill", "id": child.id})

    def mark_idle(self, child: ReplChild) -> None:
        """Say that the child's cell has ended: it has no reason to use the processor until `mark_busy`."""
        if child.id in self._children:
            child.idle_timer = self._loop.call_later(IDLE_NOTICE_S, self._send_idle, child)

    def mark_busy(self, child: ReplChild) -> None:
        """Say that the child's next cell begins."""
        if child.idle_timer is not None:
            child.idle_timer.cancel()
            child.idle_timer = None
        if child.is_idle and child.id in self._children:
            child.is_idle = False
            self._enqueue({"op": "busy", "id": child.id})

    def _send_idle(self, child: ReplChild) -> None:
        if child.id in self._children:
            child.is_idle = True
            self._enqueue({"op": "idle", "id": child.id})

    def close(self) -> None:
        """Close the socket: the zygote sees its end, kills and reaps its children, and exits."""
        if self.is_alive:
            self._close()

    def _enqueue(
        self, order: dict[str, Any], *sockets: socket.socket, descriptors: tuple[int, ...] = ()
    ) -> None:
        self._outbox.append(_OutgoingPacket(json.dumps(order).encode(), sockets, descriptors))
        self._send()

    def _send(self) -> None:
        while self._outbox and self.is_alive:
            post = self._outbox[0]
            try:
                _send_packet(self._control, post)
            except BlockingIOError:
                self._loop.add_writer(self._control, self._send)
                return
            except OSError:
                self._close()
                return
            _discard(self._outbox.popleft())
        if self.is_alive:
            self._loop.remove_writer(self._control)

    def _on_readable(self) -> None:
        try:
            packet = self._control.recv(_PACKET_BYTES)
        except BlockingIOError:
            return
        except OSError:
            packet = b""
        if not packet:
            self._close()
            return
        report = json.loads(packet)
        if "exited" in report:
            child = self._children.pop(report["exited"], None)
            if child is not None and not child.exited.done():
                child.exited.set_result(report["status"])

    def _close(self) -> None:
        self.is_alive = False
        self._loop.remove_reader(self._control)
        self._loop.remove_writer(self._control)
        self._control.close()
        while self._outbox:
            _discard(self._outbox.popleft())
        for child in self._children.values():
            if not child.exited.done():
                child.exited.set_result(UNKNOWN_STATUS)
        self._children.clear()
        if not self.closed.done():
            self.closed.set_result(None)


def _send_packet(control: socket.socket, post: _OutgoingPacket) -> None:
    descriptors = [*(s.fileno() for s in post.sockets), *post.descriptors]
    if descriptors:
        socket.send_fds(control, [post.data], descriptors)
    else:
        control.send(post.data)


def _discard(post: _OutgoingPacket) -> None:
    """Close our copies of what was, or will not be, passed on."""
    for passed in post.sockets:
        passed.close()
    for descriptor in post.descriptors:
        os.close(descriptor)
