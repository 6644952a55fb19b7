"""Requests to servers of one's own, which need no litellm: what it would send is known beforehand.

litellm passes a request on as it is where a server is named by `api_base` and its map does not know the model. So the template is made
here, and a process that asks no other model never imports litellm (2 s of CPU). Whatever is unusual is left to litellm: other
parameters, a proxy or certificates in the environment, and every answer but a usual one. `tests/llm/test_own_server.py` compares what
is sent; only the headers differ in which openai's client describes itself.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from functools import cache, lru_cache
from importlib import import_module
from importlib.metadata import version
from urllib.parse import urlsplit

from pydantic_core import to_json

from rlm_ray.core.llm import ModelRequest
from rlm_ray.core.secrets import header_fault
from rlm_ray.llm.http_client import HttpTarget, PlainTransport
from rlm_ray.llm.model_check import has_map, known_model
from rlm_ray.llm.request_template import CHAT_PATH, RequestTemplate

_KEY_VARIABLES = {
    "hosted_vllm": "HOSTED_VLLM_API_KEY",
    "lm_studio": "LM_STUDIO_API_KEY",
    "openai": "OPENAI_API_KEY",
}
_NO_KEY = {"hosted_vllm": "fake-api-key"}
"""What litellm sends where there is no key."""
_TIMEOUT_S = 600.0
_ADDRESS = frozenset({"api_base", "api_key", "timeout"})
_PARAMS = frozenset({"frequency_penalty", "presence_penalty", "seed", "stop", "temperature", "top_p"})
_SPECIAL = re.compile(
    r"(responses|chat|realtime|container|ft:)|.*(gpt|chatgpt|claude|davinci|babbage|codex|audio|omni)|(.*/)?o\d",
    re.IGNORECASE,
)
"""Names for which litellm does something of its own."""
_SETTINGS = re.compile(
    r"(https?|all)_proxy|litellm_(?!mode$|local_model_cost_map$).*|(disable|use)_aiohttp_.*|"
    r"(openai|hosted_vllm|lm_studio)_(?!api_key$).*",
    re.IGNORECASE,
)
"""Variables that change what is sent, or how."""
_CERTIFICATES = re.compile(r"ssl_.*|(requests|curl)_ca_bundle", re.IGNORECASE)
"""The same where the address is one of https."""


@lru_cache(maxsize=1_000)
def is_own_model(model: str) -> bool:
    """Tell whether litellm knows nothing of a model but the name of its provider, by its map."""
    provider, _, name = model.partition("/")
    return (
        provider in _KEY_VARIABLES
        and bool(name)
        and _SPECIAL.match(name) is None
        and has_map()
        and known_model(model) is None
    )


def own_template(request: ModelRequest, environment: Mapping[str, str]) -> RequestTemplate | None:
    """Return what such requests have in common; None where litellm has to say it."""
    params, (provider, _, name) = request.params, request.model.partition("/")
    if not is_own_model(request.model) or any(map(_SETTINGS.fullmatch, environment)):
        return None
    base, timeout_s = params.get("api_base"), params.get("timeout", _TIMEOUT_S)
    key = params.get("api_key") or environment.get(_KEY_VARIABLES[provider]) or _NO_KEY.get(provider)
    if (
        not params.keys() <= _PARAMS | _ADDRESS
        or None in params.values()
        or not (isinstance(base, str) and _is_plain_address(base))
        or not (isinstance(key, str) and key == key.strip() and not header_fault(key))
        or type(timeout_s) not in {int, float}
    ):
        return None
    headers = (
        ("Authorization", f"Bearer {key}"),
        ("Accept", "application/json"),
        ("Content-Type", "application/json"),
        ("User-Agent", f"rlm-ray/{_version()}"),
        ("accept-encoding", "gzip, deflate"),
    )
    is_secure = base.lower().startswith("https:")
    if is_secure and any(map(_CERTIFICATES.fullmatch, environment)):
        return None
    transport = PlainTransport(_certificates() if is_secure else None)
    timeout_s = float(timeout_s)
    target = HttpTarget(
        base.rstrip("/") + CHAT_PATH, headers, (timeout_s, timeout_s, timeout_s), transport=transport
    )
    fields = {"model": name} | {each: value for each, value in params.items() if each in _PARAMS}
    bound = "" if request.max_tokens is None else "max_tokens"
    return RequestTemplate(target, to_json(fields)[:-1] + b",", bound)


def _is_plain_address(base: str) -> bool:
    try:
        parts = urlsplit(base)
    except ValueError:
        return False
    is_plain = parts.scheme in {"http", "https"} and parts.hostname and "@" not in parts.netloc
    return (
        bool(is_plain) and not parts.query and not parts.fragment and parts.path.rstrip("/").endswith("/v1")
    )


@cache
def _certificates() -> ssl.SSLContext:
    """Return what litellm checks servers by."""
    return ssl.create_default_context(cafile=import_module("certifi").where())


@cache
def _version() -> str:
    return version("rlm-ray")
