"""What a profile consists of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Profile:
    """The words for a kind of model. Templates are filled by `core/prompts.py`."""

    system: str
    """The system prompt of a session. Fields: kind, children, max_leaf_chars, observation_chars, cell_timeout_s, cell_cpu_s,
    more."""
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
    after_output: str = ""
    """Said after a cell that printed something and went well."""
    teaches: bool = True
    """The model is told what its last turn shows it should do otherwise (`core/remarks.py`)."""
