"""litellm's exceptions become ours, once, at this border.

Order matters: `ContextWindowExceededError` is a `BadRequestError`, and some providers answer 429 both for
"slow down" and for "your account is empty"; the latter is not worth waiting for.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
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

_EMPTY_ACCOUNT = re.compile(
    r"insufficient[_ ]quota|exceeded your current quota|billing|credit balance|per[ _-]day|daily|\brpd\b|\btpd\b",
    re.IGNORECASE,
)
_WINDOW = re.compile(
    r"context[_ ](length|window)|maximum context|too many tokens|prompt is too long", re.IGNORECASE
)
_NO_KEY = re.compile(
    r"api[_ ]key.*(must be set|not set|missing|required)|missing.*api[_ ]key|credentials", re.IGNORECASE
)
_STATUS_TIMEOUT = 408
_STATUS_RATE = 429
_STATUS_SERVER = 500


def map_error(litellm: Any, error: Exception, model: str, params: Mapping[str, Any]) -> RLMError:
    """The error of ours that says the same as litellm's, in one sentence."""
    text = _sentence(error)
    status = getattr(error, "status_code", None)
    if isinstance(error, litellm.ContextWindowExceededError) or _WINDOW.search(text):
        why = "the prompt is longer than the model's window; pass smaller pieces, or use a model with a larger window"
        return ContextWindowError(model, f"{why} ({text})", status)
    if isinstance(error, litellm.AuthenticationError | litellm.PermissionDeniedError) or _NO_KEY.search(text):
        return AuthenticationError(model, f"{_which_key(litellm, model, params)} ({text})", status)
    if isinstance(error, litellm.exceptions.LiteLLMUnknownProvider) or "LLM Provider NOT provided" in text:
        return ConfigError(
            "model",
            f"litellm knows no provider for {model!r}; write it as provider/name, such as openai/{model}",
        )
    if isinstance(error, litellm.NotFoundError):
        return ConfigError(
            "model", f"the provider does not know {model!r}; check the name and api_base ({text})"
        )
    if _EMPTY_ACCOUNT.search(text) and status in {_STATUS_RATE, 402, 403, 400}:
        return QuotaError(
            model, f"the account has nothing left to spend; raise its quota or credit ({text})", status
        )
    return _transient(litellm, error, model, params.get("api_base"), text) or ModelError(model, text, status)


def _transient(
    litellm: Any, error: Exception, model: str, api_base: str | None, text: str
) -> TransientModelError | None:
    status = getattr(error, "status_code", None)
    headers = _headers_of(error)
    wait_s = retry_after_s(headers, str(getattr(error, "message", None) or error), time.time())
    if isinstance(error, litellm.Timeout) or status == _STATUS_TIMEOUT:
        return TransientModelError(model, f"no answer in time ({text})", status, "timeout", wait_s, headers)
    if isinstance(error, litellm.RateLimitError) or status == _STATUS_RATE:
        return TransientModelError(model, f"rate limited ({text})", status, "rate_limited", wait_s, headers)
    if _is_connection(litellm, error, text):
        where = api_base or "the provider"
        why = f"cannot reach {where}; check api_base and the network ({text})"
        return TransientModelError(model, why, None, "connection", wait_s, headers)
    if status is not None and int(status) >= _STATUS_SERVER:
        return TransientModelError(
            model, f"the provider failed ({text})", status, "server_error", wait_s, headers
        )
    return None


def _is_connection(litellm: Any, error: Exception, text: str) -> bool:
    """litellm reports a refused connection as APIConnectionError or as InternalServerError, by provider."""
    if isinstance(error, litellm.APIConnectionError):
        return True
    return "Connection error" in text or "Cannot connect to host" in text


def _which_key(litellm: Any, model: str, params: Mapping[str, Any]) -> str:
    if not params.get("api_key") and (missing := missing_keys(litellm, model)):
        return f"the provider wants a key; set {' and '.join(missing)} or pass api_key"
    return "the provider refused the key; check it"


def missing_keys(litellm: Any, model: str) -> list[str]:
    """The environment variables this model's provider wants and does not find."""
    try:
        return list(litellm.validate_environment(model=model)["missing_keys"])
    except Exception:  # noqa: BLE001 - a hint; litellm raises many things for unknown models
        return []


def _headers_of(error: Exception) -> dict[str, str]:
    headers = getattr(error, "litellm_response_headers", None)
    if headers is None:
        headers = getattr(getattr(error, "response", None), "headers", None)
    return {str(k).lower(): str(v) for k, v in headers.items()} if isinstance(headers, Mapping) else {}


def _sentence(error: Exception) -> str:
    """litellm's message without its class prefixes, on one line, bounded."""
    text = " ".join(str(getattr(error, "message", None) or error).split())
    while match := re.match(r"(litellm\.)?\w*(Error|Exception|Timeout)(:| -) ?", text):
        text = text[match.end() :]
    return text[:300] or type(error).__name__
