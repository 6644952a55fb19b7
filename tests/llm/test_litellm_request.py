"""What is wrong with our own request is said before it is sent."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rlm_ray.config import Settings
from rlm_ray.core.context import make_context
from rlm_ray.core.llm import Message, ModelRequest, Usage, estimate_max_usage
from rlm_ray.errors import ConfigError, ContextWindowError, InputError
from rlm_ray.llm.litellm_request import (
    caches_by_marks,
    call_arguments,
    check_prompt_was_read,
    check_request,
    ollama_params,
)
from rlm_ray.runs.run import validate_query

FAULTY_KEYS = [
    "sk-1\n",
    "sk-1\r\n",
    "sk\n-1",
    " sk-1",
    "sk-1 ",
    "\u201csk-1\u201d",
    "\u2018sk-1\u2019",
    '"sk-1"',
    "'sk-1'",
    "sk-\u00e9",
    "sk-\u200b1",
    "\ud800",
]


@pytest.mark.parametrize("key", FAULTY_KEYS)
def test_a_key_that_no_header_can_hold_is_a_wrong_setting(key):
    with pytest.raises(ConfigError, match=r"api_key: .*(take|copy) (it|them)"):
        assert Settings(params={"api_key": key}).params["api_key"] == key
    with pytest.raises(ConfigError, match=r"extra_headers.x-auth: "):
        Settings(params={"extra_headers": {"x-auth": key}})
    with pytest.raises(ConfigError, match="OPENAI_API_KEY: ") as raised:
        check_request(ModelRequest("openai/m", ()), "openai", {"OPENAI_API_KEY": key})
    assert "sk" not in str(raised.value)


@pytest.mark.parametrize("key", ["sk-1", "", "Bearer x", "a=b/c+d"])
def test_other_keys_are_sent(key):
    assert Settings(params={"api_key": key}).params["api_key"] == key


@pytest.mark.parametrize(
    "make", [make_context, lambda text: make_context([text]), lambda text: make_context([{"id": text, "text": "x"}]), validate_query]
)  # fmt: skip
def test_half_a_surrogate_pair_is_refused_with_its_position(make):
    with pytest.raises(InputError, match=r"half of a surrogate pair \('\\ud83d' at character 3\)"):
        make("abc\ud83d")


def test_half_a_surrogate_pair_in_a_message_is_said_before_it_is_sent():
    request = ModelRequest("m", (Message("system", "a\udc80"),))
    with pytest.raises(InputError, match="the system message: holds half"):
        check_request(request, "openai", {})


def asked(chars, **params):
    return ModelRequest("ollama_chat/m", (Message("user", ("word " * chars)[:chars]),), 1_000, params)


@pytest.mark.parametrize(("chars", "window"), [(100, 8_192), (30_000, 16_384), (300_000, 131_072)])
def test_ollama_is_asked_for_a_window_that_holds_the_request(chars, window):
    assert ollama_params(asked(chars), "ollama_chat", {}) == {"num_ctx": window}
    assert ollama_params(asked(chars, num_ctx=77), "ollama_chat", {}) == {}
    assert ollama_params(asked(chars), "openai", {}) == {}
    assert ollama_params(asked(chars), "ollama", {"ollama_chat/m": {"max_input_tokens": 8_000}}) == {
        "num_ctx": 8_000
    }


def test_a_prompt_of_which_ollama_read_only_a_part_is_a_window_error():
    with pytest.raises(ContextWindowError, match="read only 4,096 tokens of a prompt of 100,000 characters"):
        check_prompt_was_read(asked(100_000), "ollama", Usage(4_096, 5))


@pytest.mark.parametrize(
    ("provider", "chars", "tokens"), [("ollama", 100_000, 25_000), ("openai", 100_000, 5), ("ollama", 7_000, 5), ("ollama", 100_000, 0)]
)  # fmt: skip
def test_other_counts_are_believed(provider, chars, tokens):
    check_prompt_was_read(asked(chars), provider, Usage(tokens, 5))


@pytest.mark.parametrize(
    ("provider", "name"),
    [
        ("openai", "OPENAI_API_KEY"), ("gemini", "GEMINI_API_KEY"), ("gemini", "GOOGLE_API_KEY"), ("huggingface", "HF_TOKEN"), ("huggingface", "HUGGINGFACE_API_KEY"), ("together_ai", "TOGETHERAI_API_KEY"), ("together_ai", "TOGETHER_API_KEY"),
        ("bedrock", "AWS_ACCESS_KEY_ID"), ("bedrock", "AWS_SESSION_TOKEN"), ("cohere_chat", "CO_API_KEY"),
    ],
)  # fmt: skip
def test_key_of_the_environment_is_looked_at_where_none_is_given(provider, name):
    environment = {name: "sk-1\n", "ANOTHER_API_KEY": "sk-1\n"}
    with pytest.raises(ConfigError, match=f"{name}: "):
        check_request(ModelRequest("m", (), params={"api_key": ""}), provider, environment)
    check_request(ModelRequest("m", (), params={"api_key": "k"}), provider, environment)
    check_request(ModelRequest("m", ()), "another_provider", environment)


@pytest.mark.parametrize(
    ("model", "marks"),
    [
        ("anthropic/any", True), ("bedrock/eu.Anthropic.CLAUDE-3", True), ("openrouter/anthropic/claude-3", True), ("openrouter/anthropic/any", False), ("openai/m", False),
    ],
)  # fmt: skip
def test_models_of_anthropic_cache_what_is_marked(model, marks):
    assert caches_by_marks(model) is marks


MARKED = {"cache_control": {"type": "ephemeral"}}


@pytest.mark.parametrize(
    ("model", "grows", "texts", "marked"),
    [
        ("anthropic/m", True, "abc", [0, 2]), ("anthropic/m", True, "ab", [0, 1]), ("anthropic/m", True, "a", [0]), ("anthropic/m", False, "abc", []), ("openai/m", True, "abc", []),
    ],
)  # fmt: skip
def test_first_and_last_message_of_a_request_that_grows_are_marked(model, grows, texts, marked):
    request = ModelRequest(model, tuple(Message("user", text) for text in texts), grows=grows)
    assert call_arguments(request, "anthropic", {})["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": text, **MARKED}] if at in marked else text}
        for at, text in enumerate(texts)
    ]


@pytest.mark.parametrize(
    ("max_tokens", "params", "sent"),
    [
        (None, {}, {}), (5, {}, {"max_tokens": 5}), (0, {}, {"max_tokens": 0}), (None, {"max_tokens": 7, "temperature": 0.5}, {"max_tokens": 7, "temperature": 0.5}), (5, {"max_tokens": 7, "num_retries": 2, "model": "n"}, {"max_tokens": 5, "num_retries": 2, "model": "n"}),
    ],
)  # fmt: skip
def test_arguments_of_a_call_are_those_of_the_request_without_retries(max_tokens, params, sent):
    request = ModelRequest("openai/m", (Message("user", "hi"),), max_tokens, params)
    assert call_arguments(request, "openai", {}) == {
        "model": "openai/m", "messages": [{"role": "user", "content": "hi"}], "num_retries": 0, "max_retries": 0, **sent,
    }  # fmt: skip


def test_call_of_ollama_has_its_window_or_the_one_that_was_given():
    assert call_arguments(asked(100), "ollama_chat", {})["num_ctx"] == 8_192
    assert call_arguments(asked(100, num_ctx=77), "ollama_chat", {})["num_ctx"] == 77


@pytest.mark.parametrize(
    ("tokens", "window"),
    [(8_191, 8_192), (8_192, 8_192), (8_193, 16_384), (16_384, 16_384), (16_385, 32_768)],
)
def test_window_of_ollama_is_the_first_that_holds_question_and_reply(tokens, window):
    request = asked(5_000)
    request = replace(request, max_tokens=tokens - estimate_max_usage(request).input_tokens)
    assert ollama_params(request, "ollama", {}) == {"num_ctx": window}


@pytest.mark.parametrize(
    ("most", "window"), [(5_000, 5_000), (1, 1), (0, 8_192), (-1, 8_192), ("5000", 8_192), (None, 8_192), (10**6, 8_192), (8_192, 8_192)]
)  # fmt: skip
def test_window_of_ollama_is_at_most_what_the_model_reads(most, window):
    known = {"ollama_chat/m": {"max_input_tokens": most}}
    assert ollama_params(asked(5), "ollama", known) == {"num_ctx": window}
    for unknown in ({}, {"ollama_chat/m": None}, {"ollama_chat/n": {"max_input_tokens": 5}}):
        assert ollama_params(asked(5), "ollama", unknown) == {"num_ctx": 8_192}


@pytest.mark.parametrize(
    ("chars", "tokens", "is_read"),
    [(8_000, 1, True), (8_001, 1, False), (80_000, 10_000, True), (80_000, 9_999, False), (80_000, 0, True), (80_000, -1, True), (80_000, 1, False)],
)  # fmt: skip
def test_eight_characters_a_token_are_still_believed(chars, tokens, is_read):
    def check():
        check_prompt_was_read(asked(chars), "ollama_chat", Usage(tokens, 5))

    if is_read:
        check()
    else:
        with pytest.raises(ContextWindowError):
            check()
