"""What a profile consists of, and which one a model gets by what its name and its parameters tell.

The choice belongs to the version of the prompts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Profile:
    """The words for a kind of model. Templates are filled by `core/prompts.py`."""

    system: str
    """The system prompt of a session. Fields: kind, children, max_leaf_chars, observation_chars, cell_timeout_s, cell_cpu_s,
    example, more."""
    documents: str
    """In `more` where the context is many documents."""
    map_reduce: str
    """In `more` where the context is several pieces long. Field: size."""
    deep: str
    """In `children`: what becomes of a piece longer than a sub-call reads, where it gets a session."""
    flat: str
    """The same where it is one plain call."""
    leaf_system: str
    """The system prompt of a plain sub-call."""
    observation_chars: int = 10_000
    """How much of a cell's output the model sees."""
    max_piece_chars: int = 10**12
    """The most a sub-call is said to read, whatever the settings say."""
    example_of_table: str = ""
    """In `example` where the context begins with the names of columns. Fields: lines (an expression for all lines of the
    context), column (the name of the first column, quoted)."""
    example_of_lines: str = ""
    """In `example` elsewhere. Field: lines."""
    sub_calls: str = ""
    """In `more` where the context is long and the system prompt itself does not speak of sub-calls. Field: max_leaf_chars."""
    before_reply: str = ""
    """The end of every request: what a message is, for a model that else answers a question as it is put."""
    after_output: str = ""
    """Said after a cell that printed something and went well. Field: query."""
    waits_for_output: bool = False
    """An answer that its code does not compute is not taken before the model has seen what that code prints."""
    max_repeats: int = 0
    """So often may a turn do the same as an earlier one before the conversation begins anew without them; 0: for ever."""
    teaches: bool = True
    """The model is told what its last turn shows it should do otherwise (`core/remarks.py`)."""


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
