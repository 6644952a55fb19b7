"""The host's end of a zygote: has it fork and kill children, hears of their deaths.

Every method belongs to one event loop, with which the control socket is registered. Messages are
posted at once and sent as the socket takes them, so killing never waits.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from rlm_ray.sandbox.host.exit_reason import GONE

_PACKET_BYTES = 4_096


@dataclass(eq=False, slots=True)
class Child:
    """A REPL's process, by the number its zygote knows."""

    number: int
    channel: socket.socket
    """Non-blocking; ours to close."""
    exited: asyncio.Future[int]
    """The wait status, once it has been reaped; `GONE` when nobody can tell."""


@dataclass(eq=False, slots=True)
class _Post:
    data: bytes
    sockets: tuple[socket.socket, ...] = ()
    descriptors: tuple[int, ...] = field(default=())


class Nursery:
    """One zygote, seen from its host."""

    def __init__(self, control: socket.socket) -> None:
        control.setblocking(False)
        self._control = control
        self._loop = asyncio.get_running_loop()
        self._outbox: deque[_Post] = deque()
        self._children: dict[int, Child] = {}
        self._count = 0
        self.alive = True
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(control, self._hear)

    @property
    def children(self) -> int:
        """How many children have not been reaped yet."""
        return len(self._children)

    def fork(self, **order: Any) -> Child:
        """A child; what is written to its channel waits until it is there to read."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self._count += 1
        child = Child(self._count, ours, self._loop.create_future())
        if not self.alive:
            theirs.close()
            child.exited.set_result(GONE)
            return child
        self._children[child.number] = child
        self._post({"op": "fork", "id": child.number, **order}, theirs)
        return child

    def branch(self, memory_file: int) -> Nursery:
        """A zygote of its own for the context in this file, forked from this one."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._count += 1
        self._post({"op": "branch", "id": self._count}, theirs, descriptors=(os.dup(memory_file),))
        return Nursery(ours)

    def kill(self, child: Child) -> None:
        if child.number in self._children:
            self._post({"op": "kill", "id": child.number})

    def idle(self, child: Child) -> None:
        """Its cell has ended: it has no reason to use the processor until it is `busy` again."""
        if child.number in self._children:
            self._post({"op": "idle", "id": child.number})

    def busy(self, child: Child) -> None:
        """Its next cell begins."""
        if child.number in self._children:
            self._post({"op": "busy", "id": child.number})

    def close(self) -> None:
        """The zygote sees the end of its socket, kills and reaps its children, and exits."""
        if self.alive:
            self._end()

    def _post(
        self, order: dict[str, Any], *sockets: socket.socket, descriptors: tuple[int, ...] = ()
    ) -> None:
        self._outbox.append(_Post(json.dumps(order).encode(), sockets, descriptors))
        self._send()

    def _send(self) -> None:
        while self._outbox and self.alive:
            post = self._outbox[0]
            try:
                _send_packet(self._control, post)
            except BlockingIOError:
                self._loop.add_writer(self._control, self._send)
                return
            except OSError:
                self._end()
                return
            _discard(self._outbox.popleft())
        if self.alive:
            self._loop.remove_writer(self._control)

    def _hear(self) -> None:
        try:
            packet = self._control.recv(_PACKET_BYTES)
        except BlockingIOError:
            return
        except OSError:
            packet = b""
        if not packet:
            self._end()
            return
        report = json.loads(packet)
        if "exited" in report:
            child = self._children.pop(report["exited"], None)
            if child is not None and not child.exited.done():
                child.exited.set_result(report["status"])

    def _end(self) -> None:
        self.alive = False
        self._loop.remove_reader(self._control)
        self._loop.remove_writer(self._control)
        self._control.close()
        while self._outbox:
            _discard(self._outbox.popleft())
        for child in self._children.values():
            if not child.exited.done():
                child.exited.set_result(GONE)
        self._children.clear()
        if not self.ended.done():
            self.ended.set_result(None)


def _send_packet(control: socket.socket, post: _Post) -> None:
    descriptors = [*(s.fileno() for s in post.sockets), *post.descriptors]
    if descriptors:
        socket.send_fds(control, [post.data], descriptors)
    else:
        control.send(post.data)


def _discard(post: _Post) -> None:
    """Our copies of what was, or will not be, passed on."""
    for passed in post.sockets:
        passed.close()
    for descriptor in post.descriptors:
        os.close(descriptor)
