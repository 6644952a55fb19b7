"""Turns a `ModelRequest` into the arguments of a litellm call; what is wrong with it is said in a sentence before it is sent.

Ollama reads no more than `num_ctx` tokens of a prompt and drops the rest without a word: 2,048 or 4,096 by default. So a
window that holds the request is asked for, in steps, since each change loads the model anew; and a reply whose count of
input tokens is far below what was sent is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rlm_ray.core.llm import ModelRequest, Usage, estimate_max_usage
from rlm_ray.core.secrets import header_fault
from rlm_ray.errors import ConfigError, ContextWindowError, InputError

MIN_OLLAMA_WINDOW = 8_192
MAX_CHARS_PER_TOKEN = 8
"""Hardly any text has more."""
FITS_ANY_WINDOW_CHARS = 8_000

_KEY_VARIABLES = {
    "gemini": ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
    "huggingface": ("HF_TOKEN", "HUGGINGFACE_API_KEY"),
    "together_ai": ("TOGETHERAI_API_KEY", "TOGETHER_API_KEY"),
    "bedrock": (
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_BEARER_TOKEN_BEDROCK",
    ),
    "cohere_chat": ("COHERE_API_KEY", "CO_API_KEY"),
}


def check_request(request: ModelRequest, provider: str, environment: Mapping[str, str]) -> None:
    """Raise `ConfigError` for a key that no header can hold, `InputError` for text that no UTF-8 can."""
    if not request.params.get("api_key"):
        for name in _KEY_VARIABLES.get(provider, (f"{provider.upper()}_API_KEY",)):
            if why := header_fault(environment.get(name, "")):
                raise ConfigError(name, why)
    for message in request.messages:
        try:
            message.content.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InputError(
                f"the {message.role} message",
                f"holds half of a surrogate pair ({message.content[error.start]!a} at character {error.start:,}), which "
                "no UTF-8 can hold",
            ) from error


def caches_by_marks(model: str) -> bool:
    """Tell whether prefixes are cached only as far as a request marks them: Anthropic's models, wherever they run."""
    return "claude" in model.lower() or model.startswith("anthropic/")


def mark_for_cache(messages: list[dict[str, Any]]) -> None:
    """Mark the system prompt and the last message: the next request begins with all of these."""
    for message in {id(message): message for message in (messages[0], messages[-1])}.values():
        part = {"type": "text", "text": message["content"], "cache_control": {"type": "ephemeral"}}
        message["content"] = [part]


def call_arguments(request: ModelRequest, provider: str, known: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `litellm.acompletion`; `known` is litellm's map of models. Parameters of the request come last."""
    messages: list[dict[str, Any]] = [
        {"role": message.role, "content": message.content} for message in request.messages
    ]
    if request.grows and caches_by_marks(request.model):
        mark_for_cache(messages)
    arguments = {
        "model": request.model,
        "messages": messages,
        "num_retries": 0,
        "max_retries": 0,
        **ollama_params(request, provider, known),
        **request.params,
    }
    if request.max_tokens is not None:
        arguments["max_tokens"] = request.max_tokens
    return arguments


def ollama_params(request: ModelRequest, provider: str, known: Mapping[str, Any]) -> dict[str, Any]:
    """Return `num_ctx` for a model of Ollama: enough for the request, at most what the model is known to read."""
    if not _is_ollama(provider) or "num_ctx" in request.params:
        return {}
    worst = estimate_max_usage(request)
    window = MIN_OLLAMA_WINDOW
    while window < worst.input_tokens + worst.output_tokens:
        window *= 2
    facts = known.get(request.model)
    most = facts.get("max_input_tokens") if isinstance(facts, Mapping) else None
    return {"num_ctx": min(window, most) if isinstance(most, int) and most > 0 else window}


def check_prompt_was_read(request: ModelRequest, provider: str, usage: Usage) -> None:
    """Raise `ContextWindowError` where the server has read only a part of the prompt."""
    read, chars = usage.input_tokens, request.chars
    if (
        not _is_ollama(provider)
        or chars <= FITS_ANY_WINDOW_CHARS
        or read <= 0
        or read * MAX_CHARS_PER_TOKEN >= chars
    ):
        return
    raise ContextWindowError(
        request.model,
        f"the server read only {read:,} tokens of a prompt of {chars:,} characters and dropped the rest without a word; "
        "pass smaller pieces, or set num_ctx to a window that the model and the memory of its machine allow",
    )


def _is_ollama(provider: str) -> bool:
    return provider.startswith("ollama")
