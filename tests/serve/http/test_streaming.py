"""Server-sent events, and progress in words."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from rlm_ray.core.answer_preview import AnswerDelta, AnswerRestarted
from rlm_ray.core.context import InputSummary
from rlm_ray.events.records import CellEnded, MapEnded, MapOpened, RunFinished, SessionOpened
from rlm_ray.serve.http import streaming
from rlm_ray.serve.http.response_objects import ResponseStream
from rlm_ray.serve.http.routers.chat import ChatRequest, ChatStream
from rlm_ray.serve.http.streaming import SentAnswer, format_progress
from rlm_ray.serve.run_store import StoredRequest

EVENT_TYPE = TypeAdapter(ResponseStreamEvent)


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
    assert "".join(SentAnswer().rest(answer) or []) == answer


def chat_stream() -> ChatStream:
    messages = [{"role": "user", "content": "hi"}]
    return ChatStream("1", ChatRequest.model_validate({"model": "m", "messages": messages, "stream": True}))


def content_of(events: str) -> str:
    chunks = [json.loads(line[6:]) for line in events.splitlines() if line.startswith("data: {")]
    return "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)


DELTAS = {
    "none": [],
    "a part": [AnswerDelta("The "), AnswerDelta("answer")],
    "all": [AnswerDelta("The answer is 4.")],
    "begun anew with the same": [AnswerDelta("The ans"), AnswerRestarted(), AnswerDelta("The answer is")],
    "begun anew and not as far": [AnswerDelta("The answer is"), AnswerRestarted(), AnswerDelta("The")],
}


@pytest.mark.parametrize("name", DELTAS)
@pytest.mark.parametrize("together", [True, False])
def test_a_chat_has_its_answer_once_however_much_came_before_its_end(name: str, together: bool):
    stream, deltas = chat_stream(), DELTAS[name]
    batches = [deltas] if together else [[delta] for delta in deltas]
    before = "".join(content_of(stream.answer(batch)) for batch in batches)
    assert bool(before) == bool(deltas)
    ending = stream.ending(RunFinished(1.0, "answered", answer="The answer is 4."))
    assert before + content_of(ending) == "The answer is 4."
    assert ending.endswith(streaming.DONE)


def response_stream() -> ResponseStream:
    return ResponseStream(StoredRequest("1", "ann", "response", "m", 0.0, "q", {}, {}))


def events_of(stream: str) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in stream.splitlines() if line.startswith("data: {")]


@pytest.mark.parametrize("name", DELTAS)
@pytest.mark.parametrize("together", [True, False])
def test_a_streamed_response_has_each_part_once_and_in_order_however_much_came_before_its_end(
    name: str, together: bool
):
    stream, deltas = response_stream(), DELTAS[name]
    batches = [deltas] if together else [[delta] for delta in deltas]
    text = stream.opening() + stream.progress("Reading 5 characters.\n")
    before = "".join(map(stream.answer, batches))
    assert bool(before) == bool(deltas)
    late = stream.progress("It goes on.\n")
    assert bool(late) != bool(deltas)  # nothing is reasoned behind the end of the reasoning
    text += before + late + stream.ending(RunFinished(1.0, "answered", answer="The answer is 4."))
    events = [EVENT_TYPE.validate_python(event) for event in events_of(text)]
    kinds = [event.type.removeprefix("response.") for event in events if not event.type.endswith("delta")]
    assert kinds == [
        "created", "in_progress", "output_item.added", "reasoning_summary_part.added",
        "reasoning_summary_text.done", "reasoning_summary_part.done", "output_item.done",
        "output_item.added", "content_part.added", "output_text.done", "content_part.done", "output_item.done",
        "completed",
    ]  # fmt: skip
    sent = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(sent) == "The answer is 4."
    assert events[-1].response.output_text == "The answer is 4."
    assert [event.sequence_number for event in events] == list(range(len(events)))


def test_a_response_that_was_sent_another_answer_fails():
    stream = response_stream()
    stream.answer([AnswerDelta("The answer is 5")])
    (event,) = events_of(stream.ending(RunFinished(1.0, "answered", answer="The answer is 4.")))
    assert (event["type"], event["response"]["status"]) == ("response.failed", "failed")
    assert event["response"]["error"]["code"] == "answer_restarted"
    assert event["response"]["output"] == []


def test_a_response_that_fails_while_its_answer_is_written_ends_once():
    stream = response_stream()
    stream.answer([AnswerDelta("The answer")])
    (event,) = events_of(stream.ending(RunFinished(1.0, "error", "no", error_kind="ModelError")))
    assert event["type"] == "response.failed"


def test_a_chat_that_was_sent_another_answer_ends_with_an_error():
    stream = chat_stream()
    stream.answer([AnswerDelta("The answer is 5")])
    ending = stream.ending(RunFinished(1.0, "answered", answer="The answer is 4."))
    assert json.loads(ending.removeprefix("data: "))["error"]["code"] == "answer_restarted"


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
