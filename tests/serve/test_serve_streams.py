"""Feeds, server-sent events, progress in words, and errors in the shape clients know."""

from __future__ import annotations

import asyncio
import json
import threading

import pytest

from rlm_ray.core.context import InputSummary
from rlm_ray.errors import ClusterError, ConfigError, InputError
from rlm_ray.events.records import CellEnded, MapEnded, MapOpened, RunFinished, RunStarted, SessionOpened
from rlm_ray.runs.stream import RecordBroadcast
from rlm_ray.serve.file_store import PayloadTooLargeError
from rlm_ray.serve.http import streaming
from rlm_ray.serve.http.errors import error_from_exception, error_from_run_end
from rlm_ray.serve.http.routers.chat import ChatRequest
from rlm_ray.serve.http.routers.responses import ResponseRequest
from rlm_ray.serve.http.schemas import FilePart, RunOptions, response_format_instruction
from rlm_ray.serve.http.streaming import chunk_text, format_progress
from rlm_ray.serve.prompt import FileData, FileRef, Text

pytestmark = pytest.mark.slow

RECORD = RunStarted(1.0, "r", "q", {}, InputSummary(), "0")
END = RunFinished(2.0, "answered", answer="x")


async def test_a_feed_gives_everyone_everything_and_the_end_last():
    feed = RecordBroadcast()
    early = asyncio.create_task(collected(feed))
    thread = threading.Thread(target=lambda: [feed.add(RECORD), feed.add(END), feed.add(RECORD)])
    thread.start()
    thread.join()
    await asyncio.sleep(0)
    feed.close(END)
    assert await early == await collected(feed) == [RECORD, RECORD, END]


async def collected(feed):
    return [record async for records in feed.follow() for record in records]


async def test_a_pause_is_told_and_nothing_lost():
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
def test_progress_is_told_in_a_line_and_not_below_the_first_children(record, line):
    assert format_progress(record) == line


@pytest.mark.parametrize(
    ("end", "status", "code"),
    [
        (END, None, None),
        (RunFinished(1.0, "calls", answer="partial"), None, None),
        (RunFinished(1.0, "tokens", "the limit is reached"), 400, "tokens"),
        (RunFinished(1.0, "error", "x", error_kind="ContextWindowError"), 400, "context_length_exceeded"),
        (RunFinished(1.0, "error", "x", error_kind="AuthenticationError"), 502, "model_error"),
        (RunFinished(1.0, "error", "x", error_kind="ActorLostError"), 503, "unavailable"),
        (RunFinished(1.0, "error", "", error_kind="cancelled"), 400, "cancelled"),
        (RunFinished(1.0, "error", "x", error_kind="ZeroDivisionError"), 500, "ZeroDivisionError"),
    ],
)
def test_a_run_without_an_answer_is_an_error_with_a_status(end, status, code):
    refusal = error_from_run_end(end)
    assert (refusal and refusal.status) == status
    assert (refusal and refusal.error.code) == code


@pytest.mark.parametrize(
    ("error", "status", "retry"),
    [
        (InputError("query", "is empty"), 400, None),
        (ConfigError("model", "is none"), 400, None),
        (PayloadTooLargeError("file", "is too large"), 413, None),
        (ClusterError("no run registry"), 503, "5"),
    ],
)
def test_our_errors_have_a_status_and_say_when_to_come_again(error, status, retry):
    reply = error_from_exception(error).reply()
    assert reply.status_code == status
    assert reply.headers.get("retry-after") == retry
    assert set(json.loads(reply.body)["error"]) == {"message", "type", "param", "code"}


def test_files_come_by_id_or_in_base64():
    assert FilePart(file_id="file-1").piece() == FileRef("file-1")
    assert FilePart(file_data="data:text/plain;base64,YQ==", filename="a").piece() == FileData("a", b"a")
    assert FilePart(file_data="YQ==").piece() == FileData("", b"a")
    for wrong in (FilePart(), FilePart(file_data="?")):
        with pytest.raises(InputError):
            wrong.piece()


def test_wishes_are_settings_or_pieces_of_context():
    options = RunOptions(
        context=["a", "b"], file_ids=["file-1"], context_uri="s3://x", max_depth=0, limits={"calls": 3}
    )
    assert options.settings() == {"max_depth": 0, "limits": {"calls": 3}}
    assert [piece.name for piece in options.context_parts()] == ["context 1", "context 2", "file-1", "s3://x"]
    assert RunOptions().context_parts() == []


@pytest.mark.parametrize(
    ("form", "said"),
    [
        (None, ""),
        ({"type": "text"}, ""),
        ({"type": "json_object"}, "one JSON object"),
        ({"type": "json_schema", "json_schema": {"schema": {"title": "T"}}}, "'title': 'T'"),
    ],
)
def test_a_wish_for_json_is_put_into_words(form, said):
    assert said in response_format_instruction(form)
    assert bool(response_format_instruction(form)) == bool(said)


IMAGES = [
    {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
    {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}},
    {"type": "video_url", "video_url": {"url": "https://example.org/x"}},
]
SAID = {"type": "text", "text": "What is this?"}


def chat(*messages):
    return ChatRequest(model="m", messages=list(messages)).parse()


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_of_an_earlier_turn_is_a_placeholder(image):
    wanted = chat(
        {"role": "user", "content": [SAID, image]},
        {"role": "assistant", "content": "A cat."},
        {"role": "user", "content": "And who wrote Faust?"},
    )
    assert wanted.messages[0].pieces == (
        Text("What is this?"),
        Text(f"[{image['type']}: cannot be read here]"),
    )


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_in_the_question_is_refused_with_what_to_do(image):
    with pytest.raises(InputError, match=r"cannot be read here; describe it in words"):
        chat({"role": "user", "content": [SAID, image]})
    with pytest.raises(InputError, match=image["type"]):
        chat({"role": "user", "content": "Hi"}, {"role": "user", "content": [image]}, {"role": "assistant"})


def test_responses_treat_images_alike():
    image = {"type": "input_image", "image_url": "https://example.org/x.png"}
    old = {"role": "user", "content": [{"type": "input_text", "text": "Look"}, image]}
    wanted = ResponseRequest(model="m", input=[old, {"role": "user", "content": "Who?"}]).parse()
    assert wanted.messages[0].pieces[1] == Text("[input_image: cannot be read here]")
    with pytest.raises(InputError, match="input_image"):
        ResponseRequest(model="m", input=[old]).parse()


def test_a_refusal_of_the_assistant_is_a_text():
    wanted = chat(
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
        {"role": "user", "content": "Why?"},
    )
    assert wanted.messages[0].pieces == (Text("No."),)
