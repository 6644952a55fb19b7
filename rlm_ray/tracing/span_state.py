"""The open spans of a run while they are made: attempts at sessions, maps, and the linked traces of large runs.

A session has one `Attempt` for each actor that it was tried in.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from opentelemetry.context import Context

from rlm_ray.events.records import CallEnded, CallSent, MapEnded, MapOpened, NodePath, SessionEnded
from rlm_ray.tracing import conventions as names
from rlm_ray.tracing.attributes import Attributes, CallTotals, Failure, map_end_attributes
from rlm_ray.tracing.spans import ActiveSpan, Spans

_Key: TypeAlias = "tuple[int, int, float]"
"""A leaf that was sent again after its actor died has two ends."""


class CallSampler:
    """The leaves worth a span, of `count` with ordinals from `first`."""

    def __init__(self, first: int, count: int, bound: int) -> None:
        self._first = first
        self._bound = bound
        self._stride = max(1, math.ceil(count / bound)) if bound else 0
        self._errors = TopK(bound)
        self._slowest = TopK(bound // 4)
        self._costliest = TopK(bound // 4)
        self._even = TopK(bound)

    def add(self, call: CallEnded) -> None:
        ordinal = call.path[-1]
        if call.error_kind:
            self._errors.add((-ordinal,), call)
        self._slowest.add((call.at - call.started, -ordinal), call)
        if call.cost_usd:
            self._costliest.add((call.cost_usd, -ordinal), call)
        if self._stride and (ordinal - self._first) % self._stride == 0:
            self._even.add((-ordinal,), call)

    def selected(self) -> list[CallEnded]:
        """Return the chosen calls by ordinal."""
        kept: dict[_Key, CallEnded] = {}
        for group in (self._errors, self._slowest, self._costliest):
            self._keep(kept, group.items())
        others = [call for call in self._even.items() if _key(call) not in kept]
        self._keep(kept, _evenly(others, self._bound - len(kept)))
        return sorted(kept.values(), key=_key)

    def _keep(self, kept: dict[_Key, CallEnded], calls: Iterable[CallEnded]) -> None:
        for call in calls:
            if len(kept) >= self._bound:
                return
            kept.setdefault(_key(call), call)


class TopK:
    """The few with the largest keys."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._heap: list[tuple[tuple[float, ...], int, CallEnded]] = []
        self._count = 0

    def add(self, key: tuple[float, ...], call: CallEnded) -> None:
        self._count += 1  # so that equal keys never compare calls
        if len(self._heap) < self._most:
            heapq.heappush(self._heap, (key, self._count, call))
        elif self._heap and key > self._heap[0][0]:
            heapq.heapreplace(self._heap, (key, self._count, call))

    def items(self) -> list[CallEnded]:
        """Return the calls, the largest first."""
        return [call for _, _, call in sorted(self._heap, key=lambda entry: entry[0], reverse=True)]


def _key(call: CallEnded) -> _Key:
    return call.path[-1], call.call, call.at


def _evenly(calls: list[CallEnded], count: int) -> list[CallEnded]:
    if count <= 0:
        return []
    if len(calls) <= count:
        return calls
    return [calls[place * len(calls) // count] for place in range(count)]


@dataclass(eq=False, slots=True)
class Attempt:
    """A session in one actor."""

    path: NodePath
    number: int
    span: ActiveSpan
    shard: TraceShard
    parent: Attempt | None
    end: SessionEnded | None = None
    maps: list[MapSpan] = field(default_factory=list)
    pending_calls: dict[tuple[NodePath, int], CallSent] = field(default_factory=dict)
    """Calls of itself and its leaves that have no end yet."""
    deferred: list[CallEnded | MapEnded] = field(default_factory=list)
    """What waits for the record of its map."""

    def map_of(self, ordinal: int) -> MapSpan | None:
        return next((found for found in reversed(self.maps) if found.covers(ordinal)), None)

    @property
    def final_state(self) -> tuple[float | None, str]:
        """Return when it ended, or what it ran below did, and what became of all that was open then."""
        if self.end is not None:
            return self.span.ended, names.LOST if self.end.error_kind else names.NOT_FINISHED
        return (None, names.NOT_FINISHED) if self.parent is None else self.parent.final_state


class Attempts:
    """All attempts of a run, those of one session by the time they began."""

    def __init__(self) -> None:
        self._of: dict[NodePath, list[Attempt]] = {}

    def __iter__(self) -> Iterator[Attempt]:
        return (attempt for attempts in self._of.values() for attempt in attempts)

    def for_path(self, path: NodePath) -> Sequence[Attempt]:
        return self._of.get(path, ())

    def add(self, attempt: Attempt) -> None:
        attempts = self._of.setdefault(attempt.path, [])
        attempts.append(attempt)
        attempts.sort(key=lambda attempt: attempt.span.started)

    def active_at(self, path: NodePath, moment: float) -> Attempt | None:
        """Return the attempt of a session that was under way then."""
        known = self.for_path(path)
        return next(
            (attempt for attempt in reversed(known) if attempt.span.started <= moment),
            known[0] if known else None,
        )

    def nearest_ancestor(self, path: NodePath, moment: float) -> Attempt | None:
        """Return the attempt of the nearest session above that is known."""
        while path:
            path = path[:-1]
            if (found := self.active_at(path, moment)) is not None:
                return found
        return None

    def open_attempts(self, path: NodePath, number: int) -> Attempt | None:
        return next(
            (
                found
                for found in reversed(self.for_path(path))
                if found.number == number and found.span.ended is None
            ),
            None,
        )


class TraceShard:
    """One trace of a run: the main one, or a linked one with sessions that found no room before."""

    def __init__(self, number: int, root: ActiveSpan, summary: ActiveSpan | None = None) -> None:
        self.number = number
        """0 for the main trace."""
        self.root = root
        self.link_span = summary
        """Stands for it in the main trace."""
        self.sessions = 0
        self.sums = CallTotals()

    def end(self, at: float) -> None:
        """End a linked trace."""
        counts = self.sums.attributes(names.TOTAL) | {f"{names.TOTAL}.sessions": self.sessions}
        self.root.end(at, counts)
        if self.link_span is not None:
            self.link_span.end(at, counts)


class TraceShards:
    """The traces of a run, each with at most `limit` sessions."""

    def __init__(self, spans: Spans, run_id: str, main: ActiveSpan, limit: int) -> None:
        self._spans = spans
        self._run_id = run_id
        self._limit = limit
        self.primary = TraceShard(0, main)
        self._filling = self.primary
        self._linked: list[TraceShard] = []

    def assign(self, parent: TraceShard, at: float) -> TraceShard:
        """Return where a new session goes: to its parent's trace while that has room, else to the one that is being
        filled.
        """
        shard = parent if parent.sessions < self._limit else self._filling
        if shard.sessions >= self._limit:
            shard = self._filling = self._open(at)
        shard.sessions += 1
        return shard

    def end(self, at: float) -> None:
        for shard in self._linked:
            shard.end(at)

    def _open(self, at: float) -> TraceShard:
        number = len(self._linked) + 1
        attributes: Attributes = {names.CONVERSATION_ID: self._run_id, names.PART: number}
        title = f"part {number}"
        main = self.primary.root
        root = self._spans.start(
            f"{names.WORKFLOW} rlm {title}",
            at,
            attributes | {names.OPERATION: names.WORKFLOW, names.WORKFLOW_NAME: "rlm"},
            Context(),
            links=[main.span_context],
        )
        summary = self._spans.start(title, at, attributes, main.context, links=[root.span_context])
        shard = TraceShard(number, root, summary)
        self._linked.append(shard)
        return shard


class MapSpan:
    """A map that goes on; counts its plain calls and chooses those that get spans."""

    def __init__(self, record: MapOpened, span: ActiveSpan, bound: int) -> None:
        self.record = record
        self.span = span
        self.end: MapEnded | None = None
        self.sums = CallTotals()
        self._leaves = record.count - record.sessions
        self._bound = bound
        self._received = 0
        self._with_span = 0
        self._sample = CallSampler(record.first, record.count, bound) if self._leaves > bound else None

    def covers(self, ordinal: int) -> bool:
        return self.record.first <= ordinal < self.record.first + self.record.count

    def add(self, call: CallEnded, *, lost: bool = False) -> bool:
        """Count a leaf; True where it gets its span at once, before the others are known."""
        self.sums.add(call)
        self._received += not lost
        if self._sample is not None:
            self._sample.add(call)
            return False
        self._with_span += 1
        return self._with_span <= self._bound or self.span.ended is not None

    @property
    def complete(self) -> bool:
        return self.end is not None and self._received >= self._leaves

    def close(self, at: float, failure: Failure | None = None) -> list[CallEnded]:
        """End its span; the leaves that shall have spans."""
        chosen = self._sample.selected() if self._sample is not None else []
        with_span = len(chosen) if self._sample is not None else min(self._with_span, self._bound)
        self._sample = None
        self.span.end(
            at if self.end is None else self.end.at,
            map_end_attributes(self.end, self.sums, with_span),
            failure,
        )
        return chosen
