"""Who answers which model, and what is imported for it."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from rlm_ray.core.llm import Usage
from rlm_ray.llm.model_provider import ModelProvider

OFFLINE = """
import asyncio, sys
from rlm_ray.core.llm import Message, ModelRequest, Usage
from rlm_ray.llm.model_provider import ModelProvider
provider = ModelProvider()
asyncio.run(provider.prepare(["offline/extractive", "offline/other"]))
reply = asyncio.run(provider.complete(ModelRequest("offline/extractive", (Message("user", "Who swam?\\n\\nThe whale swam."),))))
assert "The whale swam" in reply.text, reply
assert provider.cost_usd("offline/extractive", Usage(10, 10)) == 0
assert provider.output_limit("offline/extractive").max_tokens is None
print("litellm" in sys.modules)
"""


def test_the_offline_model_is_asked_without_litellm():
    done = subprocess.run([sys.executable, "-c", OFFLINE], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    ("model", "provider"),
    [
        ("offline/extractive", "offline"),
        ("offline/other", "offline"),
        ("openai/gpt-5-mini", "openai"),
        ("gpt-4o", "openai"),
        ("anthropic/claude-x", "anthropic"),
        ("offlinemodel", "offlinemodel"),
        ("nobody/offline/extractive", "nobody"),
    ],
)
def test_each_model_has_its_provider(model, provider):
    assert ModelProvider().provider_name(model) == provider


async def test_models_of_litellm_are_prepared_once_by_all_who_ask_at_once():
    provider = ModelProvider()
    await asyncio.gather(*(provider.prepare(["offline/extractive", "gpt-4o"]) for _ in range(3)))
    assert provider.cost_usd("gpt-4o", Usage(1_000_000, 0)) > 0
    assert provider.cost_usd("nobody/knows", Usage(10, 10)) is None
