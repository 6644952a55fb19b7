"""What each field of a reply is read from."""

from __future__ import annotations

import json
import sys
from types import ModuleType, SimpleNamespace

import pytest

from rlm_ray.core.llm import MAX_CREDIBLE_TOKENS, ModelReply, Usage
from rlm_ray.llm.litellm_reply import (
    CarriedError,
    count,
    finish_reason_of,
    join_parts,
    rate_headers,
    read_bodies_first,
    read_reply,
    reasoning_in,
    short_text,
    usage_in,
)


def response(content="hi", finish="stop", *, message=None, choice=None, **beside):
    said = SimpleNamespace(content=content, **(message or {}))
    chosen = SimpleNamespace(message=said, finish_reason=finish, **(choice or {}))
    return SimpleNamespace(choices=[chosen], **beside)


def tool(arguments):
    return SimpleNamespace(function=SimpleNamespace(arguments=arguments))


@pytest.mark.parametrize(
    ("given", "reply"),
    [
        (response(), ModelReply("hi")), (response(None, None), ModelReply("")), (response("part", "length"), ModelReply("part", "length")),
        (response(model="m", id="i", usage={"prompt_tokens": 3, "completion_tokens": 2}), ModelReply("hi", usage=Usage(3, 2), model="m", id="i")),
        (response(model="m" * 201, id=5), ModelReply("hi", model="m" * 200)),
        (response(_hidden_params={"additional_headers": {"llm_provider-retry-after": 3, "x-other": "1"}}), ModelReply("hi", headers={"retry-after": "3"})), (response(_hidden_params=None), ModelReply("hi")),
        (response(_hidden_params={"additional_headers": None}), ModelReply("hi")), (response(message={"reasoning_content": "hm"}), ModelReply("hi", reasoning="hm")),
        (response(None, message={"provider_specific_fields": {"refusal": "no", "reasoning_details": [{"text": "hm"}]}}), ModelReply("", refusal="no", reasoning="hm")),
        (response("x", choice={"provider_specific_fields": {"native_finish_reason": "MAX_TOKENS"}}), ModelReply("x", "MAX_TOKENS")),
        (response(message={"provider_specific_fields": None, "tool_calls": None, "function_call": None}), ModelReply("hi")),
        (response(None, "tool_calls", message={"tool_calls": [tool('{"code": "a"}'), tool(None), tool({"code": "b"})]}), ModelReply("", "tool_calls", tool_call=True, code="a\n\nb")),
        (response(message={"tool_calls": [SimpleNamespace(function=None)]}), ModelReply("hi", tool_call=True)),
        (response(message={"function_call": SimpleNamespace(arguments='{"code": "a"}')}), ModelReply("hi", tool_call=True, code="a")),
        (response(base_resp={"status_code": 0}), ModelReply("hi")), (response(base_resp="x"), ModelReply("hi")),
    ],
)  # fmt: skip
def test_reply_holds_what_the_first_choice_says(given, reply):
    assert read_reply(given) == reply


MINIMAX = {1002: 429, 1004: 401, 1008: 402, 1026: 400, 1027: 400, 1039: 429, 2013: 400, 1000: 500, 9999: 500}
ERROR = {"message": "busy", "code": 429}


@pytest.mark.parametrize(
    ("given", "status", "message", "body"),
    [
        *((SimpleNamespace(**fields), 500, "the provider sent a reply without choices", None) for fields in ({}, {"choices": []}, {"choices": None})),
        *((response(base_resp={"status_code": code, "status_msg": "no"}), status, "no", {"status_code": code, "status_msg": "no"}) for code, status in MINIMAX.items()),
        (response(base_resp={"status_code": 1004}), 401, "{'status_code': 1004}", {"status_code": 1004}),
        (response(choice={"provider_specific_fields": {"error": ERROR}}), 429, "busy", {"error": ERROR}), (response(message={"provider_specific_fields": {"error": "busy"}}), 500, "busy", {"error": {"message": "busy"}}),
    ],
)  # fmt: skip
def test_reply_that_carries_an_error_is_raised_as_one(given, status, message, body):
    with pytest.raises(CarriedError) as caught:
        read_reply(given)
    body = body or {"message": message}
    assert (caught.value.status_code, caught.value.message, str(caught.value), caught.value.body) == (
        status,
        message,
        message,
        body,
    )
    assert (caught.value.response.status_code, json.loads(caught.value.response.text)) == (status, body)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ('{"code": "a"}', "a"), ({"code": "a"}, "a"), ('{"x": "a"}', ""), ("{oops", ""), ("[1]", ""), ('"a"', ""), (None, ""), (5, ""), ('{"code": 5, "source": "b"}', "b"), ('{"code": " \\n", "python": "c"}', "c"),
        ('{"source": "b", "code": "a"}', "a"), ('{"script": "a"}', "a"), ('{"input": "a"}', "a"), ('{"command": "a"}', "a"), ('{"program": "a"}', "a"), ("[" * 100_000, ""),
    ],
)  # fmt: skip
def test_code_of_a_tool_call_is_the_argument_that_has_such_a_name(arguments, code):
    assert read_reply(response(message={"tool_calls": [tool(arguments)]})).code == code


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, None), ("a", "a"), ("", ""), ([], ""), (["a", {"type": "text", "text": "b"}, ["c"]], "abc"), ({"text": "a"}, "a"), ({"text": {"value": "a"}}, "a"), ({"content": "a"}, "a"), ({"text": 5}, ""), ({}, ""), (5, "5"),
        (2.5, "2.5"), (True, ""), (object(), ""), *(([{"type": kind, "text": "x"}, "a"], "a") for kind in ("thinking", "reasoning", "redacted_thinking", "refusal")), ([{"type": "image_url", "image_url": {"url": "x"}}], ""),
    ],
)  # fmt: skip
def test_text_is_what_the_parts_of_text_hold(content, text):
    assert join_parts({"content": content})[1] == text


@pytest.mark.parametrize(
    ("message", "reasoning"),
    [
        ({}, None), ({"reasoning_content": "a", "reasoning": "b"}, "a"), ({"reasoning_content": "", "reasoning": "b"}, "b"), ({"reasoning": [{"text": "a"}, {"text": "b"}]}, "ab"), ({"content": "x", "reasoning": "b"}, "b"),
        ({"content": [{"type": "thinking", "thinking": "a"}, {"type": "text", "text": "x"}, {"type": "reasoning", "text": "b"}]}, "a\n\nb"), ({"reasoning": "r", "content": [{"type": "thinking", "summary": [{"text": "a"}]}]}, "r\n\na"),
        ({"content": [{"type": "reasoning", "content": "a"}, {"type": "thinking"}, "x", {"type": "text", "thinking": "x"}]}, "a"), ({"content": {"type": "thinking", "thinking": "a"}}, None),
        ({"content": [{"type": "thinking", "thinking": "a", "text": "b", "summary": "c"}]}, "a"),
    ],
)  # fmt: skip
def test_reasoning_is_what_stands_beside_the_text_and_the_thoughts_in_it(message, reasoning):
    assert join_parts(message)[0] == reasoning


@pytest.mark.parametrize(
    ("content", "details", "reasoning"),
    [
        ("a", [{"text": "b"}], "a"), (None, [{"text": "b"}, 5, {"summary": "c"}, {"text": ""}, {"text": "d", "summary": "e"}], "b\nc\nd"), (None, None, ""), (None, "b", ""), (None, {"text": "b"}, ""), ([{"text": "a"}], None, "a"), ("", [{"text": "b"}], "b"),
    ],
)  # fmt: skip
def test_details_of_reasoning_are_read_where_there_is_nothing_else(content, details, reasoning):
    assert reasoning_in(content, {"reasoning_details": details}) == reasoning


@pytest.mark.parametrize(
    ("reason", "of_choice", "found"),
    [
        ("stop", {}, "stop"), (None, {}, "stop"), ("", {}, "stop"), (7, {}, "7"), ("stop", {"native_finish_reason": "SAFETY"}, "SAFETY"), ("length", {"native_finish_reason": ""}, "length"), ("length", {"native_finish_reason": 5}, "length"),
        ("stop", {"content_filter_results": {"hate": {"filtered": False}, "self": 5, "sex": {"filtered": True}}, "native_finish_reason": "x"}, "content_filter"),
        ("stop", {"content_filter_results": {"hate": {"filtered": False}, "self": 5}}, "stop"), ("stop", {"content_filter_results": [{"filtered": True}]}, "stop"), ("stop", {"content_filter_results": {}}, "stop"),
    ],
)  # fmt: skip
def test_reply_ends_for_the_reason_that_the_provider_itself_gives(reason, of_choice, found):
    assert finish_reason_of(reason, of_choice) == found


@pytest.mark.parametrize(
    ("value", "text"), [("m", "m"), ("", ""), ("x" * 200, "x" * 200), ("x" * 201, "x" * 200), (None, ""), (5, "")]
)  # fmt: skip
def test_name_has_at_most_200_characters(value, text):
    assert short_text(value) == text


def test_headers_of_rate_limits_are_kept_by_plain_names():
    headers = {
        "llm_provider-X-RateLimit-Limit-Requests": 60,
        "anthropic-ratelimit-tokens-reset": "x",
        "Retry-After": "3",
        "retry-after-ms": "30",
        "x-request-id": "r",
        "x-retry-after": "4",
    }
    assert rate_headers(headers) == {
        "x-ratelimit-limit-requests": "60",
        "anthropic-ratelimit-tokens-reset": "x",
        "retry-after": "3",
        "retry-after-ms": "30",
    }


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (5, 5), ("5", 5), (5.9, 5), ("5.9", 5), (0, 0), (-1, 0), (0.5, 0), (None, 0), (True, 0), ("x", 0), ([], 0), (MAX_CREDIBLE_TOKENS, MAX_CREDIBLE_TOKENS), (MAX_CREDIBLE_TOKENS + 1, 0), (float("nan"), 0), (float("inf"), 0), (float("-inf"), 0),
        (10**400, 0),
    ],
)  # fmt: skip
def test_count_is_a_whole_number_that_can_be_meant(value, number):
    assert count(value) == number


def details(cached=None, written=None, reasoning=None):
    return {
        "prompt_tokens_details": {"cached_tokens": cached, "cache_creation_tokens": written},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }


@pytest.mark.parametrize(
    ("said", "usage"),
    [
        (None, Usage()), ({}, Usage()), ("x", Usage()), ({"prompt_tokens": 9, "completion_tokens": 5}, Usage(9, 5)), (SimpleNamespace(prompt_tokens=9, completion_tokens=5), Usage(9, 5)), ({"input_tokens": 9, "output_tokens": 5}, Usage(9, 5)),
        ({"prompt_tokens": 0, "input_tokens": 9, "completion_tokens": 2, "output_tokens": 5}, Usage(9, 2)), ({"total_tokens": 14}, Usage(0, 14)), ({"prompt_tokens": 9, "total_tokens": 14}, Usage(9, 0)), ({"completion_tokens": 5, "total_tokens": 14}, Usage(0, 5)),
        ({"prompt_tokens": 9, "completion_tokens": 5, **details(4, 3, 2)}, Usage(9, 5, 4, 2, cache_write_tokens=3)), ({"prompt_tokens": 9, "completion_tokens": 5, **details(40, 30, 20)}, Usage(9, 5, 9, 5, cache_write_tokens=9)),
        ({"prompt_tokens": 9, "completion_tokens": 5, "cache_creation_input_tokens": 6, **details(written=3)}, Usage(9, 5, cache_write_tokens=6)),
        ({"prompt_tokens": 9, "completion_tokens": 5, "cache_creation_input_tokens": 0, **details(written=3)}, Usage(9, 5, cache_write_tokens=3)),
        (SimpleNamespace(prompt_tokens=9, completion_tokens=5, prompt_tokens_details=SimpleNamespace(cached_tokens=4)), Usage(9, 5, 4)),
    ],
)  # fmt: skip
def test_usage_is_read_from_the_counts_that_there_are(said, usage):
    assert usage_in(said) == usage


CONVERT = "convert_to_model_response_object"


@pytest.fixture
def modules(monkeypatch):
    """Modules of a litellm that returns what it is given, and one of somebody else, that have its function."""

    def convert(response_object=None, *rest, **named):
        return response_object, rest, named

    names = (
        "its.litellm_core_utils.llm_response_utils.convert_dict_to_response",
        "its.providers",
        "another.one",
    )
    for name in names:
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
        setattr(sys.modules[name], CONVERT, convert)
    monkeypatch.setitem(sys.modules, "its.rest", ModuleType("its.rest"))
    read_bodies_first(SimpleNamespace(__name__="its"))
    return [sys.modules[name] for name in names]


def test_bodies_are_read_first_wherever_litellm_reads_them(modules):
    source, provider, another = modules
    assert getattr(source, CONVERT) is getattr(provider, CONVERT)
    assert getattr(source, CONVERT) is not getattr(another, CONVERT)
    assert getattr(source, CONVERT).__name__ == "convert"
    assert source.extract_reasoning_content is join_parts
    assert not hasattr(sys.modules["its.rest"], CONVERT)


def test_body_that_is_an_error_is_not_read_by_litellm(modules):
    convert = getattr(modules[0], CONVERT)
    for named in ({}, {"response_type": "completion"}):
        with pytest.raises(CarriedError, match="busy"):
            convert({"error": ERROR}, **named)
        with pytest.raises(CarriedError, match="without choices"):
            convert(None, **named)
    assert convert({"error": ERROR}, 1, response_type="embedding", x=2) == (
        {"error": ERROR},
        (1,),
        {"response_type": "embedding", "x": 2},
    )
    assert convert(response_type="embedding")[0] is None


COUNTS = {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}


@pytest.mark.parametrize(
    ("said", "readable"),
    [
        (None, None), (COUNTS, COUNTS), ({}, {}), ({"prompt_tokens": None, "x": "y"}, {"prompt_tokens": None, "x": "y"}), ("many", None), ([1], None), ({**COUNTS, "prompt_tokens": "9", "x": "y"}, COUNTS),
        ({"completion_tokens": 5.5, "input_tokens": "9", "output_tokens": 5.5}, {"completion_tokens": 5, "input_tokens": 9, "output_tokens": 5}), ({"prompt_tokens": True}, {"prompt_tokens": 0}),
        ({"total_tokens": "x", "prompt_tokens_details": {"cached_tokens": 1}, "completion_tokens_details": 5}, {"total_tokens": 0, "prompt_tokens_details": {"cached_tokens": 1}}),
    ],
)  # fmt: skip
def test_litellm_gets_counts_that_it_can_read(modules, said, readable):
    body = {"choices": [{"message": {"content": "x"}}], "usage": said}
    found = getattr(modules[0], CONVERT)(body)[0]
    assert found == {"choices": [{"message": {"role": "assistant", "content": "x"}}], "usage": readable}
    del body["usage"]
    assert getattr(modules[0], CONVERT)(body)[0] is body
