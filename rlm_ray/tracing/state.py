"""What is open while the spans of a run are made: maps, linked traces; `attempts.py` has the sessions."""

from __future__ import annotations

from opentelemetry.context import Context

from rlm_ray.core.records import CallEnded, MapEnded, MapOpened
from rlm_ray.tracing import conventions as names
from rlm_ray.tracing.attributes import Attributes, Failure, Sums, map_end
from rlm_ray.tracing.sample import LeafSample
from rlm_ray.tracing.spans import Open, Spans


class Part:
    """One trace of a run: the main one, or a linked one with sessions that found no room before."""

    def __init__(self, number: int, root: Open, summary: Open | None = None) -> None:
        self.number = number
        """0 for the main trace."""
        self.root = root
        self.summary = summary
        """Stands for it in the main trace."""
        self.sessions = 0
        self.sums = Sums()

    def end(self, at: float) -> None:
        """Of a linked one."""
        counts = self.sums.attributes(names.TOTAL) | {f"{names.TOTAL}.sessions": self.sessions}
        self.root.end(at, counts)
        if self.summary is not None:
            self.summary.end(at, counts)


class Parts:
    """The traces of a run, each with at most `limit` sessions."""

    def __init__(self, spans: Spans, run_id: str, main: Open, limit: int) -> None:
        self._spans = spans
        self._run_id = run_id
        self._limit = limit
        self.main = Part(0, main)
        self._filling = self.main
        self._linked: list[Part] = []

    def place(self, parent: Part, at: float) -> Part:
        """Where a new session goes: to its parent's trace while that has room, else to the one that is being filled."""
        part = parent if parent.sessions < self._limit else self._filling
        if part.sessions >= self._limit:
            part = self._filling = self._open(at)
        part.sessions += 1
        return part

    def end(self, at: float) -> None:
        for part in self._linked:
            part.end(at)

    def _open(self, at: float) -> Part:
        number = len(self._linked) + 1
        said: Attributes = {names.CONVERSATION_ID: self._run_id, names.PART: number}
        title = f"part {number}"
        main = self.main.root
        root = self._spans.start(
            f"{names.WORKFLOW} rlm {title}",
            at,
            said | {names.OPERATION: names.WORKFLOW, names.WORKFLOW_NAME: "rlm"},
            Context(),
            links=[main.identity],
        )
        summary = self._spans.start(title, at, said, main.context, links=[root.identity])
        part = Part(number, root, summary)
        self._linked.append(part)
        return part


class MapSpan:
    """A map that goes on; counts its plain calls and chooses those that get spans."""

    def __init__(self, record: MapOpened, span: Open, bound: int) -> None:
        self.record = record
        self.span = span
        self.end: MapEnded | None = None
        self.sums = Sums()
        self._leaves = record.count - record.sessions
        self._bound = bound
        self._heard = 0
        self._kept = 0
        self._sample = LeafSample(record.first, record.count, bound) if self._leaves > bound else None

    def covers(self, ordinal: int) -> bool:
        return self.record.first <= ordinal < self.record.first + self.record.count

    def add(self, call: CallEnded, *, lost: bool = False) -> bool:
        """Count a leaf; True where it gets its span at once, before the others are known."""
        self.sums.add(call)
        self._heard += not lost
        if self._sample is not None:
            self._sample.add(call)
            return False
        self._kept += 1
        return self._kept <= self._bound or self.span.ended is not None

    @property
    def complete(self) -> bool:
        return self.end is not None and self._heard >= self._leaves

    def close(self, at: float, failure: Failure | None = None) -> list[CallEnded]:
        """End its span; the leaves that shall have spans."""
        chosen = self._sample.chosen() if self._sample is not None else []
        kept = len(chosen) if self._sample is not None else min(self._kept, self._bound)
        self._sample = None
        self.span.end(at if self.end is None else self.end.at, map_end(self.end, self.sums, kept), failure)
        return chosen
