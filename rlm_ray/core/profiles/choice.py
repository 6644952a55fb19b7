"""Which profile a model gets, by what its name and its parameters tell. Belongs to the version of the prompts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

SMALL_BILLIONS = 14.0
"""A model with fewer parameters than this takes the short prompt."""
SMALL_WINDOW_TOKENS = 16_384
"""A model with a window up to this may hold little of a session."""

_SIZE = re.compile(r"(?<![\w.])(?:(\d+)x|e)?(\d+(?:\.\d+)?)b(?![a-z0-9])")
_SMALL_FAMILIES = re.compile(
    r"tinyllama|smollm|\bphi\b|phi-?[1-4]|stable-?lm|\bcoder\b(?!-(?:plus|max|pro|next|large))|codellama|starcoder|\bmini-?cpm"
)
_BARE_FAMILIES = frozenset(
    {"qwen", "llama", "llama2", "llama3", "mistral", "gemma", "phi", "coder", "local", "gguf", "default"}
)
"""Names that servers on one's own machine give to what they hold, without its size."""


def choose_profile(model: str, params: Mapping[str, Any] | None = None) -> str:
    """Return `short` for a small model, `small-window` for one with a small window, else `full`."""
    provider, _, rest = model.lower().partition("/")
    name = (rest or provider).rpartition("/")[2]
    size = parameters_in_billions(name)
    if size is not None:
        is_small = size < SMALL_BILLIONS
    else:
        is_small = (
            name in _BARE_FAMILIES or bool(_SMALL_FAMILIES.search(name)) or provider.startswith("ollama")
        )
    if is_small:
        return "short"
    window = window_of_params(params or {})
    return "small-window" if window is not None and window <= SMALL_WINDOW_TOKENS else "full"


def window_of_params(params: Mapping[str, Any]) -> int | None:
    """Return the window that a model of Ollama is asked for, as a number or as the text of one; None without it."""
    told = params.get("num_ctx")
    if isinstance(told, str) and told.isascii() and told.isdigit():
        told = int(told[:9])
    return told if isinstance(told, int) and not isinstance(told, bool) and told > 0 else None


def parameters_in_billions(name: str) -> float | None:
    """Read the size that a model's name tells, such as `1.5b` or `8x7b`; None where it tells none."""
    found = [
        float(size) * int(times or 1) for times, size in _SIZE.findall(re.sub(r"[-_:/]", " ", name.lower()))
    ]
    return max(found, default=None)
