"""`LiveRunState` adds up the records of a run for the live view. Pure and cheap: a record is a few additions.

Records come in any order and may come twice. Of plain sub-calls only their number is kept; of a session (`LiveSession`)
its counts and its question. `snapshot` returns what there is to show at one moment as plain values, ready to render.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rlm_ray.admission.protocol import RunStatus
from rlm_ray.core.limits import NANO, Amount, Limits
from rlm_ray.events.records import (
    CallEnded,
    CallSent,
    CellEnded,
    MapEnded,
    MapOpened,
    NodePath,
    Record,
    RunFinished,
    RunStarted,
    SessionEnded,
    SessionOpened,
    ToolEnded,
)
from rlm_ray.events.tree import SeenRecords
from rlm_ray.progress.waiting import WaitTracker

ROWS = 12
FAILED_ROWS = 3
SPEED_S = 10
"""Tokens per second are a mean over so long."""


STARTING = "starts"
ASKING = "asks the model"
RUNNING = "runs code"
WAITING = "waits for sub-calls"
QUERY_CHARS = 200


class LiveRunState:
    """The running sums of a run. `began`: when it was asked for."""

    def __init__(self, limits: Limits | None = None, began: float | None = None) -> None:
        self._limits = limits or Limits()
        self._began = began
        self._status: RunStatus | None = None
        self._waits = WaitTracker()
        self._seen = SeenRecords()
        self._root = LiveSession(())
        self._branches: dict[NodePath, LiveSession] = {(): self._root}
        self._open: dict[NodePath, LiveSession] = {}
        self._failures: deque[LiveSession] = deque(maxlen=FAILED_ROWS)
        self._opened_at: float | None = None
        self._ended: RunFinished | None = None
        self._sessions = self._finished = self._failed = 0
        self._calls = self._failed_calls = self._cache_hits = self._sent = self._settled = 0
        self._tokens = self._unpriced = self._retries = self._refused = 0
        self._cost_usd = 0.0
        self._tokens_by_second: dict[int, int] = {}
        self._take: dict[type, Callable[[Any], None]] = {
            RunStarted: self._run_opened,
            RunFinished: self._run_ended,
            SessionOpened: self._session_opened,
            SessionEnded: self._session_ended,
            CallSent: self._call_sent,
            CallEnded: self._call_ended,
            CellEnded: self._cell_ended,
            ToolEnded: lambda _: None,
            MapOpened: self._map_opened,
            MapEnded: self._map_ended,
        }

    def add(self, record: Record) -> None:
        """Take a record in, once."""
        if not self._seen.is_new(record):
            return
        self._waits.add(record)
        self._take[type(record)](record)

    def waits_for(self, what: str) -> None:
        """Take what keeps a session from beginning; empty: nothing does."""
        self._waits.waits_for(what)

    def status(self, status: RunStatus, now: float) -> None:
        """Take the status that the admission gives, as of now."""
        self._status = status
        self._waits.status(status, now)
        self._limits = status.limits if self._limits == Limits() else self._limits

    def view(self, now: float, rows: int = ROWS) -> Snapshot:
        """Return what to show, in at most so many rows."""
        status = self._status or RunStatus(max(self._sent - self._settled, 0))
        used = status.usage.total
        shown = self._select_rows(now, rows)
        running = sum(1 for branch in shown if branch.path in self._open)
        failed = sum(1 for branch in shown if branch.state == "error")
        over = sum(1 for branch in shown if branch.ended is not None)
        return Snapshot(
            rows=tuple(branch.row(now) for branch in shown),
            more_running=len(self._open) - running,
            hidden_finished=max(self._finished - over, 0),
            more_failed=max(self._failed - failed, 0),
            calls=max(self._calls, used.calls),
            failed_calls=self._failed_calls,
            cache_hits=self._cache_hits,
            in_flight=status.in_flight,
            waiting=status.waiting,
            waits_for=self._waits.text(now),
            sessions=max(self._sessions, status.usage.sessions),
            sessions_open=len(self._open),
            tokens=max(self._tokens, used.tokens),
            tokens_per_s=self._speed(now),
            cost_usd=max(self._cost_usd, used.cost_usd),
            unpriced=max(self._unpriced, used.unpriced),
            gauge=self._gauge(status.spent),
            retries=max(self._retries, used.retries),
            refused=self._refused,
            elapsed_s=self._elapsed_s(now),
            ended=self._ended.stop_reason if self._ended else "",
        )

    # Records

    def _run_opened(self, record: RunStarted) -> None:
        self._opened_at = record.at
        self._ended = None
        self._root.query = self._root.query or one_line(record.query)

    def _run_ended(self, record: RunFinished) -> None:
        self._ended = record
        self._open.clear()

    def _session_opened(self, record: SessionOpened) -> None:
        branch = self._branch(record.path)
        self._sessions += 1
        if branch.opened_at is not None:
            self._reset_session(branch)
        branch.open(record)
        line = (self._branch(record.path[:depth]) for depth in range(len(record.path) + 1))
        if self._ended is None and all(above.ended is None for above in line):
            self._open[record.path] = branch

    def _session_ended(self, record: SessionEnded) -> None:
        branch = self._branch(record.path)
        parent = self._parent(record.path)
        branch.ended = record
        self._finished += 1
        if branch.state == "error":
            self._failed += 1
            self._failures.append(branch)
        if parent is not None:
            parent.count(branch.state)
        self._close(branch)

    def _call_sent(self, record: CallSent) -> None:
        self._sent += 1
        if record.role != "leaf":
            branch = self._branch(record.path)
            branch.activity = ASKING
            branch.turn = max(branch.turn, record.call)

    def _call_ended(self, record: CallEnded) -> None:
        self._settle(record)
        failed = bool(record.error_kind)
        if record.role == "leaf":
            self._branch(record.path[:-1]).count("error" if failed else "ok")
            return
        branch = self._branch(record.path)
        branch.turn = max(branch.turn, record.call)
        if not failed and record.role == "turn":
            branch.activity = RUNNING

    def _cell_ended(self, record: CellEnded) -> None:
        branch = self._branch(record.path)
        branch.turn = max(branch.turn, record.turn)
        branch.activity = ASKING

    def _map_opened(self, record: MapOpened) -> None:
        branch = self._branch(record.path)
        branch.sub_calls += record.count
        branch.maps.add(record.first)
        branch.activity = WAITING

    def _map_ended(self, record: MapEnded) -> None:
        branch = self._branch(record.path)
        branch.maps.discard(record.first)
        if not branch.maps and branch.activity == WAITING:
            branch.activity = RUNNING

    # How

    def _settle(self, record: CallEnded) -> None:
        self._settled += 0 if record.cache_hit else 1
        self._retries += len(record.tries)
        self._refused += sum(1 for attempt in record.tries if attempt.kind == "rate_limited")
        if record.error_kind:
            self._failed_calls += 1
        elif record.cache_hit:
            self._cache_hits += 1
        else:
            self._calls += 1
            self._cost_usd += record.cost_usd or 0.0
            self._unpriced += record.cost_usd is None
            tokens = record.usage.tokens
            self._tokens += tokens
            second = int(record.at)
            self._tokens_by_second[second] = self._tokens_by_second.get(second, 0) + tokens

    def _branch(self, path: NodePath) -> LiveSession:
        known = self._branches.get(path)
        if known is None:
            known = self._branches[path] = LiveSession(path)
            self._branch(path[:-1]).children[path] = known
        return known

    def _parent(self, path: NodePath) -> LiveSession | None:
        return self._branch(path[:-1]) if path else None

    def _reset_session(self, branch: LiveSession) -> None:
        """Begin a session anew: how it ended before, and what was below it, counts no more."""
        parent = self._parent(branch.path)
        if branch.ended is not None:
            self._finished -= 1
            self._failed -= branch.state == "error"
            if parent is not None:
                parent.count(branch.state, -1)
        if branch in self._failures:
            self._failures.remove(branch)
        for below in list(_below(branch)):
            self._branches.pop(below.path, None)
            self._open.pop(below.path, None)
            self._finished -= below.ended is not None
            self._failed -= below.state == "error"

    def _close(self, branch: LiveSession) -> None:
        """Close a session with all below it."""
        if self._open.pop(branch.path, None) is not None:
            for below in _below(branch):
                self._open.pop(below.path, None)
        branch.children.clear()

    def _select_rows(self, now: float, rows: int) -> list[LiveSession]:
        """Choose the root; what failed last; the sessions with most to wait for, then the slowest; and those between."""
        ranked = heapq.nlargest(rows, self._open.values(), key=lambda branch: _row_priority(branch, now))
        kept: dict[NodePath, LiveSession] = {(): self._root}
        for branch in (*ranked[: rows // 2], *reversed(self._failures), *ranked[rows // 2 :]):
            line = [branch.path[:depth] for depth in range(1, len(branch.path) + 1)]
            new = [path for path in line if path not in kept and path in self._branches]
            if len(kept) + len(new) <= rows:
                kept |= {path: self._branches[path] for path in new}
        return [kept[path] for path in sorted(kept)]

    def _speed(self, now: float) -> float:
        since = int(now) - SPEED_S
        for second in [second for second in self._tokens_by_second if second < since]:
            del self._tokens_by_second[second]
        return sum(self._tokens_by_second.values()) / min(max(self._elapsed_s(now), 1.0), SPEED_S)

    def _elapsed_s(self, now: float) -> float:
        known = (self._began, self._root.opened_at if self._opened_at is None else self._opened_at)
        began = min((moment for moment in known if moment is not None), default=None)
        until = now if self._ended is None else self._ended.at
        return 0.0 if began is None else max(until - began, 0.0)

    def _gauge(self, spent: Amount) -> LimitUsage | None:
        """Return the limit that is nearest to its end. `spent` also holds what nobody knows the truth of, so it may
        be more than what calls are known to have used.
        """
        limits = self._limits
        used: Iterable[tuple[str, float, float | None]] = (
            ("cost_usd", max(self._cost_usd, spent.nano_usd / NANO), limits.cost_usd),
            ("tokens", max(self._tokens, spent.tokens), limits.tokens),
            ("calls", max(self._calls, spent.calls), limits.calls),
        )
        gauges = [LimitUsage(name, amount, limit) for name, amount, limit in used if limit is not None]
        return max(gauges, key=lambda gauge: gauge.share, default=None)


def _row_priority(branch: LiveSession, now: float) -> tuple[int, float]:
    return branch.pending, now - (branch.opened_at or now)


def _below(branch: LiveSession) -> Iterable[LiveSession]:
    stack = list(branch.children.values())
    while stack:
        below = stack.pop()
        yield below
        stack.extend(below.children.values())


@dataclass(eq=False, slots=True)
class LiveSession:
    """A session under way, or over."""

    path: NodePath
    query: str = ""
    opened_at: float | None = None
    ended: SessionEnded | None = None
    activity: str = STARTING
    turn: int = 0
    sub_calls: int = 0
    answered: int = 0
    failed: int = 0
    maps: set[int] = field(default_factory=set)
    """The first ordinals of those under way."""
    children: dict[NodePath, LiveSession] = field(default_factory=dict)
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
        """Return the number of sub-calls that are not over."""
        return max(self.sub_calls - self.answered - self.failed, 0)

    def open(self, record: SessionOpened) -> None:
        """Note that the session begins, or begins anew. Other processes may have told what it did before this is told."""
        if self.opened_at is not None:
            self.turn = self.sub_calls = self.answered = self.failed = 0
            self.activity = STARTING
            self.maps.clear()
            self.children.clear()
            self.ended = None
        self.query = one_line(record.query)
        self.opened_at = record.at

    def count(self, state: str, by: int = 1) -> None:
        """Count a sub-call that ended in this state; with -1 take it back."""
        if state == "error":
            self.failed += by
        else:
            self.answered += by

    def row(self, now: float) -> Row:
        began = now if self.opened_at is None else self.opened_at
        until = now if self.ended is None else self.ended.at
        return Row(
            self.path, self.query, self.state, self._status_text(), self.turn, self.sub_calls, self.answered,
            self.failed, max(until - began, 0.0),
        )  # fmt: skip

    def _status_text(self) -> str:
        if self.ended is None:
            return self.activity
        return one_line(self.ended.error_kind or self.ended.stop_reason)


def one_line(query: str) -> str:
    """Return the head of a question, in one line and without what a terminal would obey."""
    head = "".join(letter if letter.isprintable() else " " for letter in query[:QUERY_CHARS])
    return " ".join(head.split())


@dataclass(frozen=True, slots=True)
class Row:
    """The row of one session in the live view."""

    path: NodePath
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
class LimitUsage:
    """A limit and how much of it is used."""

    name: str
    """A field of `Limits`."""
    used: float
    limit: float

    @property
    def share(self) -> float:
        return min(self.used / self.limit, 1.0) if self.limit else 1.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A run at one moment."""

    rows: tuple[Row, ...] = ()
    """The root first, then the branches that matter most, each behind its parent."""
    more_running: int = 0
    """Sessions under way without a row."""
    hidden_finished: int = 0
    more_failed: int = 0
    calls: int = 0
    """Answered model calls."""
    failed_calls: int = 0
    cache_hits: int = 0
    in_flight: int = 0
    waiting: Mapping[str, int] = field(default_factory=dict)
    """See `RunStatus.waiting`."""
    waits_for: str = ""
    """What is waited for at this moment, and why; empty where it is over."""
    sessions: int = 0
    """Ever opened."""
    sessions_open: int = 0
    tokens: int = 0
    tokens_per_s: float = 0.0
    cost_usd: float = 0.0
    unpriced: int = 0
    """Answers whose price is not known."""
    gauge: LimitUsage | None = None
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

    @property
    def has_begun(self) -> bool:
        """Tell whether there is anything to show but what is waited for."""
        return bool(self.sessions or self.calls or self.ended)
