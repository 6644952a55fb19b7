"""The `Attempts` at the sessions of a run: one for each actor that a session was tried in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rlm_ray.core.records import CallEnded, CallSent, MapEnded, Path, SessionEnded
from rlm_ray.tracing import conventions as names
from rlm_ray.tracing.spans import Open
from rlm_ray.tracing.state import MapSpan, Part


@dataclass(eq=False, slots=True)
class Attempt:
    """A session in one actor."""

    path: Path
    number: int
    span: Open
    part: Part
    parent: Attempt | None
    end: SessionEnded | None = None
    maps: list[MapSpan] = field(default_factory=list)
    sent: dict[tuple[Path, int], CallSent] = field(default_factory=dict)
    """Calls of itself and its leaves that have no end yet."""
    held: list[CallEnded | MapEnded] = field(default_factory=list)
    """What waits for its map to be heard of."""

    def map_of(self, ordinal: int) -> MapSpan | None:
        return next((found for found in reversed(self.maps) if found.covers(ordinal)), None)

    @property
    def fate(self) -> tuple[float | None, str]:
        """When it ended, or what it ran below did, and what became of all that was open then."""
        if self.end is not None:
            return self.span.ended, names.LOST if self.end.error_kind else names.NOT_FINISHED
        return (None, names.NOT_FINISHED) if self.parent is None else self.parent.fate


class Attempts:
    """All of a run, those of one session by the time they began."""

    def __init__(self) -> None:
        self._of: dict[Path, list[Attempt]] = {}

    def __iter__(self) -> Iterator[Attempt]:
        return (attempt for attempts in self._of.values() for attempt in attempts)

    def of(self, path: Path) -> Sequence[Attempt]:
        return self._of.get(path, ())

    def add(self, attempt: Attempt) -> None:
        attempts = self._of.setdefault(attempt.path, [])
        attempts.append(attempt)
        attempts.sort(key=lambda attempt: attempt.span.started)

    def at(self, path: Path, moment: float) -> Attempt | None:
        """The one of a session that was under way then."""
        known = self.of(path)
        return next(
            (attempt for attempt in reversed(known) if attempt.span.started <= moment),
            known[0] if known else None,
        )

    def above(self, path: Path, moment: float) -> Attempt | None:
        """The one of the nearest session above that is known."""
        while path:
            path = path[:-1]
            if (found := self.at(path, moment)) is not None:
                return found
        return None

    def unended(self, path: Path, number: int) -> Attempt | None:
        return next(
            (
                found
                for found in reversed(self.of(path))
                if found.number == number and found.span.ended is None
            ),
            None,
        )
