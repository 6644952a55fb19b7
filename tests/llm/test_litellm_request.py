"""What is wrong with our own request is said before it is sent."""

from __future__ import annotations

import pytest

from rlm_ray.config import Settings
from rlm_ray.core.context import make_context
from rlm_ray.core.llm import Message, ModelRequest, Usage
from rlm_ray.errors import ConfigError, ContextWindowError, InputError
from rlm_ray.llm.litellm_request import check_prompt_was_read, check_request, ollama_params
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
    return ModelRequest("ollama_chat/m", (Message("user", "word " * (chars // 5)),), 1_000, params)


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
