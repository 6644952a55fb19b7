"""What a run does, in a line for each step worth telling: the progress that a stream shows.

What a stream says of a run, whichever dialect it speaks.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator

from rlm_ray.events.records import CellEnded, MapEnded, MapOpened, Record, RunFinished, SessionOpened
from rlm_ray.serve.http import sse
from rlm_ray.serve.http.run_service import RunService

MAX_REPORTED_DEPTH = 1
"""Below this depth nothing is told: a tree has too many of them."""


def format_progress(record: Record) -> str:
    """A line with its end; empty where there is nothing to tell."""
    match record:
        case SessionOpened(path=(), attempt=1, input=given):
            return f"Reading {given.chars:,} characters.\n"
        case SessionOpened(path=()):
            return "Its process was lost; it goes on from its record.\n"
        case CellEnded(path=path) if len(path) <= MAX_REPORTED_DEPTH:
            return f"{_place(path)}turn {record.turn}: {_outcome(record)}\n"
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


async def stream_progress(service: RunService, run_id: str) -> AsyncGenerator[str | RunFinished]:
    """Lines about its steps; nothing (an empty text) where it has been quiet for a while; its end last."""
    news = sse.with_heartbeats(service.runs.follow(run_id), service.keep_alive_s)
    async with contextlib.aclosing(news):
        async for records in news:
            if records is None:
                yield ""
                continue
            if text := "".join(map(format_progress, records)):
                yield text
            if isinstance(records[-1], RunFinished):
                yield records[-1]
