"""`Fair` shares one thing between named parties by weight (start-time fair queueing).

The party that has had least for its weight is first. One that was idle starts level with the one served last:
idling saves nothing up, and asking for one thing at a time earns no more than queueing all at once.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass


@dataclass(slots=True)
class _Party:
    weight: float
    had: float
    """Work done, divided by weight."""
    turn: int = 0
    """The entry of the heap that counts; 0 while it asks for nothing."""


class Fair:
    """Who is next."""

    __slots__ = ("_heap", "_level", "_parties", "_turn")

    def __init__(self) -> None:
        self._parties: dict[str, _Party] = {}
        self._heap: list[tuple[float, int, str]] = []
        self._level = 0.0
        self._turn = 0

    def ask(self, name: str, weight: float) -> None:
        """From now on `name` wants something."""
        party = self._parties.setdefault(name, _Party(weight, self._level))
        party.weight = weight
        if not party.turn:
            party.had = max(party.had, self._level)
            self._line_up(name, party)

    def first(self) -> str | None:
        while self._heap:
            _, turn, name = self._heap[0]
            if name in self._parties and self._parties[name].turn == turn:
                return name
            heapq.heappop(self._heap)
        return None

    def charge(self, name: str, work: float) -> None:
        """`name` was given `work`."""
        party = self._parties[name]
        self._level = max(self._level, party.had)
        party.had += work / party.weight
        if party.turn:
            self._line_up(name, party)

    def rest(self, name: str) -> None:
        """`name` wants nothing for now. What it had is remembered as long as it matters."""
        self._parties[name].turn = 0
        if len(self._parties) > 100 + 2 * len(self._heap):
            self._parties = {
                name: party for name, party in self._parties.items() if party.turn or party.had > self._level
            }

    def _line_up(self, name: str, party: _Party) -> None:
        self._turn += 1
        party.turn = self._turn
        heapq.heappush(self._heap, (party.had, self._turn, name))
