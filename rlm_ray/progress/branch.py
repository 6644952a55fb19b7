"""A `Branch` is a session as the live view knows it: counts, never texts but its question."""

from __future__ import annotations

from dataclasses import dataclass, field

from rlm_ray.core.records import Path, SessionEnded, SessionOpened
from rlm_ray.progress.view import Row

STARTING = "starts"
ASKING = "asks the model"
RUNNING = "runs code"
WAITING = "waits for sub-calls"
QUERY_CHARS = 200


@dataclass(eq=False, slots=True)
class Branch:
    """A session under way, or over."""

    path: Path
    query: str = ""
    opened_at: float | None = None
    ended: SessionEnded | None = None
    doing: str = STARTING
    turn: int = 0
    sub_calls: int = 0
    answered: int = 0
    failed: int = 0
    maps: set[int] = field(default_factory=set)
    """The first ordinals of those under way."""
    children: dict[Path, Branch] = field(default_factory=dict)
    """Sessions below it."""

    @property
    def state(self) -> str:
        if self.ended is None:
            return "running"
        if self.ended.error_kind:
            return "error"
        return "ok" if self.ended.stop_reason == "answered" else "stopped"

    @property
    def pending(self) -> int:
        """Sub-calls that are not over."""
        return max(self.sub_calls - self.answered - self.failed, 0)

    def open(self, record: SessionOpened) -> None:
        """It begins, or begins anew. What it did may be known before: that was written elsewhere."""
        if self.opened_at is not None:
            self.turn = self.sub_calls = self.answered = self.failed = 0
            self.doing = STARTING
            self.maps.clear()
            self.children.clear()
            self.ended = None
        self.query = shown(record.query)
        self.opened_at = record.at

    def count(self, state: str, by: int = 1) -> None:
        """A sub-call of it ended in this state; with -1 it did not, after all."""
        if state == "error":
            self.failed += by
        else:
            self.answered += by

    def row(self, now: float) -> Row:
        began = now if self.opened_at is None else self.opened_at
        until = now if self.ended is None else self.ended.at
        return Row(
            self.path, self.query, self.state, self._words(), self.turn, self.sub_calls, self.answered,
            self.failed, max(until - began, 0.0),
        )  # fmt: skip

    def _words(self) -> str:
        if self.ended is None:
            return self.doing
        return shown(self.ended.error_kind or self.ended.stop_reason)


def shown(query: str) -> str:
    """Its head, in one line and without what a terminal would obey."""
    head = "".join(letter if letter.isprintable() else " " for letter in query[:QUERY_CHARS])
    return " ".join(head.split())
