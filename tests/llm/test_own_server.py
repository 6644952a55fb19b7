"""Servers of one's own are asked without litellm, and are sent what it would send."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from rlm_ray.core.llm import Message, ModelRequest
from rlm_ray.errors import TransientModelError
from rlm_ray.llm.litellm_client import LitellmProvider
from rlm_ray.llm.own_server import is_own_model, own_template
from rlm_ray.testing import Failure, ModelServer

BASE = "http://127.0.0.1:9/v1"
SECURE = "https://127.0.0.1:9/v1"

WITHOUT_LITELLM = """
import asyncio, sys
from rlm_ray.core.llm import Message, ModelRequest, Usage
from rlm_ray.llm.model_provider import ModelProvider
model, base = sys.argv[1:]
provider = ModelProvider()
asyncio.run(provider.prepare(["offline/extractive", model]))
params = {"api_base": base, "api_key": "k", "temperature": 0.5}
request = ModelRequest(model, (Message("user", "hi"),), 100, params)
assert asyncio.run(provider.complete(request)).text == "hello"
assert asyncio.run(provider.complete(request)).text == "hello"
assert provider.provider_name(model) == model.partition("/")[0]
assert provider.cost_usd(model, Usage(10, 10)) is None
assert provider.output_limit(model).window_tokens is None
print([name for name in ("litellm", "openai", "httpx") if name in sys.modules])
"""


def test_a_server_of_ones_own_is_asked_without_litellm():
    with ModelServer(lambda _: "hello") as server:
        arguments = [sys.executable, "-W", "error", "-c", WITHOUT_LITELLM, "openai/served", server.url]
        done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")


SENT = [
    ("openai/served", {}),
    ("openai/meta/llama-3", {"temperature": 0, "top_p": 0.5, "seed": 7, "stop": ["a", "b"]}),
    ("openai/qwen2.5-coder", {"stop": "x", "presence_penalty": 0.1, "frequency_penalty": 1}),
    ("hosted_vllm/Qwen/Qwen3-8B", {"temperature": 0.7, "timeout": 7}),
    ("lm_studio/any", {"seed": 7}),
]
OF_THE_CLIENT = ("x-stainless-", "user-agent", "accept", "host", "content-length", "connection")


@pytest.mark.parametrize(("model", "params"), SENT)
@pytest.mark.parametrize("bound", [None, 77])
@pytest.mark.parametrize("slash", ["", "/"])
def test_a_server_gets_what_litellm_sends_it(
    model: str, params: dict[str, Any], bound: int | None, slash: str
):
    messages = (
        Message("system", "é\n"),
        Message("user", "a"),
        Message("assistant", "b"),
        Message("user", "c"),
    )

    async def ask_by_both() -> None:
        for transport in ("litellm", "auto"):
            await LitellmProvider().complete(replace(request, transport=transport))

    with ModelServer(lambda _: "hi") as server:
        request = ModelRequest(
            model, messages, bound, {"api_base": server.url + slash, "api_key": "k", **params}
        )
        assert own_template(request, {}) is not None
        asyncio.run(ask_by_both())
        by_litellm, here = server.requests
    assert here.body == by_litellm.body
    assert here.headers["user-agent"].startswith("rlm-ray/")
    assert {name: value for name, value in here.headers.items() if not name.startswith(OF_THE_CLIENT)} == {
        name: value for name, value in by_litellm.headers.items() if not name.startswith(OF_THE_CLIENT)
    }


LEFT_TO_LITELLM = [
    ("openai/gpt-4o", {}, {}), ("openai/gpt-5-of-tomorrow", {}, {}), ("openai/o3", {}, {}), ("openai/responses/x", {}, {}),
    ("openai/claude-3", {}, {}), ("openai/", {}, {}), ("served", {}, {}), ("groq/served", {}, {}), ("ollama/served", {}, {}),
    ("openai/served", {"api_base": None}, {}), ("openai/served", {"api_base": "http://127.0.0.1:9"}, {}),
    ("openai/served", {"api_base": BASE + "?a=b"}, {}), ("openai/served", {"api_base": "http://u:p@127.0.0.1:9/v1"}, {}),
    ("openai/served", {"api_base": BASE + "/chat/completions"}, {}), ("openai/served", {"api_base": "ftp://h/v1"}, {}),
    ("openai/served", {"api_base": "http://[/v1"}, {}), ("openai/served", {"api_key": ""}, {}), ("openai/served", {"api_key": "k\n"}, {}),
    ("openai/served", {"api_key": " k"}, {}), ("openai/served", {"top_k": 3}, {}), ("openai/served", {"temperature": None}, {}),
    ("openai/served", {"extra_headers": {"a": "b"}}, {}), ("openai/served", {"timeout": None}, {}), ("openai/served", {"timeout": True}, {}),
    ("openai/served", {}, {"HTTPS_PROXY": "http://p"}), ("openai/served", {}, {"http_proxy": "http://p"}),
    ("openai/served", {"api_base": SECURE}, {"SSL_CERT_FILE": "/c"}), ("openai/served", {"api_base": SECURE}, {"ssl_verify": "false"}),
    ("openai/served", {}, {"OPENAI_ORGANIZATION": "o"}), ("openai/served", {}, {"LITELLM_SALT_KEY": "s"}),
]  # fmt: skip


@pytest.mark.parametrize(("model", "params", "environment"), LEFT_TO_LITELLM)
def test_what_litellm_may_send_otherwise_is_left_to_it(
    model: str, params: dict[str, Any], environment: dict[str, str]
):
    request = ModelRequest(model, (Message("user", "hi"),), 100, {"api_base": BASE, "api_key": "k", **params})
    assert own_template(request, environment) is None


def test_keys_of_the_environment_are_those_of_the_provider():
    environment = {"OPENAI_API_KEY": "one", "HOSTED_VLLM_API_KEY": "two", "LITELLM_MODE": "PRODUCTION"}
    for model, key in (("openai/served", "one"), ("hosted_vllm/served", "two"), ("lm_studio/served", None)):
        template = own_template(
            ModelRequest(model, (Message("user", "hi"),), None, {"api_base": BASE}), environment
        )
        assert (template and dict(template.target.headers)["Authorization"]) == (key and f"Bearer {key}")
    request = ModelRequest("hosted_vllm/served", (Message("user", "hi"),), None, {"api_base": BASE})
    template = own_template(request, {})
    assert template is not None
    assert dict(template.target.headers)["Authorization"] == "Bearer fake-api-key"


def test_an_unusual_answer_is_read_by_litellm_without_a_second_request():
    refusal = Failure(429, "slow down", "rate_limit_error", headers={"retry-after": "3"})
    with ModelServer([refusal]) as server:
        params = {"api_base": server.url, "api_key": "k"}
        request = ModelRequest("openai/served", (Message("user", "hi"),), 100, params)
        with pytest.raises(TransientModelError) as raised:
            asyncio.run(LitellmProvider().complete(request))
        assert server.calls == 1
    assert (raised.value.kind, raised.value.retry_after_s) == ("rate_limited", 3.0)


def test_a_server_by_https_is_checked_by_the_certificates_of_certifi():
    request = ModelRequest(
        "openai/served", (Message("user", "hi"),), None, {"api_base": SECURE, "api_key": "k"}
    )
    template = own_template(request, {})
    assert template is not None
    certificates = template.target.arguments["ssl"]
    assert certificates.check_hostname
    assert certificates.cert_store_stats()["x509_ca"] > 50


def test_models_of_the_map_are_none_of_ones_own():
    assert not any(
        map(is_own_model, ("openai/gpt-4o", "openai/gpt-4.1-mini", "gpt-4o", "mistral/mistral-small-latest"))
    )
