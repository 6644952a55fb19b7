"""Server-sent events, and progress in words."""

from __future__ import annotations

import asyncio
import json

import pytest

from rlm_ray.core.context import InputSummary
from rlm_ray.events.records import CellEnded, MapEnded, MapOpened, SessionOpened
from rlm_ray.serve.http import streaming
from rlm_ray.serve.http.streaming import chunk_text, format_progress


async def test_a_pause_is_reported_and_nothing_lost():
    gate = asyncio.Event()

    async def items():
        yield 1
        await gate.wait()
        yield 2

    seen = []
    async for item in streaming.with_heartbeats(items(), 0.005):
        seen.append(item)
        if seen.count(None) == 2:
            gate.set()
    assert seen[0] == 1
    assert seen[-1] == 2
    assert None in seen


async def test_closing_a_stream_closes_what_it_reads():
    closed = asyncio.Event()

    async def items():
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            closed.set()

    stream = streaming.with_heartbeats(items(), 10)
    assert await anext(stream) == 1
    waiting = asyncio.create_task(anext(stream))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await asyncio.wait_for(closed.wait(), 1)


def test_an_event_is_one_line_whatever_it_holds():
    text = streaming.event({"text": "a\nb\r\u2028c"}, "delta", 3)
    assert text.startswith("id: 3\nevent: delta\ndata: ")
    assert text.endswith("\n\n")
    assert len(text.splitlines()) == 4
    assert json.loads(text.split("data: ")[1])["text"] == "a\nb\r\u2028c"


@pytest.mark.parametrize("answer", ["", "x", "long " * 1000])
def test_the_pieces_of_an_answer_are_the_answer(answer):
    assert "".join(chunk_text(answer)) == answer


@pytest.mark.parametrize(
    ("record", "line"),
    [
        (SessionOpened(1.0, (), "q", InputSummary(chars=5000), "m", "a"), "Reading 5,000 characters.\n"),
        (
            SessionOpened(1.0, (), "q", InputSummary(), "m", "a", 2),
            "Its process was lost; it goes on from its record.\n",
        ),
        (SessionOpened(1.0, (1,), "q", InputSummary(), "m", "a"), ""),
        (MapOpened(1.0, (), 2, 0, 1, 0), "turn 2: asks 1 sub-call\n"),
        (MapEnded(1.0, (4,), 0, 1000, 2), "sub-call 5: 1,000 answered, 2 failed\n"),
        (MapOpened(1.0, (4, 5), 2, 0, 1, 0), ""),
        (
            CellEnded(1.0, (), 1, 0.5, error="Traceback\nValueError: no"),
            "turn 1: its code failed: ValueError: no\n",
        ),
        (CellEnded(1.0, (), 1, 0.5, killed="too long"), "turn 1: its code was stopped (too long)\n"),
        (CellEnded(1.0, (), 1, 0.5, final="x"), "turn 1: has an answer\n"),
        (CellEnded(1.0, (), 1, 0.5, error=" "), "turn 1: its code failed: \n"),
    ],
)
def test_progress_is_reported_in_a_line_and_not_below_the_first_children(record, line):
    assert format_progress(record) == line
