"""Who sits where: the bookkeeping of a pool of actors, without Ray.

A **seat** is the right to run one session in one actor. Laws:
- A seat is taken while it is leased and its session does not wait for children. `lease` never makes it more than
  `per_actor` in an actor; a session that goes on takes its seat again even if that is one too many.
- Seats go to the actor with the most free ones, so that load spreads.
- A lease never waits: it gives what there is. A session that waits for children and gets none is given one more in
  its own actor (`lease_at_home`), so nobody can block.
- Each lease has a lessee; when that one dies, its leases end.
"""

from __future__ import annotations

from collections import Counter

ROOT = "root-"
"""Lessees of this kind are root sessions, each one of its own: whoever asked for it may die before it ends."""


class Seats:
    """Free and taken seats by actor id."""

    def __init__(self) -> None:
        self._leased: Counter[str] = Counter()
        self._waiting: Counter[str] = Counter()
        """Sessions that wait for their children, by the actor they are in."""
        self._leases: Counter[tuple[str, str]] = Counter()
        """How many seats a lessee holds in an actor."""
        self._idle_since: dict[str, float] = {}
        """Actors at work, and since when each has had nothing to do."""

    @property
    def actors(self) -> tuple[str, ...]:
        return tuple(self._idle_since)

    def add(self, actor: str, now: float) -> None:
        self._idle_since[actor] = now

    def remove(self, actor: str, now: float) -> None:
        """It is gone: so are its seats, and the leases it held in others."""
        for (lessee, other), count in list(self._leases.items()):
            if lessee == actor:
                for _ in range(count):
                    self.release(other, lessee, now)
            elif other == actor:
                del self._leases[lessee, other]
        for counts in (self._idle_since, self._leased, self._waiting):
            counts.pop(actor, None)

    def taken(self, actor: str) -> int:
        return self._leased[actor] - self._waiting[actor]

    def lease(self, wanted: int, per_actor: int, lessee: str, *, but: str = "") -> list[str]:
        """Up to `wanted` seats, as the ids of their actors; none in the actor `but`."""
        leased: list[str] = []
        actors = [actor for actor in self._idle_since if actor != but]
        while len(leased) < wanted:
            actor = min(actors, key=self.taken, default=None)
            if actor is None or self.taken(actor) >= per_actor:
                break
            self._take(actor, lessee)
            leased.append(actor)
        return leased

    def lease_at_home(self, actor: str) -> list[str]:
        """A seat for a child of a session in this actor, free or not; not counted where the actor is given up."""
        if actor in self._idle_since:
            self._take(actor, actor)
        return [actor]

    def release(self, actor: str, lessee: str, now: float) -> None:
        """A lease ends; one that has ended already changes nothing."""
        if self._leases[lessee, actor] > 0:
            self._leases[lessee, actor] -= 1
            if not self._leases[lessee, actor]:
                del self._leases[lessee, actor]
            self._leased[actor] -= 1
            self.touch(actor, now)

    def stand_up(self, actor: str) -> None:
        """A session of this actor waits for its children: its seat is free meanwhile."""
        if actor in self._idle_since:
            self._waiting[actor] += 1

    def sit_down(self, actor: str) -> None:
        """It goes on, whether or not there is a free seat."""
        if actor in self._idle_since:
            self._waiting[actor] -= 1

    def touch(self, actor: str, now: float) -> None:
        """The actor works although it has no session, on plain calls."""
        if actor in self._idle_since:
            self._idle_since[actor] = now

    def idle(self, now: float, idle_s: float) -> list[str]:
        """Actors that have had nothing to do for `idle_s`, the longest idle first."""
        since = sorted(
            (last, actor)
            for actor, last in self._idle_since.items()
            if not self._leased[actor] and now - last >= idle_s
        )
        return [actor for _, actor in since]

    def _take(self, actor: str, lessee: str) -> None:
        self._leased[actor] += 1
        self._leases[lessee, actor] += 1
