"""Which answers are read without litellm, and as what."""

from __future__ import annotations

import gzip
import json

import pytest

from rlm_ray.core.llm import ModelReply, Usage
from rlm_ray.llm.http_client import HttpAnswer
from rlm_ray.llm.openai_reply import read_usual_reply

JSON = {"content-type": "application/json"}
USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}


def body(message=None, choice=None, usage=USAGE, **beside):
    said = {"role": "assistant", "content": "hi", **(message or {})}
    chosen = {"index": 0, "message": said, "finish_reason": "stop", **(choice or {})}
    return {"id": "x", "model": "m", "created": 0, "choices": [chosen], "usage": usage, **beside}


def read(sent, status=200, **headers):
    content = sent if isinstance(sent, bytes) else json.dumps(sent).encode()
    return read_usual_reply(HttpAnswer(status, {**JSON, **headers}, content))


HI = {"usage": Usage(10, 5), "model": "m", "id": "x"}


@pytest.mark.parametrize(
    ("sent", "reply"),
    [
        (body(), ModelReply("hi", **HI)), (body({"content": None}), ModelReply("", **HI)), (body({"content": "<think>a</think>b"}), ModelReply("<think>a</think>b", **HI)), (body(choice={"finish_reason": "length"}), ModelReply("hi", "length", **HI)),
        (body(choice={"finish_reason": None}), ModelReply("hi", **HI)), (body(choice={"native_finish_reason": "MAX_TOKENS"}), ModelReply("hi", "MAX_TOKENS", **HI)), (body(choice={"content_filter_results": {"hate": {"filtered": True}}}), ModelReply("hi", "content_filter", **HI)),
        (body({"reasoning_content": "a", "reasoning": "b"}), ModelReply("hi", reasoning="a", **HI)), (body({"reasoning": "b"}), ModelReply("hi", reasoning="b", **HI)), (body({"reasoning_details": [{"text": "c"}]}), ModelReply("hi", reasoning="c", **HI)),
        (body({"content": None, "refusal": "no"}), ModelReply("", refusal="no", **HI)), (body({"refusal": None}), ModelReply("hi", **HI)),
        (body(model="m" * 300, id=None), ModelReply("hi", usage=Usage(10, 5), model="m" * 200)),
    ],
)  # fmt: skip
def test_usual_answer_is_read_as_the_reply_it_is(sent, reply):
    assert read(sent) == reply


def test_limits_come_along_and_packed_answers_are_unpacked():
    assert read(body(), **{"X-RateLimit-Limit-Tokens": "7", "x-other": "1"}).headers == {
        "x-ratelimit-limit-tokens": "7"
    }
    packed = gzip.compress(json.dumps(body()).encode())
    assert read(packed, **{"content-encoding": "gzip"}).text == "hi"
    assert read(packed, **{"content-encoding": "br"}) is None
    assert read(packed[:-9], **{"content-encoding": "gzip"}) is None


@pytest.mark.parametrize(
    ("content_type", "is_read"),
    [
        ("application/json", True), ("Application/JSON ; Charset=UTF-8", True), ("application/json; x=y", True), ("application/json; charset=latin-1", False), ("text/json", False), ("application/jsonl", False), ("", False),
        ("text/plain; application/json", False),
    ],
)  # fmt: skip
def test_json_is_read_that_says_so_and_is_utf_8(content_type, is_read):
    assert (read(body(), **{"content-type": content_type}) is not None) is is_read
    assert read_usual_reply(HttpAnswer(200, {}, json.dumps(body()).encode())) is None


@pytest.mark.parametrize("status", [199, 201, 204, 400, 500])
def test_other_statuses_are_left_to_litellm(status):
    assert read(body(), status) is None


CHOICE = body()["choices"][0]
EVERYTHING = body(
    dict.fromkeys(
        (
            "reasoning_content", "reasoning", "reasoning_details", "refusal", "tool_calls", "function_call", "annotations", "audio", "images", "prefix",
        )
    ),
    dict.fromkeys(
        ("native_finish_reason", "logprobs", "stop_reason", "token_ids", "seed", "content_filter_results")
    ),
    **dict.fromkeys(
        (
            "object", "system_fingerprint", "service_tier", "error", "provider", "x_groq", "usage_breakdown", "prompt", "prompt_filter_results",
            "prompt_logprobs", "prompt_token_ids", "kv_transfer_params", "timings", "metadata", "stats",
        )
    ),
)  # fmt: skip


@pytest.mark.parametrize(
    "sent",
    [
        EVERYTHING, body(x_groq={}, provider="a", timings={}, error=None, system_fingerprint="f", object=None), body(id=None, model=None, created=None), {"choices": [{"message": {"content": "hi"}}]},
        body(choice={"logprobs": None, "stop_reason": 5, "seed": 1, "token_ids": None}), body(choice={"logprobs": {}}), body({"tool_calls": [], "function_call": None, "annotations": [], "audio": None, "images": []}), body({"prefix": True}),
    ],
)  # fmt: skip
def test_what_providers_often_say_beside_it_is_usual(sent):
    assert read(sent).text == "hi"


@pytest.mark.parametrize(
    "sent",
    [
        b"", b"oops", b"[]", b"null", [body()], {}, body(error="x"), body(error={}), body(x=1), body(choices=[]), body(choices=None), body(choices={"0": CHOICE}), body(choices=[CHOICE, CHOICE]), body(choices=[5]), body(choices=[None]), body(id=5), body(object=5),
        body(model=5), body(system_fingerprint=5), body(created="now"), body(created=1.5), body(created=True), body(choice={"x": 1}), body(choice={"logprobs": {"content": []}}), body(choice={"finish_reason": 7}), body(choice={"finish_reason": []}),
        body(choice={"finish_reason": "eos"}), body(choice={"finish_reason": "tool_calls"}), body(choice={"finish_reason": ""}), body(choice={"message": None}), body(choice={"message": []}), body({"x": 1}), body({"role": "user"}), body({"role": None}),
        *(body({name: [1]}) for name in ("tool_calls", "function_call", "annotations", "audio", "images")), *(body({name: [{"text": "a"}]}) for name in ("content", "refusal", "reasoning", "reasoning_content")),
    ],
)  # fmt: skip
def test_what_is_unusual_in_any_way_is_left_to_litellm(sent):
    assert read(sent) is None


@pytest.mark.parametrize(
    ("said", "usage"),
    [
        (None, Usage()), ({}, Usage()), (USAGE, Usage(10, 5)), ({"total_tokens": 15}, Usage(0, 15)), ({**USAGE, "prompt_tokens": None, "cost": 0.5}, Usage(0, 5)), ({**USAGE, "prompt_tokens_details": None}, Usage(10, 5)),
        ({**USAGE, "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": None, "x": "y"}, "completion_tokens_details": {"reasoning_tokens": 3}}, Usage(10, 5, 4, 3)), ({**USAGE, "prompt_cache_hit_tokens": None}, Usage(10, 5)),
        ({**USAGE, "prompt_cache_hit_tokens": 6}, Usage(10, 5, 6)), ({**USAGE, "prompt_cache_hit_tokens": 6, "prompt_tokens_details": {"cached_tokens": 4, "cache_creation_tokens": 2}}, Usage(10, 5, 6, cache_write_tokens=2)),
        ({**USAGE, "prompt_cache_hit_tokens": 0, "prompt_tokens_details": {"cached_tokens": 4}}, Usage(10, 5)), ({**USAGE, "prompt_cache_hit_tokens": 6, "prompt_tokens_details": None}, Usage(10, 5, 6)),
    ],
)  # fmt: skip
def test_usual_usage_is_read(said, usage):
    assert read(body(usage=said)).usage == usage


@pytest.mark.parametrize(
    "said",
    [
        [], "many", 5, {**USAGE, "prompt_tokens": "10"}, {**USAGE, "completion_tokens": 5.0}, {**USAGE, "total_tokens": True}, {**USAGE, "prompt_tokens_details": []}, {**USAGE, "prompt_tokens_details": {"cached_tokens": "4"}},
        {**USAGE, "completion_tokens_details": {"reasoning_tokens": 3.5}}, {**USAGE, "prompt_cache_hit_tokens": "6"}, {**USAGE, "prompt_cache_hit_tokens": True},
        *({**USAGE, name: 1} for name in ("cache_read_input_tokens", "cache_creation_input_tokens", "reasoning_tokens", "server_tool_use")),
    ],
)  # fmt: skip
def test_usage_that_litellm_reads_otherwise_is_left_to_it(said):
    assert read(body(usage=said)) is None
