"""`Strays` are asks for runs that are not open: after a restart others may have to come back first and open them."""

from __future__ import annotations

import math

from rlm_ray.admission.protocol import Ask

STRAY_S = 10.0
"""How long an ask may wait for its run to be opened."""


class Strays:
    """By run and ticket, each with the moment until which it waits."""

    __slots__ = ("_asks",)

    def __init__(self) -> None:
        self._asks: dict[str, dict[str, tuple[Ask, float]]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._asks.values()))

    def add(self, ask: Ask, now: float) -> None:
        self._asks.setdefault(ask.run_id, {})[ask.ticket] = (ask, now + STRAY_S)

    def withdraw(self, ticket: str) -> None:
        for asks in self._asks.values():
            asks.pop(ticket, None)

    def claim(self, run_id: str) -> list[Ask]:
        """Its run is open now."""
        return [ask for ask, _ in self._asks.pop(run_id, {}).values()]

    def expired(self, now: float) -> list[Ask]:
        """Those that have waited long enough, and wait no more."""
        late = [ask for asks in self._asks.values() for ask, until in asks.values() if until <= now]
        for ask in late:
            del self._asks[ask.run_id][ask.ticket]
        if self._asks:
            self._asks = {run_id: asks for run_id, asks in self._asks.items() if asks}
        return late

    def next_expiry(self) -> float:
        return min((until for asks in self._asks.values() for _, until in asks.values()), default=math.inf)
