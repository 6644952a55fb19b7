"""Server-sent events as providers send them, put together into a completion."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_ray.llm.event_stream import BrokenStreamError, EventStream


def chunk(delta: Any = None, finish: str | None = None, **beside: Any) -> dict[str, Any]:
    return {"id": "x", "choices": [{"index": 0, "delta": delta or {}, "finish_reason": finish}], **beside}


def lines(*chunks: Any, end: str = "\n\n") -> bytes:
    texts = (
        each if isinstance(each, str) else f"data: {json.dumps(each, ensure_ascii=False)}" for each in chunks
    )
    return "".join(text + end for text in texts).encode()


HE, LLO, STOP, DONE = (
    chunk({"content": "hé"}),
    chunk({"content": "llo 🙂"}),
    chunk(finish="stop"),
    "data: [DONE]",
)
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
WHOLE = "héllo 🙂"
STREAMS = {
    "as OpenAI": lines(chunk({"role": "assistant", "content": ""}), HE, LLO, STOP, DONE),
    "CRLF": lines(HE, LLO, STOP, DONE, end="\r\n\r\n"),
    "CR": lines(HE, LLO, STOP, DONE, end="\r\r"),
    "no blank lines": lines(HE, LLO, STOP, DONE, end="\n"),
    "no space": lines(HE, LLO, STOP).replace(b"data: ", b"data:"),
    "a byte order mark": b"\xef\xbb\xbf" + lines(HE, LLO, STOP, DONE),
    "comments": lines(": OPENROUTER PROCESSING", HE, ":", ": ping", LLO, STOP, DONE),
    "pings": lines("event: ping\ndata: {}", HE, 'event: ping\ndata: {"type": "ping"}', LLO, STOP),
    "ids and names": lines(*(f"id: {n}\nevent: message\nretry: 5\ndata: {json.dumps(each)}" for n, each in enumerate((HE, LLO, STOP)))),
    "CRLF and JSON over lines": lines(*("data: " + json.dumps(each, indent=1).replace("\n", "\r\ndata: ") for each in (HE, LLO, STOP)), end="\r\n\r\n"),
    "JSON over lines": lines(*("data: " + json.dumps(each, indent=1).replace("\n", "\ndata: ") for each in (HE, LLO, STOP))),
    "no DONE": lines(HE, LLO, STOP),
    "no end of the last line": lines(HE, LLO, STOP, DONE).rstrip(),
    "DONE alone": lines(HE, LLO, DONE),
    "text behind DONE": lines(HE, LLO, DONE, chunk({"content": "more"}), "data: oops"),
    "empty deltas": lines(chunk({"content": ""}), HE, chunk(), chunk({"content": None}), LLO, chunk({"content": ""}, "stop")),
    "null deltas": lines(HE, {"choices": [{"index": 0, "delta": None}]}, {"choices": [{"index": 0}]}, LLO, STOP),
    "no choices": lines({"choices": [], "prompt_filter_results": [{}]}, HE, {"id": "x", "choices": None}, LLO, STOP),
    "no index": lines({"choices": [{"delta": {"content": "hé"}}]}, LLO, STOP),
    "the reason with the last text": lines(HE, chunk({"content": "llo 🙂"}, "stop")),
    "the whole message at the end": lines(HE, LLO, {"choices": [{"index": 0, "message": {"content": WHOLE}, "finish_reason": "stop"}]}),
    "only a message": lines({"choices": [{"index": 0, "message": {"content": WHOLE}, "finish_reason": "stop"}]}),
    "a message beside an empty delta": lines({"choices": [{"index": 0, "delta": {}, "message": {"content": WHOLE}, "finish_reason": "stop"}]}),
    "another choice": lines(HE, {"choices": [{"index": 1, "delta": {"content": "other"}}]}, LLO, STOP),
    "padding": lines({**HE, "obfuscation": "abc"}, {**LLO, "p": "xy"}, STOP),
    "half surrogate pairs": lines(HE, *(f'data: {{"choices":[{{"delta":{{"content":"{each}"}}}}]}}' for each in ("llo \\ud83d", "\\ude42")), STOP),
    "content as parts": lines(chunk({"content": [{"type": "text", "text": "hé"}]}), chunk({"content": [{"type": "text", "text": "llo 🙂"}]}), STOP),
    "log probabilities": lines({"choices": [{"delta": {"content": WHOLE}, "logprobs": {"content": [{}]}, "finish_reason": "stop"}]}),
}  # fmt: skip


def read(data: bytes, size: int) -> tuple[dict[str, Any], str]:
    heard: list[str] = []
    stream = EventStream(heard.append)
    for at in range(0, len(data), size):
        stream.feed(data[at : at + size])
    return json.loads(stream.completion()), "".join(heard)


@pytest.mark.parametrize("size", [1, 7, 1_000_000])
@pytest.mark.parametrize("name", STREAMS)
def test_a_text_is_heard_and_read_whole_however_it_is_sent(name: str, size: int):
    body, heard = read(STREAMS[name], size)
    content = body["choices"][0]["message"]["content"]
    text = content if isinstance(content, str) else "".join(part["text"] for part in content)
    assert text == heard == WHOLE
    assert "logprobs" not in body["choices"][0]


COUNTED = {
    "at the end": lines(HE, STOP, {"choices": [], "usage": USAGE}, DONE),
    "with the last chunk": lines(HE, {**STOP, "usage": USAGE}, DONE),
    "in each chunk": lines(
        {**HE, "usage": {"prompt_tokens": 3, "completion_tokens": 1}}, {**STOP, "usage": USAGE}
    ),
    "null before": lines(
        {**HE, "usage": None}, {**STOP, "usage": None}, {"choices": [], "usage": USAGE}, DONE
    ),
    "empty behind": lines(HE, {**STOP, "usage": USAGE}, {"choices": [], "usage": {}}, DONE),
    "of Groq": lines(HE, {**STOP, "x_groq": {"id": "r", "usage": USAGE}}, DONE),
}


@pytest.mark.parametrize("name", COUNTED)
def test_the_last_usage_counts(name: str):
    assert read(COUNTED[name], 11)[0]["usage"] == USAGE


def test_what_the_first_chunk_leaves_empty_a_later_one_says():
    of_azure = {
        "id": "",
        "model": "",
        "created": 0,
        "object": "",
        "choices": [],
        "prompt_filter_results": [{}],
    }
    body, _ = read(
        lines(
            of_azure,
            chunk({"role": "assistant"}, model="gpt", created=5),
            chunk({"role": "", **HE["choices"][0]["delta"]}),
            STOP,
            chunk(finish=""),
        ),
        9,
    )
    assert (body["id"], body["model"], body["created"], body["object"]) == ("x", "gpt", 5, "chat.completion")
    choice = body["choices"][0]
    assert (choice["message"], choice["finish_reason"]) == ({"role": "assistant", "content": "hé"}, "stop")


def tool_call(name: str, call_id: str, arguments: str, **index: Any) -> dict[str, Any]:
    return chunk(
        {"tool_calls": [{**index, "id": call_id, "function": {"name": name, "arguments": arguments}}]}
    )


CALLS = {
    "each at its index": [tool_call("f", "a", "{}", index=0), tool_call("g", "b", "[]", index=1)],
    "each at index 0": [tool_call("f", "a", "{}", index=0), tool_call("g", "b", "[]", index=0)],
    "without an index": [tool_call("f", "a", "{}"), tool_call("g", "b", "[]")],
    "at no index": [tool_call("f", "a", "{}", index=None), tool_call("g", "b", "[]", index=None)],
    "an id for each piece": [tool_call("f", "a", "{", index=0), tool_call("", "c", "}", index=0), tool_call("g", "b", "[]", index=1)],
    "an id in each piece": [tool_call("f", "a", "{", index=0), tool_call("f", "a", "}", index=0), tool_call("g", "b", "[]", index=0)],
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_calls_of_tools_stay_apart_however_they_are_counted(name: str):
    body, _ = read(lines(*CALLS[name], chunk(finish="tool_calls")), 8)
    functions = [call["function"] for call in body["choices"][0]["message"]["tool_calls"]]
    assert functions == [{"name": "f", "arguments": "{}"}, {"name": "g", "arguments": "[]"}]


ODD_DELTAS = [
    {name: value}
    for name in ("role", "content", "reasoning", "reasoning_details", "annotations", "tool_calls", "function_call", "refusal", "audio")
    for value in (1, True, "a", ["a"], {"a": 1}, [{"index": {}, "id": 1.5, "function": {"name": [], "arguments": 5}}], {"name": 5, "arguments": [1]})
]  # fmt: skip
ODD_CHOICES = [
    {"content_filter_results": "a"},
    {"content_filter_results": {"a": 1}},
    {"content_filter_results": {"a": {"filtered": []}}},
    {"index": [1]},
]


@given(st.lists(st.one_of(st.sampled_from(ODD_DELTAS).map(chunk), st.sampled_from(ODD_CHOICES).map(lambda odd: {"choices": [odd]})), max_size=6), st.integers(1, 40))  # fmt: skip
def test_fields_of_another_kind_in_each_chunk_are_read_the_same_however_they_are_cut(chunks, size):
    data = lines(*chunks, STOP)
    assert read(data, size) == read(data, len(data))


HALVES = {
    "of arguments": [tool_call("f", "a", "\ud83d", index=0), chunk({"tool_calls": [{"index": 0, "function": {"arguments": "\ude42"}}]})],
    "of thoughts": [chunk({"reasoning": "\ud83d"}), chunk({"reasoning": "\ude42"})],
    "of a refusal": [chunk({"refusal": "\ud83d"}), chunk({"refusal": "\ude42"})],
}  # fmt: skip


@pytest.mark.parametrize("name", HALVES)
def test_halves_of_a_character_are_one_wherever_they_stand(name: str):
    data = b"".join(f"data: {json.dumps(each)}\n\n".encode() for each in [*HALVES[name], STOP])
    message = json.dumps(read(data, 10)[0]["choices"][0]["message"], ensure_ascii=False)
    assert "🙂" in message


@pytest.mark.parametrize(
    "sent",
    [{"error": {"message": "bad \ud83d"}}, chunk({"content": "\ud83d"}), chunk(model="\ud83d"), chunk({"content": [{"text": "\ud83d"}]})],
)  # fmt: skip
def test_half_a_character_alone_loses_no_reply(sent: dict[str, Any]):
    assert "�" in json.dumps(
        read(f"data: {json.dumps(sent)}\n\n".encode() + lines(STOP), 10)[0], ensure_ascii=False
    )


def test_what_a_provider_says_beside_the_text_is_put_together():
    call = {"index": 0, "id": "1", "type": "function", "function": {"name": "python", "arguments": '{"co'}}
    body, heard = read(
        lines(
            chunk({"reasoning_content": "h", "reasoning": "h"}, model="m", provider="Azure", created=5),
            chunk({"reasoning_content": "m", "reasoning": "m"}, model="n"),
            chunk({"reasoning_details": [{"text": "a"}]}), chunk({"reasoning_details": [{"text": "b"}]}),
            chunk({"refusal": "I can"}), chunk({"refusal": "not"}),
            chunk({"tool_calls": [call]}), chunk({"tool_calls": [{"index": 0, "function": {"arguments": 'de": 1}'}}]}),
            {"choices": [{"delta": {}, "content_filter_results": {"hate": {"filtered": True}}}]},
            {"choices": [{"delta": {}, "finish_reason": "stop", "native_finish_reason": "STOP", "content_filter_results": {"hate": {"filtered": False}}}]},
        ),
        5,
    )  # fmt: skip
    choice = body["choices"][0]
    said = choice["message"]
    assert (body["model"], body["provider"], body["created"], heard) == ("m", "Azure", 5, "")
    assert (said["reasoning_content"], said["reasoning"], said["refusal"], said["content"]) == (
        "hm",
        "hm",
        "I cannot",
        None,
    )
    assert said["reasoning_details"] == [{"text": "a"}, {"text": "b"}]
    assert said["tool_calls"][0]["function"] == {"name": "python", "arguments": '{"code": 1}'}
    assert choice["content_filter_results"] == {"hate": {"filtered": True}}
    assert (choice["finish_reason"], choice["native_finish_reason"]) == ("stop", "STOP")


def test_thinking_in_parts_is_one_part():
    thinking = [
        chunk({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": text}]}]})
        for text in "ab"
    ]
    body, heard = read(lines(*thinking, HE, STOP), 9)
    assert heard == "hé"
    assert body["choices"][0]["message"]["content"] == [
        {"type": "thinking", "thinking": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"type": "text", "text": "hé"},
    ]


ERRORS = {
    "OpenAI's": ({"error": {"code": 429, "message": "busy"}}, {"code": 429, "message": "busy"}),
    "by its event, with CRLF": ('event: error\r\ndata: {"message": "busy"}\r\n', {"message": "busy"}),
    "by its event": ('event: error\ndata: {"message": "busy"}', {"message": "busy"}),
    "an older llama.cpp's": ('error: {"code": 503, "message": "busy"}', {"code": 503, "message": "busy"}),
    "a text": ({"error": "busy"}, "busy"),
    "an object": ({"object": "error", "message": "busy"}, {"object": "error", "message": "busy"}),
    "a message": ({"message": "busy", "code": 503}, {"message": "busy", "code": 503}),
}


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_in_a_stream_stands_beside_what_came(name: str):
    sent, error = ERRORS[name]
    for size in (1, 13):
        body, heard = read(lines(HE, sent, LLO, STOP), size)
        assert (body["error"], heard, len(body["choices"])) == (error, "hé", 1)


@pytest.mark.parametrize("data", [b"", lines(HE, LLO), lines(": ping"), lines({"choices": []})])
def test_a_stream_that_ends_too_soon_has_broken_off(data: bytes):
    with pytest.raises(BrokenStreamError):
        read(data, 10)


@pytest.mark.parametrize("data", ["{oops", "5", "[]", "null", "<html>", "{"])
def test_what_is_no_chunk_is_left_as_it_stands(data: str):
    stream = EventStream(lambda _: None)
    stream.feed(lines(HE, f"data: {data}", LLO, STOP, DONE))
    assert stream.completion() == data.encode()
