"""What actors send one another."""

from __future__ import annotations

from dataclasses import dataclass

from rlm_ray.cluster.store import Parcel
from rlm_ray.config import Settings
from rlm_ray.core.context import Part


@dataclass(frozen=True, slots=True)
class SessionSpec:
    """A session to run."""

    run_id: str
    path: tuple[int, ...]
    """The ordinals of the sub-calls that lead here from the root; empty for the root."""
    query: str
    context: Parcel
    settings: Settings
    deadline: float | None = None
    """Unix time at which the root stops."""

    @property
    def depth(self) -> int:
        return len(self.path)


@dataclass(frozen=True, slots=True)
class Leaf:
    """One plain model call."""

    ordinal: int
    query: str
    part: Part


@dataclass(frozen=True, slots=True)
class LeafBatch:
    """Plain calls of one session, to be made side by side."""

    run_id: str
    path: tuple[int, ...]
    """Of the session that asks."""
    leaves: tuple[Leaf, ...]
    context: Parcel | None
    """The asking session's, where a leaf refers to it."""
    settings: Settings

    @property
    def depth(self) -> int:
        return len(self.path) + 1


@dataclass(frozen=True, slots=True)
class RootState:
    """How far the root session is, for a live view."""

    turn: int = 0
    sub_calls: int = 0
    answered: int = 0
    doing: str = ""
