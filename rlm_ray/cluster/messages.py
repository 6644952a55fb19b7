"""What actors send one another."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import cache

from rlm_ray.admission.protocol import RunTerms
from rlm_ray.cluster.cache import RemoteCache
from rlm_ray.cluster.store import Parcel
from rlm_ray.config import Settings
from rlm_ray.core.context import Part
from rlm_ray.core.usage import RunUsage
from rlm_ray.gateway import Caller


@cache
def _cache(folder: str) -> RemoteCache:
    return RemoteCache(folder)


@dataclass(frozen=True, slots=True)
class RunTag:
    """What every message of a run carries."""

    run_id: str
    settings: Settings
    started: float
    """Unix time."""

    def terms(self) -> RunTerms:
        """What the admission is told of the run."""
        settings = self.settings
        return RunTerms(
            self.run_id,
            settings.limits,
            settings.rates,
            tenant=settings.tenant,
            weight=settings.weight,
            age_s=time.time() - self.started,
        )

    def caller(self, depth: int) -> Caller:
        settings = self.settings
        return Caller(
            run_id=self.run_id,
            depth=depth,
            started=self.started,
            attempts=settings.attempts,
            limits=settings.limits,
            rates=settings.rates,
            prices=settings.prices,
            cache=_cache(settings.cache) if settings.cache else None,
        )


@dataclass(frozen=True, slots=True)
class SessionSpec:
    """A session to run."""

    run: RunTag
    path: tuple[int, ...]
    """The ordinals of the sub-calls that lead here from the root; empty for the root."""
    parent: str
    """The actor that sent it out; empty for the root."""
    query: str
    context: Parcel

    @property
    def depth(self) -> int:
        return len(self.path)

    @property
    def deadline(self) -> float | None:
        """Unix time at which the root stops."""
        limit = self.run.settings.limits.time_s
        return None if limit is None else self.run.started + limit


@dataclass(frozen=True, slots=True)
class Leaf:
    """One plain model call."""

    ordinal: int
    query: str
    part: Part


@dataclass(frozen=True, slots=True)
class LeafBatch:
    """Plain calls of one session, to be made side by side."""

    run: RunTag
    path: tuple[int, ...]
    """Of the session that asks."""
    leaves: tuple[Leaf, ...]
    context: Parcel | None
    """The asking session's, where a leaf refers to it."""

    @property
    def depth(self) -> int:
        return len(self.path) + 1


@dataclass(frozen=True, slots=True)
class RootState:
    """How far the root session is, for a live view."""

    turn: int = 0
    sub_calls: int = 0
    answered: int = 0
    usage: RunUsage = field(default_factory=RunUsage)
    """Of the whole tree."""
