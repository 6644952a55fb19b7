"""What passes between those who write records and the one who keeps them."""

from __future__ import annotations

from dataclasses import dataclass

from rlm_ray.errors import JournalError
from rlm_ray.util.codec import Codec

METHODS = frozenset({"open", "append", "read", "hold", "close"})
"""What a journal may be asked for over a line. Expected errors are answers, not exceptions."""


@dataclass(frozen=True, slots=True)
class JournalRef:
    """The journal of one run, as one life of the run writes it."""

    run_dir: str
    run_id: str
    attempt_id: str
    """Names this life: who takes the run up again is another owner, and the one before may not write any more."""
    node_id: str
    """The node whose journal actor writes it."""


CODEC = Codec(JournalRef, JournalError)
"""Of what is said there."""
