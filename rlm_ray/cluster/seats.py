"""Who sits where: the bookkeeping of a pool of actors, without Ray.

A **seat** is the right to run one session in one actor. Laws:
- No actor has more than `per_actor` seats taken by `lease`; a session that waits for children gives its seat back
  meanwhile, and takes it again afterwards even if that is one too many.
- Seats go to the actor with the most free ones, so that load spreads.
- A lease never waits: it gives what there is. Whoever gets none runs the work where he is, so nobody can block.
- Each lease has a lessee; when that one dies, its leases end.
"""

from __future__ import annotations

from collections import Counter

DRIVER = ""
"""The lessee of root sessions."""


class Seats:
    """Free and taken seats by actor id."""

    def __init__(self) -> None:
        self._taken: Counter[str] = Counter()
        self._leases: Counter[tuple[str, str]] = Counter()
        """How many seats a lessee holds in an actor."""
        self._idle_since: dict[str, float] = {}
        """Actors at work, and since when each has had nothing to do."""

    @property
    def actors(self) -> tuple[str, ...]:
        return tuple(self._idle_since)

    def add(self, actor: str, now: float) -> None:
        self._idle_since[actor] = now
        self._taken[actor] = 0

    def remove(self, actor: str, now: float) -> None:
        """It is gone: so are its seats, and the leases it held in others."""
        for (lessee, other), count in list(self._leases.items()):
            if lessee == actor:
                for _ in range(count):
                    self.release(other, lessee, now)
            elif other == actor:
                del self._leases[lessee, other]
        self._idle_since.pop(actor, None)
        self._taken.pop(actor, None)

    def taken(self, actor: str) -> int:
        return self._taken[actor]

    def lease(self, wanted: int, per_actor: int, lessee: str = DRIVER) -> list[str]:
        """Up to `wanted` seats, as the ids of their actors."""
        leased: list[str] = []
        while len(leased) < wanted:
            actor = min(self._idle_since, key=self._taken.__getitem__, default=None)
            if actor is None or self._taken[actor] >= per_actor:
                break
            self._taken[actor] += 1
            self._leases[lessee, actor] += 1
            leased.append(actor)
        return leased

    def release(self, actor: str, lessee: str, now: float) -> None:
        """A lease ends; one that has ended already changes nothing."""
        if self._leases[lessee, actor] > 0:
            self._leases[lessee, actor] -= 1
            if not self._leases[lessee, actor]:
                del self._leases[lessee, actor]
            self.stand_up(actor, now)

    def stand_up(self, actor: str, now: float) -> None:
        """A session of this actor waits for its children: its seat is free meanwhile."""
        if actor in self._idle_since:
            self._taken[actor] = max(0, self._taken[actor] - 1)
            self._idle_since[actor] = now

    def sit_down(self, actor: str) -> None:
        """It goes on, whether or not there is a free seat."""
        if actor in self._idle_since:
            self._taken[actor] += 1

    def touch(self, actor: str, now: float) -> None:
        """The actor works although it has no session, on plain calls."""
        if actor in self._idle_since:
            self._idle_since[actor] = now

    def idle(self, now: float, idle_s: float) -> list[str]:
        """Actors that have had nothing to do for `idle_s`, the longest idle first."""
        since = sorted(
            (last, actor)
            for actor, last in self._idle_since.items()
            if not self._taken[actor] and now - last >= idle_s
        )
        return [actor for _, actor in since]
