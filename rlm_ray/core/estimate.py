"""How many tokens a request will take, before a provider has counted them: rather too many than too few."""

from __future__ import annotations

from rlm_ray.core.model import ModelRequest, Usage

BYTES_PER_TOKEN = 3
"""English has about 4.2, code about 3; a Chinese character is 3 bytes and about one token."""
TOKENS_PER_MESSAGE = 8
UNBOUNDED_OUTPUT_TOKENS = 4_096
"""What to expect of a message nobody bounds; only the rate uses it, a budget bounds every message."""
BUDGET_OUTPUT_TOKENS = 16_384
"""The most a message may hold where a budget must be kept and `max_tokens` is not set."""

LAST_CALL_TOKENS = 2_048
"""The same for the last call, which has to fit what was kept for it."""


def worst_usage(request: ModelRequest) -> Usage:
    """The tokens to reserve for a request."""
    chars = sum(_bytes(message.content) for message in request.messages)
    tokens = chars // BYTES_PER_TOKEN + TOKENS_PER_MESSAGE * len(request.messages) + 1
    return Usage(tokens, request.max_tokens or UNBOUNDED_OUTPUT_TOKENS)


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
