"""Maps litellm's exceptions to our errors, in this one place.

litellm names errors by words and makes up statuses; the provider's own answer is in the chain of causes below its
exception. That answer decides the kind (`provider_rules`); litellm's class counts only where there was none. `to_error`
writes the message: one sentence that says what to do, the provider's own behind it.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from rlm_ray.core.retry_after import retry_after_s
from rlm_ray.errors import (
    AuthenticationError,
    ConfigError,
    ContextWindowError,
    ModelError,
    QuotaError,
    RLMError,
    TransientModelError,
)
from rlm_ray.llm.provider_error import MESSAGE_CHARS, ProviderError, read_error
from rlm_ray.llm.provider_rules import Kind, kind_of

_DEEPEST = 10


def map_error(litellm: Any, error: Exception, model: str, params: Mapping[str, Any]) -> RLMError:
    """Return the error of ours that says the same as litellm's, in one sentence."""
    text = _one_line(error)
    if isinstance(error, litellm.exceptions.LiteLLMUnknownProvider) or "LLM Provider NOT provided" in text:
        example = "" if "/" in model else f", such as openai/{model}"
        return ConfigError(
            "model", f"litellm knows no provider for {model!r}; write it as provider/name{example}"
        )
    chain = list(_causes(error))
    found = _provider_error(chain, text)
    missing = () if params.get("api_key") else tuple(missing_keys(litellm, model))
    called = Called(model, str(params.get("api_base") or ""), missing)
    return to_error(found, called, _kind(litellm, chain, found))


def _kind(litellm: Any, chain: list[BaseException], found: ProviderError) -> Kind:
    """Return what the provider said; where it said nothing, what litellm's class says."""
    error = chain[0]
    if isinstance(error, litellm.Timeout) or any(map(_is_timeout, chain)):
        return "timeout"
    answered = _response_of(chain) is not None
    if not answered and (isinstance(error, litellm.APIConnectionError) or any(map(_is_lost, chain))):
        return "connection"
    kind = kind_of(found)
    return (
        _by_class(litellm, error, kind, answered=answered) if kind in {"rejected", "server_error"} else kind
    )


def _by_class(litellm: Any, error: BaseException, kind: Kind, *, answered: bool) -> Kind:
    if isinstance(error, litellm.ContextWindowExceededError):
        return "window"
    if isinstance(error, litellm.ContentPolicyViolationError):
        return "content_filter"
    return "auth" if isinstance(error, litellm.AuthenticationError) and not answered else kind


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Return the error and those it was made of, down to the first. What we raised earlier is no part of it."""
    current: BaseException | None = error
    for _ in range(_DEEPEST):
        if current is None or isinstance(current, RLMError):
            return
        yield current
        current = current.__cause__ or current.__context__


def _provider_error(chain: list[BaseException], text: str) -> ProviderError:
    response = _response_of(chain)
    statuses = [
        status for each in chain if (status := _status(getattr(each, "status_code", None))) is not None
    ]
    status = _status(getattr(response, "status_code", None)) or next(reversed(statuses), None)
    bodies = [body for each in reversed(chain) if (body := getattr(each, "body", None))]
    body = _text_of(response) or next(iter(bodies), None)
    return read_error(status, body, _headers_of(chain), text)


def _response_of(chain: list[BaseException]) -> Any:
    """Return the provider's answer; litellm's own are made up and empty."""
    found = (getattr(each, "response", None) for each in reversed(chain))
    return next((response for response in found if _text_of(response) or _is_of_wire(response)), None)


def _is_of_wire(response: Any) -> bool:
    return bool(getattr(response, "headers", None)) and getattr(response, "is_closed", False)


def _text_of(response: Any) -> str:
    try:
        return str(response.text) if response is not None else ""
    except Exception:  # noqa: BLE001 - a body that was never read, or in an encoding nobody knows
        return ""


def _headers_of(chain: list[BaseException]) -> Mapping[str, str] | None:
    for each in reversed(chain):
        response = getattr(each, "response", None)
        for headers in (
            getattr(response, "headers", None),
            getattr(each, "litellm_response_headers", None),
            getattr(each, "headers", None),
        ):
            if isinstance(headers, Mapping) and headers:
                return headers
    return None


def _status(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 100 <= value <= 599 else None


def _is_timeout(error: BaseException) -> bool:
    return isinstance(error, TimeoutError | asyncio.TimeoutError) or "Timeout" in type(error).__name__


def _is_lost(error: BaseException) -> bool:
    """Tell whether there was no connection, or one that broke: by httpx, aiohttp, or the system."""
    if isinstance(error, ConnectionError):
        return True
    module, name = type(error).__module__.partition(".")[0], type(error).__name__
    if module in {"httpx", "httpcore"}:
        return name.endswith(
            ("ConnectError", "ReadError", "WriteError", "ProtocolError", "CloseError", "NetworkError")
        )
    return module == "aiohttp" and name.startswith(
        ("ClientConn", "ClientOSError", "ServerDisconnected", "ClientPayload")
    )


def missing_keys(litellm: Any, model: str) -> list[str]:
    """Return the environment variables that this model's provider wants and does not find."""
    try:
        return list(litellm.validate_environment(model=model)["missing_keys"])
    except Exception:  # noqa: BLE001 - a hint; litellm raises many things for unknown models
        return []


def _one_line(error: Exception) -> str:
    """Return litellm's message without its class prefixes, on one line."""
    text = " ".join(str(getattr(error, "message", None) or error).split())
    while match := re.match(r"(litellm\.)?\w*(Error|Exception|Timeout)(:| -) ?", text):
        text = text[match.end() :]
    return text or type(error).__name__


@dataclass(frozen=True, slots=True)
class Called:
    """Whom a failed call went to, for the sentence."""

    model: str
    address: str = ""
    """`api_base`, or empty for the provider's own."""
    missing_keys: tuple[str, ...] = ()
    """Environment variables that would hold its key and do not."""


_LASTING: Mapping[str, tuple[type[ModelError], str]] = MappingProxyType(
    {
        "window": (
            ContextWindowError,
            "the prompt is longer than the model's window; pass smaller pieces, or use a model with a larger window",
        ),
        "rate_window": (
            ContextWindowError,
            "one request is more than the account may send in that time; pass smaller pieces, or raise its rate",
        ),
        "output_limit": (ModelError, "max_tokens is more than the model can write here; lower it"),
        "quota": (QuotaError, "the account has nothing left to spend; raise its quota or credit"),
        "content_filter": (ModelError, "the provider's content filter refused the request"),
        "rejected": (ModelError, "the provider refused the request"),
    }
)
_TRANSIENT = MappingProxyType(
    {
        "rate_limited": "rate limited",
        "timeout": "no answer in time",
        "loading": "the model is still loading",
        "no_model_yet": "the provider does not know {model!r} now; check the name and api_base",
        "server_error": "the provider failed",
        "connection": "cannot reach {address}; check api_base and the network",
    }
)
"""What may pass by itself."""


def to_error(error: ProviderError, called: Called, kind: Kind | None = None) -> RLMError:
    """Turn a provider's error into one of `rlm_ray.errors`: what to do, the provider's own words, and the HTTP status.

    `kind` is given where the caller has judged the error already.
    """
    model, kind = called.model, kind or kind_of(error)
    text = error.message[:MESSAGE_CHARS] or (
        f"HTTP status {error.status}" if error.status else "no reason given"
    )
    if kind in _TRANSIENT:
        return _transient(error, called, kind, text)
    if kind == "auth":
        return AuthenticationError(model, f"{_key_hint(called)} ({text})", error.status)
    if kind == "unknown_model":
        why = f"the provider does not know {model!r}; check the name and api_base ({text})"
        return ConfigError("model", why)
    error_class, why = _LASTING[kind]
    return error_class(model, f"{why} ({text})", error.status)


def _transient(error: ProviderError, called: Called, kind: str, text: str) -> TransientModelError:
    why = _TRANSIENT[kind].format(model=called.model, address=called.address or "the provider")
    body = json.dumps(error.body, default=str) if error.body is not None else ""
    wait_s = retry_after_s(error.headers, f"{body} {error.message}", time.time())
    return TransientModelError(
        called.model, f"{why} ({text})", error.status, kind, wait_s, dict(error.headers)
    )


def _key_hint(called: Called) -> str:
    if called.missing_keys:
        return f"the provider wants a key; set {' and '.join(called.missing_keys)} or pass api_key"
    return "the provider refused the key; check it"
