"""Server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, TypeVar

from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from rlm_ray.serve.http.middleware import RUN_HEADER

T = TypeVar("T")

KEEP_ALIVE = ": keep-alive\n\n"
DONE = "data: [DONE]\n\n"
_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}


def event(data: BaseModel | dict[str, Any] | str, name: str = "", ident: int | None = None) -> str:
    """One event; a text is sent as it is, and must be one line."""
    match data:
        case BaseModel():
            line = data.model_dump_json(exclude_unset=True)
        case str():
            line = data
        case _:
            line = json.dumps(data)
    head = (f"id: {ident}\n" if ident is not None else "") + (f"event: {name}\n" if name else "")
    return f"{head}data: {line}\n\n"


def sse_response(parts: AsyncIterator[str], run_id: str) -> StreamingResponse:
    return StreamingResponse(parts, media_type="text/event-stream", headers=_HEADERS | {RUN_HEADER: run_id})


async def with_heartbeats(items: AsyncIterator[T], every_s: float) -> AsyncGenerator[T | None]:
    """The items as they come, and None whenever there was none for so long."""
    following = aiter(items)
    while True:
        step = asyncio.ensure_future(anext(following, _END))
        try:
            while not (await asyncio.wait([step], timeout=every_s))[0]:
                yield None
        finally:
            if not step.done():
                step.cancel()
        item = step.result()
        if item is _END:
            return
        yield item  # type: ignore[misc]  # anything but the mark of the end


_END = object()
