"""Ollama reads no more than `num_ctx` tokens of a prompt and drops the rest without a word: 2,048 or 4,096 by default.

So a window that holds the request is asked for, in steps, since each change loads the model anew; and a reply whose count
of input tokens is far below what was sent is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rlm_ray.core.llm import ModelRequest, Usage, estimate_max_usage
from rlm_ray.errors import ContextWindowError

LEAST_WINDOW = 8_192
MOST_CHARS_PER_TOKEN = 8
"""Hardly any text has more."""
CHARS_SHOWN_WHOLE = 8_000
"""A shorter prompt fits any window."""


def parameters(request: ModelRequest, provider: str, known: Mapping[str, Any]) -> dict[str, Any]:
    """`num_ctx` for a model of Ollama: enough for the request, at most what the model is known to read."""
    if not _is_ollama(provider) or "num_ctx" in request.params:
        return {}
    worst = estimate_max_usage(request)
    window = LEAST_WINDOW
    while window < worst.input_tokens + worst.output_tokens:
        window *= 2
    facts = known.get(request.model)
    most = facts.get("max_input_tokens") if isinstance(facts, Mapping) else None
    return {"num_ctx": min(window, most) if isinstance(most, int) and most > 0 else window}


def check_read(request: ModelRequest, provider: str, usage: Usage) -> None:
    """Raise `ContextWindowError` where the server has read only a part of the prompt."""
    read, chars = usage.input_tokens, request.chars
    if (
        not _is_ollama(provider)
        or chars <= CHARS_SHOWN_WHOLE
        or read <= 0
        or read * MOST_CHARS_PER_TOKEN >= chars
    ):
        return
    raise ContextWindowError(
        request.model,
        f"the server read only {read:,} tokens of a prompt of {chars:,} characters and dropped the rest without a word; "
        "pass smaller pieces, or set num_ctx to a window that the model and the memory of its machine allow",
    )


def _is_ollama(provider: str) -> bool:
    return provider.startswith("ollama")
