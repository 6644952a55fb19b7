"""Awaiting remote calls in a coroutine that may be cancelled: nothing goes on for nobody, nothing that came is lost.

How Ray says that an actor is gone: where its memory monitor killed the process, that is another error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import ray


def _nothing(_: Any) -> None:
    return


async def await_or_cancel(ref: Any, undo: Callable[[Any], None] = _nothing) -> Any:
    """The reply. If the caller is cancelled, so is the call; where that comes too late, undo what it brought."""
    try:
        return await await_or_undo(ref, undo)
    except asyncio.CancelledError:
        ray.cancel(ref)
        raise


async def await_or_undo(ref: Any, undo: Callable[[Any], None]) -> Any:
    """The reply. If the caller is cancelled, the call goes on, and what it brings is undone."""
    reply = asyncio.ensure_future(ref)
    try:
        return await asyncio.shield(reply)
    except asyncio.CancelledError:
        reply.add_done_callback(partial(_undo, undo))
        raise


def _undo(undo: Callable[[Any], None], reply: asyncio.Future[Any]) -> None:
    if not reply.cancelled() and reply.exception() is None:
        undo(reply.result())


ACTOR_DIED_ERRORS = (ray.exceptions.RayActorError, ray.exceptions.OutOfMemoryError)


def first_line(error: Exception) -> str:
    """What Ray says first; pages may follow."""
    return str(error).strip().partition("\n")[0]


def get_object(ref: Any) -> Any:
    """Return what an `ObjectRef` stands for; waits for it."""
    return ray.get(ref)
