"""What providers put into a 200, as it comes through litellm."""

from __future__ import annotations

import json

import pytest

from rlm_ray.core.llm import Message, ModelRequest
from rlm_ray.core.reply import judge, without_thinking
from rlm_ray.errors import AuthenticationError, ConfigError, ModelError, QuotaError, TransientModelError
from rlm_ray.llm.litellm_client import LitellmProvider
from rlm_ray.testing import ModelServer, Raw

pytestmark = [
    pytest.mark.filterwarnings("ignore:Item '.*' on TypedDict class:UserWarning"),
    pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning"),
]

ERROR = {"code": 502, "message": "Provider returned error"}


def body(content, finish="stop", message=None, choice=None, **beside):
    said = {"role": "assistant", "content": content, **(message or {})}
    choices = [{"index": 0, "message": said, "finish_reason": finish, **(choice or {})}]
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": choices,
        "usage": usage,
        **beside,
    }


async def ask(answer):
    with ModelServer([Raw(json.dumps(answer).encode())]) as server:
        request = ModelRequest(
            "openai/any", (Message("user", "hi"),), None, {"api_base": server.url, "api_key": "k"}
        )
        return await LitellmProvider().complete(request)


CALL = {"id": "1", "type": "function", "function": {"name": "python", "arguments": '{"code": "print(1)"}'}}
FILTERED = {"content_filter_results": {"hate": {"filtered": True, "severity": "high"}}}


@pytest.mark.parametrize(
    ("answer", "kind", "text"),
    [
        (body("hi"), "usable", "hi"),
        (body("hi", None), "usable", "hi"),
        (body("hi", ""), "usable", "hi"),
        (body("hi", "eos"), "usable", "hi"),
        (body("hi", 7), "usable", "hi"),
        (body("hi", error=None), "usable", "hi"),
        (body([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]), "usable", "ab"),
        (body(["a", "b"]), "usable", "ab"),
        (body([{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "b"}]), "usable", "b"),
        (body([{"type": "image_url", "image_url": {"url": "x"}}, {"type": "text", "text": "b"}]), "usable", "b"),
        (body([{"type": "image_url", "image_url": {"url": "x"}}]), "empty", ""),
        (body([]), "empty", ""),
        (body({"text": "a"}), "usable", "a"),
        (body(5), "usable", "5"),
        (body(None, message={"reasoning_content": "It is 4."}), "usable", "It is 4."),
        (body(None, message={"reasoning": "It is 4."}), "usable", "It is 4."),
        (body(None, message={"reasoning_details": [{"type": "reasoning.text", "text": "It is 4."}]}), "usable", "It is 4."),
        (body("4", message={"reasoning_content": "hm"}), "usable", "4"),
        (body("<think>hm</think>4"), "usable", "4"),
        (body("<think>hm</think>"), "empty", ""),
        (body(None), "empty", ""),
        (body(None, "length"), "empty", ""),
        (body("part", "length"), "truncated", "part"),
        (body("part", "MAX_TOKENS"), "truncated", "part"),
        (body("part", "incomplete"), "truncated", "part"),
        (body("part", choice={"native_finish_reason": "MAX_TOKENS"}), "truncated", "part"),
        (body("part", "content_filter"), "filtered", "part"),
        (body("", "SAFETY"), "filtered", ""),
        (body(None, choice=FILTERED), "filtered", ""),
        (body("part", "error"), "broken", "part"),
        (body("part", "abort"), "broken", "part"),
        (body(None, message={"refusal": "I can't."}), "refused", ""),
        (body(None, "refusal"), "refused", ""),
        (body(None, "tool_calls", {"tool_calls": [CALL]}), "tool_call", ""),
        (body("let me look", "stop", {"tool_calls": [CALL]}), "tool_call", "let me look"),
        (body(None, "function_call", {"function_call": {"name": "f", "arguments": "{}"}}), "tool_call", ""),
        (body("hi", "tool_calls", {"tool_calls": []}), "usable", "hi"),
    ],
)  # fmt: skip
async def test_a_reply_is_what_the_provider_says_it_is(answer, kind, text):
    reply = without_thinking(await ask(answer), takes_code=False)
    assert (judge(reply).kind, reply.text) == (kind, text)


async def test_the_code_of_a_tool_call_comes_along():
    assert (await ask(body(None, "tool_calls", {"tool_calls": [CALL]}))).code == "print(1)"


async def test_an_error_beside_the_choices_is_read_with_all_it_says():
    error = {"code": 429, "message": "Provider returned error", "metadata": {"raw": "please retry in 2s"}}
    with pytest.raises(TransientModelError) as caught:
        await ask(body(None, error=error))
    assert caught.value.retry_after_s == 2.0


@pytest.mark.parametrize(
    ("said", "model", "ident"),
    [
        ({"model": "m-2026", "id": "resp_1"}, "m-2026", "resp_1"),
        ({"model": "m" * 500, "id": "i" * 500}, "m" * 200, "i" * 200),
    ],
)
async def test_a_reply_names_its_model_and_itself(said, model, ident):
    reply = await ask(body("yes", **said))
    assert (reply.model, reply.id) == (model, ident)


async def test_a_message_without_a_role_is_the_models():
    answer = body("hi")
    del answer["choices"][0]["message"]["role"]
    assert (await ask(answer)).text == "hi"


async def test_only_the_first_choice_counts():
    answer = body("first")
    answer["choices"].append(body("second")["choices"][0] | {"index": 1})
    assert (await ask(answer)).text == "first"


@pytest.mark.parametrize(
    ("answer", "error", "kind"),
    [
        (body(None, error=ERROR | {"code": 429}), TransientModelError, "rate_limited"),
        (body(None, error=ERROR), TransientModelError, "server_error"),
        (body("text", error=ERROR), TransientModelError, "server_error"),
        ({"error": ERROR | {"code": 429}}, TransientModelError, "rate_limited"),
        ({"error": ERROR}, TransientModelError, "server_error"),
        (body("", "error", choice={"error": ERROR}), TransientModelError, "server_error"),
        (body(None, "error", choice={"error": ERROR | {"code": "429"}}), TransientModelError, "rate_limited"),
        (body(None, "error", message={"error": ERROR}), TransientModelError, "server_error"),
        (body("", base_resp={"status_code": 1002, "status_msg": "too fast"}), TransientModelError, "rate_limited"),
        (body(None, "error", choice={"error": {"code": "rate_limit_exceeded", "message": "slow"}}), TransientModelError, "rate_limited"),
        (body(None, error={"type": "overloaded_error", "message": "busy"}), TransientModelError, "server_error"),
        (body(None, error={"message": "without a code"}), TransientModelError, "server_error"),
        (body(None, error={"code": 429, "type": "insufficient_quota", "message": "empty"}), QuotaError, None),
        (body("", "error", choice={"error": {"code": 402, "message": "Insufficient credits"}}), QuotaError, None),
        (body(None, error={"code": 408, "message": "late"}), TransientModelError, "timeout"),
        ({"error": "overloaded"}, TransientModelError, "server_error"),
        ({"object": "error", "message": "no such model", "code": 404}, (ModelError, ConfigError), "no_model_yet"),
        ({"detail": "boom"}, TransientModelError, "server_error"),
        ({"choices": []}, TransientModelError, "server_error"),
        ({"choices": None}, TransientModelError, "server_error"),
        ({"choices": [{"index": 0, "message": None, "finish_reason": "stop"}]}, TransientModelError, "server_error"),
        ({"choices": [{"index": 0, "text": "old", "finish_reason": "stop"}]}, TransientModelError, "server_error"),
        (None, TransientModelError, "server_error"),
        ([], TransientModelError, "server_error"),
        (body("hi", base_resp={"status_code": 0, "status_msg": ""}), None, None),
        (body("", "error", choice={"error": {"code": 400, "message": "no such thing"}}), ModelError, None),
        (body("", "error", choice={"error": {"code": 401, "message": "bad key"}}), (AuthenticationError, ModelError), None),
    ],
)  # fmt: skip
async def test_an_error_inside_a_200_is_an_error_by_its_code(answer, error, kind):
    if error is None:
        assert (await ask(answer)).text == "hi"
        return
    with pytest.raises(error) as caught:
        await ask(answer)
    assert getattr(caught.value, "kind", None) == kind
