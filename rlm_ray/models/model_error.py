"""A provider's error as one of ours: one sentence that says what to do, the provider's own behind it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

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
from rlm_ray.models.provider_error import MESSAGE_CHARS, ProviderError
from rlm_ray.models.provider_rules import Kind, kind_of


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
    """The error of ours that says the same. `kind` where the caller knows it already."""
    model, kind = called.model, kind or kind_of(error)
    text = error.message[:MESSAGE_CHARS] or (
        f"HTTP status {error.status}" if error.status else "no reason given"
    )
    if kind in _TRANSIENT:
        return _transient(error, called, kind, text)
    if kind == "auth":
        return AuthenticationError(model, f"{_which_key(called)} ({text})", error.status)
    if kind == "unknown_model":
        why = f"the provider does not know {model!r}; check the name and api_base ({text})"
        return ConfigError("model", why)
    kind_of_ours, why = _LASTING[kind]
    return kind_of_ours(model, f"{why} ({text})", error.status)


def _transient(error: ProviderError, called: Called, kind: str, text: str) -> TransientModelError:
    why = _TRANSIENT[kind].format(model=called.model, address=called.address or "the provider")
    body = json.dumps(error.body, default=str) if error.body is not None else ""
    wait_s = retry_after_s(error.headers, f"{body} {error.message}", time.time())
    return TransientModelError(
        called.model, f"{why} ({text})", error.status, kind, wait_s, dict(error.headers)
    )


def _which_key(called: Called) -> str:
    if called.missing_keys:
        return f"the provider wants a key; set {' and '.join(called.missing_keys)} or pass api_key"
    return "the provider refused the key; check it"
