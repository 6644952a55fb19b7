"""A `Book` is what one client knows of one run: enough to go on alone, and to tell a new admission."""

from __future__ import annotations

from dataclasses import replace

from rlm_ray.admission.charge import charge, tally, worst
from rlm_ray.admission.protocol import Ask, Room, RunRecord, RunTerms, Settle
from rlm_ray.core.ledger import Amount
from rlm_ray.core.limits import Limits
from rlm_ray.core.usage import Tallies


class Book:
    """Kept from the first ask for a run until the run is over."""

    __slots__ = ("_charged", "_opened_at", "_room", "_tallies", "_terms")

    def __init__(self, terms: RunTerms, now: float) -> None:
        self._terms = terms
        self._opened_at = now - terms.age_s
        self._charged = Amount()
        self._tallies = Tallies()
        self._room = Room(terms.run_id, Amount(), Amount())

    def hear(self, room: Room) -> None:
        self._room = room

    def settled(self, ask: Ask, settle: Settle, waits_s: tuple[float, float]) -> None:
        """The admission knows it too, by now."""
        self._charged += charge(ask, settle)
        self._tallies.add(ask.model, ask.depth, tally(ask, settle, *waits_s))

    @property
    def limits(self) -> Limits:
        return self._terms.limits

    @property
    def spent(self) -> Amount:
        """By the whole run, as last heard."""
        return self._room.spent

    def affords(self, ask: Ask) -> bool:
        """Whether it fits this holder's share, when there is nobody to ask."""
        return worst(ask).short_of(self._room.share) is None

    def spend_alone(self, ask: Ask) -> None:
        self._room = replace(self._room, share=self._room.share - worst(ask))

    def record(self, now: float) -> RunRecord:
        terms = replace(self._terms, age_s=now - self._opened_at)
        return RunRecord(terms, self._charged, self._room.spent, self._tallies.rows())
