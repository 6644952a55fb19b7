"""Calls Ray: from one thread that lives as long as the process, and so that a call whose caller is cancelled is cancelled or undone.

`ACTOR_DIED_ERRORS` are the errors by which Ray says that an actor is gone: its memory monitor has one of its own.

A driver has one thread for each connection, with an event loop (`RayThread`), because Ray keeps two things by thread:
- The kernel kills what Ray starts when the *thread* that started it ends (Ray asks for that, so that nothing outlives
  a crashed driver). A thread of a pool may end at any time; this one does not.
- Task ids are counted by thread, and a thread that has seen `ray.shutdown()` goes on where it was. After a second
  `ray.init()` two threads then make the same ids, and Ray aborts the process. So all we submit comes from one thread,
  and a new connection gets a new one.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

import ray
import ray.cloudpickle
import uvloop

from rlm_ray.core.tools import Tool
from rlm_ray.errors import ClusterError
from rlm_ray.tools.packing import pack_tools

ACTOR_DIED_ERRORS = (ray.exceptions.RayActorError, ray.exceptions.OutOfMemoryError)


def undo_nothing(_: Any) -> None:
    return


async def await_or_cancel(ref: Any, undo: Callable[[Any], None] = undo_nothing) -> Any:
    """Return the reply. If the caller is cancelled, so is the call; where that comes too late, `undo` its reply."""
    try:
        return await await_or_undo(ref, undo)
    except asyncio.CancelledError:
        ray.cancel(ref)
        raise


async def stream_or_cancel(stream: Any) -> AsyncIterator[Any]:
    """Yield what a remote generator yields. If the caller is cancelled, so is the generator."""
    try:
        async for ref in stream:
            yield await ref
    except asyncio.CancelledError:
        ray.cancel(stream)
        raise


async def await_or_undo(ref: Any, undo: Callable[[Any], None]) -> Any:
    """Return the reply. If the caller is cancelled, the call goes on, and its reply is undone."""
    reply = asyncio.ensure_future(ref)
    try:
        return await asyncio.shield(reply)
    except asyncio.CancelledError:
        reply.add_done_callback(partial(_undo, undo))
        raise


def _undo(undo: Callable[[Any], None], reply: asyncio.Future[Any]) -> None:
    if not reply.cancelled() and reply.exception() is None:
        undo(reply.result())


def first_line(error: Exception) -> str:
    """Return the first line of an error of Ray's; pages may follow it."""
    return str(error).strip().partition("\n")[0]


def get_object(ref: Any) -> Any:
    """Wait for an `ObjectRef` and return its object."""
    return ray.get(ref)


def pack_functions(functions: Any) -> tuple[Tool, ...]:
    """Make tools of a user's functions. Raises `ConfigError`."""
    return pack_tools(functions, ray.cloudpickle)


T = TypeVar("T")

END_S = 1.0
"""The longest the end of the process waits for what is under way here."""

_FORKED = (
    "this process was forked from one that had used rlm_ray, and its connection and threads do not survive a fork: "
    'start processes with multiprocessing.get_context("spawn"), or use rlm_ray in the children only'
)

_lock = threading.Lock()
_current: RayThread | None = None


class RayThread:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._loop = (
            uvloop.new_event_loop()
        )  # as the actors have; a call costs less than with the standard one
        self._job: tuple[str, str] | None = None
        self._kept: dict[str, Any] = {}
        threading.Thread(target=self._loop.run_forever, name="rlm_ray", daemon=True).start()
        atexit.register(self._shutdown)

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the thread's loop and return its result; a caller that is cancelled cancels it.

        Raises `ClusterError` in a process that was forked from the one which started the thread.
        """
        if self.pid != os.getpid():
            work.close()
            raise ClusterError(_FORKED)
        if asyncio.get_running_loop() is self._loop:
            return await work
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    def get_or_create(self, name: str, make: Callable[[], T]) -> T:
        """Return the object of this name, made once for this connection."""
        if name not in self._kept:
            self._kept[name] = make()
        kept: T = self._kept[name]
        return kept

    def replace(self, name: str, lost: T, make: Callable[[], T]) -> T:
        """Return a new object in place of one that is lost; made once, whoever else asks."""
        if self._kept.get(name) is lost:
            self._kept[name] = make()
        return self.get_or_create(name, make)

    def bind_connection(self) -> None:
        """Bind this thread to the connection of this moment."""
        self._job = ray_connection_id()

    def _shutdown(self) -> None:
        """Cancel what still waits here when the process ends."""
        if self.pid != os.getpid():
            return
        with contextlib.suppress(TimeoutError, RuntimeError):
            asyncio.run_coroutine_threadsafe(_cancel_others(), self._loop).result(END_S)

    @property
    def is_stale(self) -> bool:
        """Tell whether its connection is over."""
        return self._job is not None and (not ray.is_initialized() or ray_connection_id() != self._job)


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def current_ray_thread() -> RayThread:
    """Return the thread of the present connection, or of the one to come. Raises `ClusterError` in a fork of its process."""
    global _current  # noqa: PLW0603 - one for the process is the point
    if _current is not None and _current.pid != os.getpid():
        raise ClusterError(_FORKED)  # before the lock, which may have been held at the fork
    with _lock:
        if _current is None or _current.is_stale:
            _current = RayThread()
        return _current


def ray_connection_id() -> tuple[str, str]:
    """Names the present connection: a node id is never used again, a job id is."""
    context = ray.get_runtime_context()
    return context.get_node_id(), context.get_job_id()
