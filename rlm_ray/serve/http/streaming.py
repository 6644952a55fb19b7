"""Streams of runs as server-sent events: the events, what a run does in a line for each step worth telling, and the one
loop that chat completions and responses share; a `StreamFormat` turns what comes into the events of its API.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any, Protocol, TypeVar

from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from rlm_ray.core.answer_preview import AnswerDelta, AnswerNews, AnswerRestarted
from rlm_ray.events.records import (
    CellEnded,
    MapEnded,
    MapOpened,
    Record,
    RunFinished,
    SessionOpened,
    ToolEnded,
)
from rlm_ray.serve.http.middleware import RUN_HEADER
from rlm_ray.serve.http.run_service import RunService

T = TypeVar("T")

KEEP_ALIVE = ": keep-alive\n\n"
DONE = "data: [DONE]\n\n"
_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}


def event(data: BaseModel | dict[str, Any] | str, name: str = "", ident: int | None = None) -> str:
    """Write one event; a text is sent as it is, and must be one line."""
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
    """Yield the items as they come, and None whenever there was none for so long."""
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


ANSWER_CHARS = 400
"""The most of an answer in one chunk."""
MAX_REPORTED_DEPTH = 1
"""Below this depth nothing is told: a tree has too many of them."""


def format_progress(record: Record) -> str:  # noqa: PLR0911 - one for each kind
    """Return a line with its end; empty where there is nothing to tell."""
    match record:
        case SessionOpened(path=(), attempt=1, input=given):
            return f"Reading {given.chars:,} characters.\n"
        case SessionOpened(path=()):
            return "Its process was lost; it goes on from its record.\n"
        case CellEnded(path=path) if len(path) <= MAX_REPORTED_DEPTH:
            return f"{_place(path)}turn {record.turn}: {_outcome(record)}\n"
        case ToolEnded(path=path, name=name) if len(path) <= MAX_REPORTED_DEPTH:
            failed = ", which failed" if record.error_kind else ""
            return f"{_place(path)}turn {record.turn}: called the tool {name}{failed}\n"
        case MapOpened(path=path) if len(path) <= MAX_REPORTED_DEPTH:
            return f"{_place(path)}turn {record.turn}: asks {_calls(record.count)}\n"
        case MapEnded(path=path) if len(path) <= MAX_REPORTED_DEPTH:
            failed = f", {record.failed:,} failed" if record.failed else ""
            return f"{_place(path)}{record.answered:,} answered{failed}\n"
    return ""


def _place(path: tuple[int, ...]) -> str:
    return "".join(f"sub-call {ordinal + 1}: " for ordinal in path)


def _outcome(cell: CellEnded) -> str:
    if cell.killed:
        return f"its code was stopped ({cell.killed})"
    if cell.error:
        return f"its code failed: {''.join(cell.error.strip().splitlines()[-1:])}"
    if cell.final is not None:
        return "has an answer"
    return (
        f"ran {len(cell.code.splitlines()):,} lines of code, which printed {cell.output_chars:,} characters"
    )


def _calls(count: int) -> str:
    return f"{count:,} sub-call" + ("" if count == 1 else "s")


class StreamFormat(Protocol):
    """Writes the events of one API."""

    def opening(self) -> str:
        """Return the events that come at once, before anything of the run is known."""

    def progress(self, text: str) -> str:
        """Return the events for lines about the steps of the run."""

    def answer(self, news: Sequence[AnswerNews]) -> str:
        """Return the events for what the model has written of the answer meanwhile."""

    def ending(self, end: RunFinished) -> str:
        """Return all events left: the answer, or why there is none."""


class SentAnswer:
    """What a client has of an answer that is still being written, and which no stream can take back."""

    RESTARTED = "the model's answer broke off and began anew with other words, and a stream cannot take back what it has sent; ask again"

    def __init__(self) -> None:
        self._sent = self._written = ""
        """What the client has, and what the model has written."""

    def take(self, news: Sequence[AnswerNews]) -> str:
        """Return what is to be sent of the news; empty where it is as it was, or begun anew and not yet as far."""
        for each in news:
            self._written = self._written + each.text if isinstance(each, AnswerDelta) else ""
        if not self._written.startswith(self._sent):
            return ""
        more = self._written[len(self._sent) :]
        self._sent = self._written
        return more

    def rest(self, answer: str) -> list[str] | None:
        """Return what is left to send of the answer, cut into chunks; None where the client has other words."""
        if not answer.startswith(self._sent):
            return None
        return [
            answer[start : start + ANSWER_CHARS]
            for start in range(len(self._sent), len(answer), ANSWER_CHARS)
        ]


async def stream_run(service: RunService, run_id: str, form: StreamFormat) -> AsyncGenerator[str]:
    """Yield the events of a run from its opening to its end; a comment where it has been quiet for a while.

    The run is cancelled when its last client stops reading.
    """
    async with service.runs.client_attached(run_id):
        yield form.opening()
        batches = with_heartbeats(service.runs.follow(run_id), service.keep_alive_s)
        async with contextlib.aclosing(batches):
            async for records in batches:
                if records is None:
                    yield KEEP_ALIVE
                    continue
                known = [
                    record for record in records if not isinstance(record, AnswerDelta | AnswerRestarted)
                ]
                if text := "".join(map(format_progress, known)):
                    yield form.progress(text)
                if written := form.answer(
                    [news for news in records if isinstance(news, AnswerDelta | AnswerRestarted)]
                ):
                    yield written
                last = records[-1]
    assert isinstance(last, RunFinished)
    # in one piece: all is known, and each part alone would pass through three processes
    yield form.ending(last)
