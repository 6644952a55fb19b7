"""Who sits where: the bookkeeping of a pool of actors, without Ray.

A **seat** is the right to run one session in one actor. Laws:
- No actor has more than `per_actor` seats taken by `lease`; a session that waits for children gives its seat back
  meanwhile, and takes it again afterwards even if that is one too many.
- Seats go to the actor with the most free ones, so that load spreads.
- A lease never waits: it gives what there is. Whoever gets none runs the work where he is, so nobody can block.
"""

from __future__ import annotations

from collections import Counter


class Seats:
    """Free and taken seats by actor id."""

    def __init__(self) -> None:
        self._taken: Counter[str] = Counter()
        self._actors: dict[str, float] = {}
        """Actors at work, and since when each has had no session."""

    @property
    def actors(self) -> tuple[str, ...]:
        return tuple(self._actors)

    def add(self, actor: str, now: float) -> None:
        self._actors[actor] = now
        self._taken[actor] = 0

    def remove(self, actor: str) -> None:
        self._actors.pop(actor, None)
        self._taken.pop(actor, None)

    def taken(self, actor: str) -> int:
        return self._taken[actor]

    def lease(self, wanted: int, per_actor: int) -> list[str]:
        """Up to `wanted` seats, as the ids of their actors."""
        leased: list[str] = []
        while len(leased) < wanted:
            actor = min(self._actors, key=self._taken.__getitem__, default=None)
            if actor is None or self._taken[actor] >= per_actor:
                break
            self._taken[actor] += 1
            leased.append(actor)
        return leased

    def take(self, actor: str) -> None:
        """Sit down again, whether or not there is a free seat."""
        if actor in self._actors:
            self._taken[actor] += 1

    def release(self, actor: str, now: float) -> None:
        if actor not in self._actors:
            return
        self._taken[actor] = max(0, self._taken[actor] - 1)
        self._actors[actor] = now

    def idle(self, now: float, idle_s: float) -> list[str]:
        """Actors that have had nothing to do for `idle_s`, the longest idle first."""
        since = sorted(
            (last, actor)
            for actor, last in self._actors.items()
            if not self._taken[actor] and now - last >= idle_s
        )
        return [actor for _, actor in since]

    def touch(self, actor: str, now: float) -> None:
        """The actor works although it has no session, on plain calls."""
        if actor in self._actors:
            self._actors[actor] = now
