"""What a run may spend (`Limits`) and how fast an account may be asked (`Rates`).

Both are plain values a user writes down, checked when they are made: what is wrong is said then, in one
sentence, and not an hour into a run. None always means "not limited by you": for `Rates` it is then learned
from the provider.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from rlm_ray.core.setting_rules import Number, Whole, check_fields

YEAR_S = 365 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Limits:
    """The most a whole recursion tree may use: root, children and plain sub-calls together."""

    cost_usd: Annotated[float | None, Number(0, 1e9, "US dollars")] = None
    """US dollars. 0 lets only models run that cost nothing."""
    tokens: Annotated[int | None, Whole(1, 10**15)] = None
    """Input and output tokens together."""
    calls: Annotated[int | None, Whole(1, 10**12)] = None
    """Answered model calls; a retry of a call is not a new one."""
    sessions: Annotated[int | None, Whole(1, 10**12)] = None
    """Sessions ever opened, the root included."""
    time_s: Annotated[float | None, Number(0, YEAR_S, "seconds", above=True)] = None
    """Wall-clock seconds from the start of the run."""

    def __post_init__(self) -> None:
        check_fields(self, "limits.")


@dataclass(frozen=True, slots=True)
class Rates:
    """How fast one account may be asked, by everything in the cluster together."""

    rpm: Annotated[float | None, Number(0, 1e9, "requests per minute", above=True)] = None
    """Requests per minute."""
    tpm: Annotated[float | None, Number(0, 1e15, "tokens per minute", above=True)] = None
    """Tokens per minute, input and output together."""
    input_tpm: Annotated[float | None, Number(0, 1e15, "tokens per minute", above=True)] = None
    """Input tokens per minute, where the provider counts them apart."""
    output_tpm: Annotated[float | None, Number(0, 1e15, "tokens per minute", above=True)] = None
    """Output tokens per minute, where the provider counts them apart."""
    in_flight: Annotated[int | None, Whole(1, 10**6)] = None
    """Requests under way at the same time."""

    def __post_init__(self) -> None:
        check_fields(self, "rates.")
