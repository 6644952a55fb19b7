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
    """Names the requests that share as one party: a tenant's or a run's."""

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
    ticket: str = field(compare=False)
    lane: FlowKey = field(compare=False)
    work: float = field(compare=False, default=1.0)
    """What a grant costs its flow."""


class Queue:
    """Holds waiting requests; `first` is the next one, `grant` and `remove` take one out."""

    __slots__ = ("_classes", "_heaps", "_held", "_lanes", "_places")

    def __init__(self) -> None:
        self._places: dict[str, QueueEntry] = {}
        self._heaps: dict[tuple[str, str], list[QueueEntry]] = {}
        self._classes = FairScheduler()
        self._lanes = {rank: FairScheduler() for rank in CLASS_WEIGHTS}
        self._held: str | None = None

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, ticket: object) -> bool:
        return ticket in self._places

    def add(self, place: QueueEntry) -> None:
        lane = place.lane
        self._places[place.ticket] = place
        heapq.heappush(self._heaps.setdefault((lane.priority_class, lane.name), []), place)
        self._lanes[lane.priority_class].activate(lane.name, lane.weight)
        self._classes.activate(lane.priority_class, CLASS_WEIGHTS[lane.priority_class])

    def remove(self, ticket: str) -> QueueEntry | None:
        """Take a request out without a charge; None where it does not wait here."""
        if self._held == ticket:
            self._held = None
        return self._places.pop(ticket, None)

    def first(self) -> QueueEntry | None:
        """Return the next request; None where none waits."""
        if self._held is not None:
            return self._places[self._held]
        while (rank := self._classes.peek()) is not None:
            place = self._first_of(rank)
            if place is not None:
                return place
            self._classes.deactivate(rank)
        return None

    def pin(self, ticket: str) -> None:
        """Keep this request first until it is granted or removed."""
        self._held = ticket

    def grant(self, ticket: str) -> QueueEntry:
        """Take a request out and charge its flow."""
        place = self._places[ticket]
        self.remove(ticket)
        self._classes.charge(place.lane.priority_class, place.work)
        self._lanes[place.lane.priority_class].charge(place.lane.name, place.work)
        return place

    def _first_of(self, rank: str) -> QueueEntry | None:
        lanes = self._lanes[rank]
        while (name := lanes.peek()) is not None:
            heap = self._heaps[rank, name]
            while heap and self._places.get(heap[0].ticket) is not heap[0]:
                heapq.heappop(heap)
            if heap:
                return heap[0]
            del self._heaps[rank, name]
            lanes.deactivate(name)
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

    __slots__ = ("_heap", "_parties", "_turn", "_virtual_clock")

    def __init__(self) -> None:
        self._parties: dict[str, _Flow] = {}
        self._heap: list[tuple[float, int, str]] = []
        self._virtual_clock = 0.0
        self._turn = 0

    def activate(self, name: str, weight: float) -> None:
        """Let a flow take part: it has requests."""
        party = self._parties.setdefault(name, _Flow(weight, self._virtual_clock))
        party.weight = weight
        if not party.version:
            party.virtual_time = max(party.virtual_time, self._virtual_clock)
            self._line_up(name, party)

    def peek(self) -> str | None:
        while self._heap:
            _, turn, name = self._heap[0]
            if name in self._parties and self._parties[name].version == turn:
                return name
            heapq.heappop(self._heap)
        self._parties.clear()  # nobody asks: whoever comes next starts level, and nothing is kept of flows that are over
        return None

    def charge(self, name: str, work: float) -> None:
        """Charge a flow for work."""
        party = self._parties[name]
        self._virtual_clock = max(self._virtual_clock, party.virtual_time)
        party.virtual_time += work / party.weight
        if party.version:
            self._line_up(name, party)

    def deactivate(self, name: str) -> None:
        """Take a flow out: it has no requests. What it has used is remembered as long as it matters."""
        self._parties[name].version = 0
        if len(self._parties) > 100 + 2 * len(self._heap):
            self._parties = {
                name: party
                for name, party in self._parties.items()
                if party.version or party.virtual_time > self._virtual_clock
            }

    def _line_up(self, name: str, party: _Flow) -> None:
        self._turn += 1
        party.version = self._turn
        heapq.heappush(self._heap, (party.virtual_time, self._turn, name))
