"""Awaits remote calls in a coroutine that may be cancelled: a cancelled call is cancelled or undone.

`ACTOR_DIED_ERRORS` are the errors by which Ray says that an actor is gone: its memory monitor has one of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import ray
import ray.cloudpickle

from rlm_ray.core.tools import Tool
from rlm_ray.tools.packing import pack_tools

ACTOR_DIED_ERRORS = (ray.exceptions.RayActorError, ray.exceptions.OutOfMemoryError)


def _nothing(_: Any) -> None:
    return


async def await_or_cancel(ref: Any, undo: Callable[[Any], None] = _nothing) -> Any:
    """Return the reply. If the caller is cancelled, so is the call; where that comes too late, `undo` its reply."""
    try:
        return await await_or_undo(ref, undo)
    except asyncio.CancelledError:
        ray.cancel(ref)
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
