"""Bodies of plain messages are passed on as they are, and are what the client would have made of them."""

from __future__ import annotations

import datetime as dt

import pytest

from rlm_ray.llm.litellm_client import import_litellm, is_plain

MESSAGES = [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}]
PLAIN = [
    {"messages": MESSAGES, "model": "m"},
    {"messages": MESSAGES, "model": "m", "temperature": 0.5, "max_tokens": 3, "stream": False, "seed": None},
    {"messages": [], "model": "m"},
]
OTHERS = [
    {"messages": iter(MESSAGES), "model": "m"},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}], "model": "m"},
    {"messages": [{"role": "user", "content": "a", "at": dt.date(2026, 1, 1)}], "model": "m"},
    {"messages": MESSAGES, "model": "m", "stop": ["a", "b"]},
    {"messages": MESSAGES, "model": "m", "metadata": {"at": dt.datetime(2026, 1, 1, tzinfo=dt.UTC)}},
    {"model": "m"},
]


@pytest.mark.parametrize("body", PLAIN)
def test_texts_and_single_values_are_plain(body):
    assert is_plain(body)


@pytest.mark.parametrize("body", OTHERS)
def test_what_the_client_may_have_to_rewrite_is_not_plain(body):
    assert not is_plain(body)


@pytest.mark.parametrize("body", [*PLAIN, *OTHERS[1:]])
async def test_the_client_sends_what_it_would_have_made_of_it(body):
    import_litellm()
    from openai import omit
    from openai.resources.chat.completions import completions
    from openai.types.chat import completion_create_params

    kind = completion_create_params.CompletionCreateParamsNonStreaming
    sent = await completions.async_maybe_transform({**body, "top_p": omit}, kind)
    assert sent == await completions.async_maybe_transform.__wrapped__(body, kind)
