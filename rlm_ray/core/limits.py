"""What a run may spend (`Limits`) and how fast an account may be asked (`Rates`).

Both are plain values a user writes down, checked when they are made: what is wrong is said then, in one
sentence, and not an hour into a run. None always means "not limited by you": for `Rates` it is then learned
from the provider.
"""

from __future__ import annotations

from dataclasses import dataclass

from rlm_ray.errors import ConfigError

YEAR_S = 365 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Limits:
    """The most a whole recursion tree may use: root, children and plain sub-calls together."""

    cost_usd: float | None = None
    """US dollars. 0 lets only models run that cost nothing."""
    tokens: int | None = None
    """Input and output tokens together."""
    calls: int | None = None
    """Answered model calls; a retry of a call is not a new one."""
    sessions: int | None = None
    """Sessions ever opened, the root included."""
    time_s: float | None = None
    """Wall-clock seconds from the start of the run."""

    def __post_init__(self) -> None:
        _check_number("limits.cost_usd", self.cost_usd, most=1e9, zero=True, unit="US dollars")
        _check_count("limits.tokens", self.tokens, most=10**15)
        _check_count("limits.calls", self.calls, most=10**12)
        _check_count("limits.sessions", self.sessions, most=10**12)
        _check_number("limits.time_s", self.time_s, most=YEAR_S, unit="seconds")


@dataclass(frozen=True, slots=True)
class Rates:
    """How fast one account may be asked, by everything in the cluster together."""

    rpm: float | None = None
    """Requests per minute."""
    tpm: float | None = None
    """Tokens per minute, input and output together."""
    input_tpm: float | None = None
    """Input tokens per minute, where the provider counts them apart."""
    output_tpm: float | None = None
    """Output tokens per minute, where the provider counts them apart."""
    in_flight: int | None = None
    """Requests under way at the same time."""

    def __post_init__(self) -> None:
        _check_number("rates.rpm", self.rpm, most=1e9, unit="requests per minute")
        _check_number("rates.tpm", self.tpm, most=1e15, unit="tokens per minute")
        _check_number("rates.input_tpm", self.input_tpm, most=1e15, unit="tokens per minute")
        _check_number("rates.output_tpm", self.output_tpm, most=1e15, unit="tokens per minute")
        _check_count("rates.in_flight", self.in_flight, most=10**6)


def _check_number(name: str, value: object, *, most: float, unit: str, zero: bool = False) -> None:
    if value is None:
        return
    if (
        isinstance(value, float | int)
        and not isinstance(value, bool)
        and 0 <= value <= most
        and (value or zero)
    ):
        return  # NaN fails the comparison, infinity and huge integers the upper bound
    least = "at least 0" if zero else "above 0"
    raise ConfigError(
        name, f"must be a number of {unit}, {least} and at most {most:g}, or None; got {value!r}"
    )


def _check_count(name: str, value: object, *, most: int) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise ConfigError(name, f"must be a whole number from 1 to {most}, or None; got {value!r}")
