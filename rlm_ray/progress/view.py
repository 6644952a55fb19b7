"""What there is to show of a run at one moment: plain values, ready to be drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rlm_ray.core.records import Path


@dataclass(frozen=True, slots=True)
class Row:
    """One session."""

    path: Path
    query: str
    state: str
    """`running`, `ok`, `stopped` (by a limit) or `error`."""
    doing: str
    """What it is at, or how it ended; a few words."""
    turn: int
    """Under way, from 1; 0 before the first."""
    sub_calls: int
    answered: int
    failed: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Gauge:
    """How much of a limit is used."""

    name: str
    """A field of `Limits`."""
    used: float
    limit: float

    @property
    def share(self) -> float:
        return min(self.used / self.limit, 1.0) if self.limit else 1.0


@dataclass(frozen=True, slots=True)
class View:
    """A run at one moment."""

    rows: tuple[Row, ...] = ()
    """The root first, then the branches that matter most, each behind its parent."""
    more_running: int = 0
    """Sessions under way without a row."""
    more_over: int = 0
    more_failed: int = 0
    calls: int = 0
    """Answered model calls."""
    failed_calls: int = 0
    cache_hits: int = 0
    in_flight: int = 0
    waiting: Mapping[str, int] = field(default_factory=dict)
    """See `RunStatus.waiting`."""
    sessions: int = 0
    """Ever opened."""
    sessions_open: int = 0
    tokens: int = 0
    tokens_per_s: float = 0.0
    cost_usd: float = 0.0
    unpriced: int = 0
    """Answers whose price is not known."""
    gauge: Gauge | None = None
    """The limit on spending that is nearest to its end; None where there is none."""
    retries: int = 0
    refused: int = 0
    """Attempts answered with 429."""
    elapsed_s: float = 0.0
    ended: str = ""
    """The stop reason; empty while it goes on."""

    @property
    def root(self) -> Row | None:
        return self.rows[0] if self.rows else None
