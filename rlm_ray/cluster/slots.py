"""The slots of a pool of actors: which are leased, to whom, and how many actors there should be. Without Ray.

A **slot** is the right to run one session in one actor. Rules:
- A slot is taken while it is leased and its session does not wait for children. `lease` never takes more than
  `per_actor` in an actor; a session that goes on takes its slot again even if that is one too many.
- Slots are leased in the actor with the most free ones, so that load spreads.
- A lease never waits: it gives what there is. A session that waits for children and gets none is given one more in
  its own actor (`overcommit_local`), so nobody can block.
- Each lease has a lessee; when that one dies, its leases end.

`growth` decides from numbers how many actors to start, `share` how many sessions may begin in an actor while others are
starting.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

SESSIONS_TARGET = 8
"""More sessions at work than this for each actor are worth one actor more where a CPU is free."""


@dataclass(frozen=True, slots=True)
class FreeCapacity:
    """How many more session actors fit on CPUs that nobody holds."""

    new_nodes: int = 0
    """On nodes that have no session actor yet: each brings its CPUs and memory for the cells, too."""
    same_nodes: int = 0
    """Beside actors at work, whose cells have those CPUs already."""


def free_capacity(
    free_cpus: Mapping[str, float], nodes: set[str], cpus_per_actor: float, starting: int, max_more: int
) -> FreeCapacity:
    """Return where up to `max_more` actors fit, from the free CPUs by node and the nodes of the actors at work.

    Those that are `starting` may not show in `free_cpus` yet: they are taken to go to new nodes first.
    """
    fit = {
        node: int(free / cpus_per_actor) if cpus_per_actor else max(max_more, 0)
        for node, free in free_cpus.items()
    }
    new = sum(count for node, count in fit.items() if node not in nodes)
    same = sum(count for node, count in fit.items() if node in nodes)
    same = max(0, same - max(0, starting - new))
    new = min(max(0, new - starting), max(max_more, 0))
    return FreeCapacity(new, min(same, max(max_more, 0) - new))


def growth(work: int, target: int, actors: int, capacity: FreeCapacity, *, is_lasting: bool) -> int:
    """Return how many actors to start for so much work, in sessions or calls, with so many at work or starting.

    An actor costs seconds of CPU on its node. A new node is worth that at once; beside an actor that is at work it is
    when the crowd is lasting, for until then what has begun is as fast without.
    """
    wanted = -(-work // target) - actors
    if wanted <= 0 or not (capacity.new_nodes or is_lasting):
        return 0
    return min(wanted, capacity.new_nodes + capacity.same_nodes)


def share(work: int, target: int, actors: int) -> int:
    """Return how many sessions may begin in one actor while some of these are starting: the rest is for the others."""
    return max(target, -(-work // max(1, actors)))


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a map may expect of the pool."""

    actors: int
    """Actors at work."""
    coming: int = 0
    """Starting, to be waited for."""
    in_s: float = 0.0
    """Seconds until they are about to be ready."""

    def held_back(self, pending: int, total: int, session_s: float | None) -> int:
        """Return how many of a map's pending children wait for the actors that are starting: these have their share of all.

        None of a few, and none where those at work are done sooner. `session_s` is what a child takes, None: no one has ended yet.
        """
        if not self.coming or total <= SESSIONS_TARGET * self.actors:
            return 0
        held = total * self.coming // (self.actors + self.coming)
        if session_s is not None and pending * session_s < self.in_s * (total - held):
            return 0
        return min(pending, held)


class SlotTable:
    """Holds free and taken slots by actor id."""

    def __init__(self) -> None:
        self._leased: Counter[str] = Counter()
        self._waiting: Counter[str] = Counter()
        """Sessions that wait for their children, by the actor they are in."""
        self._leases: Counter[tuple[str, str]] = Counter()
        """How many slots a lessee holds in an actor."""
        self._idle_since: dict[str, float] = {}
        """Actors at work, and since when each has had nothing to do."""

    @property
    def actors(self) -> tuple[str, ...]:
        return tuple(self._idle_since)

    def add(self, actor: str, now: float) -> None:
        self._idle_since[actor] = now

    def remove(self, actor: str, now: float) -> None:
        """Remove an actor that is gone, with its slots and the leases it held in others."""
        for (lessee, other), count in list(self._leases.items()):
            if lessee == actor:
                for _ in range(count):
                    self.release(other, lessee, now)
            elif other == actor:
                del self._leases[lessee, other]
        for counts in (self._idle_since, self._leased, self._waiting):
            counts.pop(actor, None)

    @property
    def at_work(self) -> int:
        """Count the sessions in all actors that do not wait for children."""
        return sum(map(self.taken, self._idle_since))

    def taken(self, actor: str) -> int:
        return self._leased[actor] - self._waiting[actor]

    def lease(self, wanted: int, per_actor: int, lessee: str, *, excluding: str = "") -> list[str]:
        """Lease up to `wanted` slots, returned as the ids of their actors; none in the actor `excluding`."""
        leased: list[str] = []
        actors = [actor for actor in self._idle_since if actor != excluding]
        while len(leased) < wanted:
            actor = min(actors, key=self.taken, default=None)
            if actor is None or self.taken(actor) >= per_actor:
                break
            self._take(actor, lessee)
            leased.append(actor)
        return leased

    def overcommit_local(self, actor: str) -> list[str]:
        """Lease a slot for a child of a session in this actor, free or not; not counted where the actor was removed."""
        if actor in self._idle_since:
            self._take(actor, actor)
        return [actor]

    def release(self, actor: str, lessee: str, now: float) -> None:
        """End a lease; one that has ended already changes nothing."""
        if self._leases[lessee, actor] > 0:
            self._leases[lessee, actor] -= 1
            if not self._leases[lessee, actor]:
                del self._leases[lessee, actor]
            self._leased[actor] -= 1
            self.mark_used(actor, now)

    def mark_waiting(self, actor: str) -> None:
        """Free the slot of a session in this actor that waits for its children."""
        if actor in self._idle_since:
            self._waiting[actor] += 1

    def mark_running(self, actor: str) -> None:
        """Take the slot of a session again that goes on, whether or not there is a free one."""
        if actor in self._idle_since:
            self._waiting[actor] -= 1

    def mark_used(self, actor: str, now: float) -> None:
        """Note that an actor without a session works on plain calls."""
        if actor in self._idle_since:
            self._idle_since[actor] = now

    def idle(self, now: float, idle_timeout_s: float) -> list[str]:
        """Return actors that have had nothing to do for `idle_timeout_s`, the longest idle first."""
        since = sorted(
            (last, actor)
            for actor, last in self._idle_since.items()
            if not self._leased[actor] and now - last >= idle_timeout_s
        )
        return [actor for _, actor in since]

    def _take(self, actor: str, lessee: str) -> None:
        self._leased[actor] += 1
        self._leases[lessee, actor] += 1
