"""The order in which the waiting requests of one account go.

1. Interactive before batch: of ten parts of work, nine are interactive while both wait; batch never starves.
2. Between flows (a tenant, or a run without one): fair shares by weight, see `FairScheduler`.
3. Within a flow: the oldest root first, then the deepest, then first come. Old trees finish before new ones
   open, so the first answers come early and few sessions are open at once.
4. What was next and must wait for the rate stays next (`pin`): a large request is not overtaken by small ones
   that would still fit. Only rule 3 puts anyone before another for long, and trees are finite.

Removal is lazy: a removed id is skipped when it comes first.

`FairScheduler` is start-time fair queueing: the flow that has had least for its weight is first. One that was idle
starts level with the one served last: idling saves nothing up, and asking for one thing at a time earns no more than
queueing all at once.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

CLASS_WEIGHTS = {"interactive": 9.0, "batch": 1.0}


@dataclass(frozen=True, slots=True)
class FlowKey:
    """Names the requests that share as one flow: a tenant's or a run's."""

    name: str
    weight: float = 1.0
    interactive: bool = True

    @property
    def priority_class(self) -> str:
        return "interactive" if self.interactive else "batch"


@dataclass(frozen=True, slots=True, order=True)
class QueueEntry:
    """The position of a request in its flow; the smaller goes first."""

    root_order: float
    """The age of its root, as the number or the moment the root came with."""
    neg_depth: int
    """Minus the depth, so that the deeper goes first."""
    arrival: int
    request_id: str = field(compare=False)
    flow: FlowKey = field(compare=False)
    work: float = field(compare=False, default=1.0)
    """What a grant costs its flow."""


class Queue:
    """Holds waiting requests; `first` is the next one, `grant` and `remove` take one out."""

    __slots__ = ("_classes", "_entries", "_flows_by_class", "_heaps", "_pinned")

    def __init__(self) -> None:
        self._entries: dict[str, QueueEntry] = {}
        self._heaps: dict[tuple[str, str], list[QueueEntry]] = {}
        self._classes = FairScheduler()
        self._flows_by_class = {priority_class: FairScheduler() for priority_class in CLASS_WEIGHTS}
        self._pinned: str | None = None

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, request_id: object) -> bool:
        return request_id in self._entries

    def add(self, entry: QueueEntry) -> None:
        flow = entry.flow
        self._entries[entry.request_id] = entry
        heapq.heappush(self._heaps.setdefault((flow.priority_class, flow.name), []), entry)
        self._flows_by_class[flow.priority_class].activate(flow.name, flow.weight)
        self._classes.activate(flow.priority_class, CLASS_WEIGHTS[flow.priority_class])

    def remove(self, request_id: str) -> QueueEntry | None:
        """Take a request out without a charge; None where it does not wait here."""
        if self._pinned == request_id:
            self._pinned = None
        return self._entries.pop(request_id, None)

    def first(self) -> QueueEntry | None:
        """Return the next request; None where none waits."""
        if self._pinned is not None:
            return self._entries[self._pinned]
        while (priority_class := self._classes.peek()) is not None:
            entry = self._first_of(priority_class)
            if entry is not None:
                return entry
            self._classes.deactivate(priority_class)
        return None

    def pin(self, request_id: str) -> None:
        """Keep this request first until it is granted or removed."""
        self._pinned = request_id

    def grant(self, request_id: str) -> QueueEntry:
        """Take a request out and charge its flow."""
        entry = self._entries[request_id]
        self.remove(request_id)
        self._classes.charge(entry.flow.priority_class, entry.work)
        self._flows_by_class[entry.flow.priority_class].charge(entry.flow.name, entry.work)
        return entry

    def _first_of(self, priority_class: str) -> QueueEntry | None:
        flows = self._flows_by_class[priority_class]
        while (name := flows.peek()) is not None:
            heap = self._heaps[priority_class, name]
            while heap and self._entries.get(heap[0].request_id) is not heap[0]:
                heapq.heappop(heap)
            if heap:
                return heap[0]
            del self._heaps[priority_class, name]
            flows.deactivate(name)
        return None


@dataclass(slots=True)
class _Flow:
    weight: float
    virtual_time: float
    """Work done, divided by weight."""
    version: int = 0
    """The entry of the heap that counts; 0 while it asks for nothing."""


class FairScheduler:
    """Says which flow is next."""

    __slots__ = ("_flows", "_heap", "_version", "_virtual_clock")

    def __init__(self) -> None:
        self._flows: dict[str, _Flow] = {}
        self._heap: list[tuple[float, int, str]] = []
        self._virtual_clock = 0.0
        self._version = 0

    def activate(self, name: str, weight: float) -> None:
        """Let a flow take part: it has requests."""
        flow = self._flows.setdefault(name, _Flow(weight, self._virtual_clock))
        flow.weight = weight
        if not flow.version:
            flow.virtual_time = max(flow.virtual_time, self._virtual_clock)
            self._push(name, flow)

    def peek(self) -> str | None:
        while self._heap:
            _, version, name = self._heap[0]
            if name in self._flows and self._flows[name].version == version:
                return name
            heapq.heappop(self._heap)
        self._flows.clear()  # nobody asks: whoever comes next starts level, and nothing is kept of flows that are over
        return None

    def charge(self, name: str, work: float) -> None:
        """Charge a flow for work."""
        flow = self._flows[name]
        self._virtual_clock = max(self._virtual_clock, flow.virtual_time)
        flow.virtual_time += work / flow.weight
        if flow.version:
            self._push(name, flow)

    def deactivate(self, name: str) -> None:
        """Take a flow out: it has no requests. What it has used is remembered as long as it matters."""
        self._flows[name].version = 0
        if len(self._flows) > 100 + 2 * len(self._heap):
            self._flows = {
                name: flow
                for name, flow in self._flows.items()
                if flow.version or flow.virtual_time > self._virtual_clock
            }

    def _push(self, name: str, flow: _Flow) -> None:
        self._version += 1
        flow.version = self._version
        heapq.heappush(self._heap, (flow.virtual_time, self._version, name))
