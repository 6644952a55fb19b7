"""The process that forks REPLs: exec-ed with an empty environment, it never held a key.

It listens on one socket, whose messages are JSON, one a packet, with file descriptors beside:

    {"op": "fork", "id", "memory", "landlock", "filtered"} + [channel]   a jailed child
    {"op": "branch", "id"} + [control, memory file]   a zygote that holds one large context
    {"op": "kill", "id"}
    {"op": "idle", "id"} and {"op": "busy", "id"}   its cell has ended, its next one begins
    and answers {"exited": id, "status": wait status}

A child that uses processor time although no cell of its runs is killed, and reported as ended by SIGXCPU: whatever
goes on in it, a thread or the handler of a signal, is no cell's, and no limit of a cell ends it.

It kills only children it has not reaped, so no process id is ever used again by mistake. When its
socket ends, so do its children and it: an actor that dies leaves nothing behind.
"""

from __future__ import annotations

import array
import contextlib
import gc
import itertools
import json
import mmap
import os
import resource
import select
import signal
import socket
import struct
import sys
import time
import types
from typing import Any, NoReturn

from rlm_ray.core.context import Document
from rlm_ray.sandbox import jail
from rlm_ray.sandbox.guest import child
from rlm_ray.sandbox.guest.cell_language import CellLanguage
from rlm_ray.sandbox.guest.context_parts import Content, ContextReferences, parts_of
from rlm_ray.sandbox.language import copies, guards

CONTEXT_FILE_HEADER = struct.Struct("<QQQ")
"""Head of a context's memory file: the bytes of its ids (JSON), of its offsets, of its text."""

_PACKET_BYTES = 4_096

IDLE_CPU_S = 1.0
"""Processor time of a child between two cells; an honest one needs next to none."""
_LOOK_MS = 1_000
"""So often is looked at children that are idle."""


class Zygote:
    """Serves one control socket until it ends."""

    def __init__(
        self, control: socket.socket, language: CellLanguage, parts: ContextReferences | None = None
    ) -> None:
        self._control, self._language = control, language
        self._parts = parts
        self._children: dict[int, int] = {}
        """Process id → the host's number."""
        self._idle: dict[int, float] = {}
        """Process id → the processor time it had used when its cell ended."""
        self._overrun: set[int] = set()
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def serve(self) -> NoReturn:
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _ignore)
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._wake_read, select.POLLIN)
        while True:
            ready = dict(poll.poll(_LOOK_MS if self._idle else None))
            if self._wake_read in ready:
                self._reap()
            if self._control.fileno() not in ready:
                self._stop_busy_idlers()  # only when nobody's next cell may be in the socket
            elif not self._read_command():
                self._shutdown()

    def _read_command(self) -> bool:
        """Carry out one message; False at the end of the socket."""
        packet, descriptors, _, _ = socket.recv_fds(self._control, _PACKET_BYTES, 2)
        if not packet:
            return False
        try:
            self._dispatch(json.loads(packet), descriptors)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        return True

    def _dispatch(self, order: dict[str, Any], descriptors: list[int]) -> None:
        match order["op"]:
            case "fork":
                self._fork(order, lambda: self._run_repl(order, descriptors[0]))
            case "branch":
                self._fork(order, lambda: self._run_context_zygote(descriptors[0], descriptors[1]))
            case "kill":
                self._kill(order["id"])
            case "idle":
                for pid in self._pids(order["id"]):
                    self._idle[pid] = _cpu_s(pid)
            case "busy":
                for pid in self._pids(order["id"]):
                    self._idle.pop(pid, None)

    def _fork(self, order: dict[str, Any], become: Any) -> None:
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError:
            self._report(order["id"], -1)
            return
        if pid:
            self._children[pid] = order["id"]
            return
        # Nothing may climb back up this stack: it is the zygote's.
        try:
            jail.die_with_parent(parent)
            self._reset_after_fork()
            become()
        finally:
            os._exit(1)

    def _reset_after_fork(self) -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._children.clear()
        self._idle.clear()

    def _run_repl(self, order: dict[str, Any], channel: int) -> NoReturn:
        limits = jail.JailLimits(order["memory"], order["landlock"])
        language = self._language if order["filtered"] else CellLanguage(filtered=False)
        child.run_child(channel, limits, self._parts, language)

    def _run_context_zygote(self, control: int, memory_file: int) -> NoReturn:
        os.dup2(control, 3, inheritable=False)
        os.dup2(memory_file, 4, inheritable=False)
        jail.close_from(5)
        parts = parts_of(_read_memory_file(4))
        os.close(4)
        gc.freeze()
        Zygote(socket.socket(fileno=3), self._language, parts).serve()

    def _kill(self, number: int) -> None:
        for pid in self._pids(number):
            os.kill(pid, signal.SIGKILL)

    def _pids(self, number: int) -> list[int]:
        return [pid for pid, owner in self._children.items() if owner == number]

    def _stop_busy_idlers(self) -> None:
        for pid, before in list(self._idle.items()):
            if _cpu_s(pid) - before > IDLE_CPU_S:  # not reaped yet, so it is still itself
                del self._idle[pid]
                self._overrun.add(pid)
                os.kill(pid, signal.SIGKILL)

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, _PACKET_BYTES)
        while (gone := _wait(os.WNOHANG)) is not None:
            pid, status = gone
            self._idle.pop(pid, None)
            if pid in self._overrun:
                self._overrun.discard(pid)
                status = signal.SIGXCPU
            if pid in self._children:
                self._report(self._children.pop(pid), status)

    def _report(self, number: int, status: int) -> None:
        try:
            self._control.send(json.dumps({"exited": number, "status": status}).encode())
        except OSError:
            self._shutdown()

    def _shutdown(self) -> NoReturn:
        """Kill and reap all, also the grandchildren a branch leaves behind."""
        for pid in self._children:
            os.kill(pid, signal.SIGKILL)
        while _wait(0) is not None:
            pass
        os._exit(0)


def _wait(options: int) -> tuple[int, int] | None:
    try:
        pid, status = os.waitpid(-1, options)
    except ChildProcessError:
        return None
    return (pid, status) if pid else None


def _cpu_s(pid: int) -> float:
    """Return the processor time of another process, which is not reaped yet: the clock `clock_getcpuclockid` names."""
    return time.clock_gettime((~pid << 3) | 2)


def _ignore(*_: object) -> None:
    """Do nothing: the wake-up descriptor has already woken the loop."""


def _read_memory_file(descriptor: int) -> Content:
    with mmap.mmap(descriptor, 0, prot=mmap.PROT_READ) as mapped, memoryview(mapped) as view:
        id_bytes, offset_bytes, text_bytes = CONTEXT_FILE_HEADER.unpack_from(view)
        ids_at = CONTEXT_FILE_HEADER.size
        offsets_at = ids_at + id_bytes
        text_at = offsets_at + offset_bytes
        ids = json.loads(bytes(view[ids_at:offsets_at])) if id_bytes else None
        offsets = array.array("q", bytes(view[offsets_at:text_at])) if offset_bytes else None
        with view[text_at : text_at + text_bytes] as data:
            return _content(data, offsets, ids)


def _content(data: memoryview, offsets: array.array[int] | None, ids: list[str] | None) -> Content:
    if offsets is None:
        return str(data, "utf-8", "replace")
    texts = [str(data[a:b], "utf-8", "replace") for a, b in itertools.pairwise(offsets)]
    if ids is None:
        documents: list[Document] = list(texts)
        return documents
    return [{"id": name, "text": text} for name, text in zip(ids, texts, strict=True)]


def main(control: int) -> NoReturn:
    """Serve as the process that the host execs, with the control socket's descriptor."""
    jail.prctl(jail.PR_SET_CHILD_SUBREAPER, 1)
    _raise_descriptor_limit()
    # Masks and ignored signals outlive an exec: whatever the actor had, a REPL starts clean.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for each in (signal.SIGALRM, signal.SIGPROF, signal.SIGVTALRM):
        signal.signal(each, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Dataclasses execute code in the namespace of `sys.modules["__main__"]`: give them an empty one.
    sys.modules["__main__"] = types.ModuleType("__main__")
    # Here and not in each child: what is written before the fork is memory that all of them share.
    copies.install()
    guards.install()
    language = CellLanguage()
    gc.disable()
    gc.freeze()
    os.dup2(0, 2)  # from here on nobody reads what is written there
    channel = socket.socket(fileno=control)
    channel.send(b'{"started": true}')
    Zygote(channel, language).serve()


def _raise_descriptor_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
