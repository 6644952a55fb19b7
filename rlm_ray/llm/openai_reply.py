"""Reads a usual chat completion into a `ModelReply`, without litellm; what is unusual in any way is left to litellm.

The reply is the one that `litellm_reply.read_reply` returns for the same bytes; `tests/llm/test_transports.py` compares them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic_core import from_json

from rlm_ray.core.llm import ModelReply
from rlm_ray.llm.http_client import HttpAnswer, headers_of
from rlm_ray.llm.litellm_reply import (
    finish_reason_of,
    join_parts,
    rate_headers,
    reasoning_in,
    short_text,
    usage_in,
)

_OK = 200
_BODY_FIELDS = frozenset(
    {
        "id", "object", "created", "model", "choices", "usage", "system_fingerprint", "service_tier", "error", "provider",
        "x_groq", "usage_breakdown", "prompt", "prompt_filter_results", "prompt_logprobs", "prompt_token_ids",
        "kv_transfer_params", "timings", "metadata", "stats",
    }
)  # fmt: skip
_CHOICE_FIELDS = frozenset(
    {
        "index", "message", "finish_reason", "native_finish_reason", "logprobs", "stop_reason", "token_ids", "seed",
        "content_filter_results",
    }
)  # fmt: skip
_MESSAGE_FIELDS = frozenset(
    {
        "role", "content", "reasoning_content", "reasoning", "reasoning_details", "refusal", "tool_calls", "function_call",
        "annotations", "audio", "images", "prefix",
    }
)  # fmt: skip
_MUST_BE_EMPTY = ("tool_calls", "function_call", "annotations", "audio", "images")
_FINISH_REASONS = frozenset({"stop", "length", "content_filter", None})
"""Which litellm passes on as they are."""
_COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")
_DETAILS = ("prompt_tokens_details", "completion_tokens_details")
_COUNTED_ELSEWHERE = frozenset(
    {"cache_read_input_tokens", "cache_creation_input_tokens", "reasoning_tokens", "server_tool_use"}
)
_TEXT = (str, type(None))
_COUNT = (int, type(None))


def read_usual_reply(answer: HttpAnswer) -> ModelReply | None:
    """Return the reply that it is; None for an error and all that providers rarely say. Raises `TooLongAnswerError`."""
    if answer.status != _OK or not _is_json(answer.headers.get("content-type", "")):
        return None
    content = answer.content()
    try:
        body = None if content is None else from_json(content)
    except ValueError:
        return None
    if not isinstance(body, dict) or not _is_usual_body(body) or not _is_usual_choice(body["choices"][0]):
        return None
    choice, usage = body["choices"][0], _usual_usage(body.get("usage"))
    if usage is None:
        return None
    message = choice["message"]
    reasoning, text = join_parts(message)
    return ModelReply(
        text=text or "",
        finish_reason=finish_reason_of(choice.get("finish_reason"), choice),
        usage=usage_in(usage),
        headers=rate_headers(headers_of(answer)),
        reasoning=reasoning_in(reasoning, message),
        refusal=message.get("refusal") or "",
        model=short_text(body.get("model")),
        id=short_text(body.get("id")),
    )


def _is_json(content_type: str) -> bool:
    kind, _, rest = content_type.lower().partition(";")
    return kind.strip() == "application/json" and ("charset" not in rest or "utf-8" in rest)


def _is_usual_body(body: dict[str, Any]) -> bool:
    choices = body.get("choices")
    return (
        body.keys() <= _BODY_FIELDS
        and body.get("error") is None
        and type(choices) is list
        and len(choices) == 1
        and all(isinstance(body.get(name), _TEXT) for name in ("id", "object", "model", "system_fingerprint"))
        and type(body.get("created")) in _COUNT
    )


def _is_usual_choice(choice: Any) -> bool:
    return (
        isinstance(choice, dict)
        and choice.keys() <= _CHOICE_FIELDS
        and not choice.get("logprobs")
        and isinstance(choice.get("finish_reason"), _TEXT)
        and choice.get("finish_reason") in _FINISH_REASONS
        and _is_usual(choice.get("message"))
    )


def _is_usual(message: Any) -> bool:
    return (
        isinstance(message, dict)
        and message.keys() <= _MESSAGE_FIELDS
        and message.get("role", "assistant") == "assistant"
        and not any(message.get(name) for name in _MUST_BE_EMPTY)
        and all(
            isinstance(message.get(name), _TEXT)
            for name in ("content", "refusal", "reasoning", "reasoning_content")
        )
    )


def _usual_usage(usage: Any) -> Mapping[str, Any] | None:
    """Return the usage as litellm reads it; None where it may read it otherwise than it stands there."""
    if usage is None:
        return {}
    if not isinstance(usage, dict) or usage.keys() & _COUNTED_ELSEWHERE:
        return None
    if any(type(usage.get(name)) not in _COUNT for name in _COUNTS):
        return None
    if not all(_is_usual_detail(usage.get(name)) for name in _DETAILS):
        return None
    hits = usage.get("prompt_cache_hit_tokens")  # DeepSeek's own count, which litellm puts before the other
    if type(hits) is not int:
        return usage if hits is None else None
    return {**usage, _DETAILS[0]: {**(usage.get(_DETAILS[0]) or {}), "cached_tokens": hits}}


def _is_usual_detail(details: Any) -> bool:
    return details is None or (
        isinstance(details, dict)
        and all(type(each) in _COUNT for name, each in details.items() if name.endswith("_tokens"))
    )
