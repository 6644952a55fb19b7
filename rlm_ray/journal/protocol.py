"""The calls and messages between recorders and the journal server."""

from __future__ import annotations

from dataclasses import dataclass

from rlm_ray.errors import JournalError
from rlm_ray.util.codec import Codec

METHODS = frozenset({"open", "append", "read", "hold", "close"})
"""Methods of a journal server that may be called over RPC. Expected errors are returned, not raised."""


@dataclass(frozen=True, slots=True)
class JournalRef:
    """Names the journal of one run, as one attempt of the run writes it."""

    run_dir: str
    run_id: str
    attempt_id: str
    """Names this attempt: one that resumes the run has another id, and the one before may not write any more."""
    node_id: str
    """The node whose journal actor writes it."""


CODEC = Codec(JournalRef, JournalError)
"""Encodes the messages of these calls."""
