"""The permits that are held: by whom, until when, and what they reserved.

`OrphanRequests` are requests for runs that are not open: after a restart another client may have to open the run first.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

from rlm_ray.admission.policy.account import RateReservation
from rlm_ray.admission.protocol import PermitRequest
from rlm_ray.core.budget import Amount

MAX_REMEMBERED = 20_000
_Value = TypeVar("_Value")


ORPHAN_TTL_S = 10.0
"""How long a request may wait for its run to be opened."""


@dataclass(frozen=True, slots=True)
class PermitRecord:
    """The admission's side of a permit for one HTTP attempt."""

    ask: PermitRequest
    taken: RateReservation
    reserved: Amount
    expires_at: float
    queue_wait_s: float = 0.0
    rate_wait_s: float = 0.0


class Permits:
    """Holds permits by request id. Settled and expired ones are remembered for a while: a message may arrive twice, and
    the usage of an expired one may still come."""

    __slots__ = ("_expiries", "_lost", "_out", "_over")

    def __init__(self) -> None:
        self._out: dict[str, PermitRecord] = {}
        self._lost: dict[str, PermitRecord] = {}
        self._over: dict[str, None] = {}
        self._expiries: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._out)

    def __contains__(self, ticket: object) -> bool:
        return ticket in self._out

    def __getitem__(self, ticket: str) -> PermitRecord:
        return self._out[ticket]

    def add(self, permit: PermitRecord) -> None:
        self._out[permit.ask.request_id] = permit
        heapq.heappush(self._expiries, (permit.expires_at, permit.ask.request_id))

    def pop(self, ticket: str) -> PermitRecord | None:
        """Take a permit out to settle it; None where it is not held."""
        permit = self._out.pop(ticket, None)
        if permit is not None:
            _remember(self._over, ticket, None)
        return permit

    def expire(self, ticket: str) -> PermitRecord:
        """Take a permit back that its holder did not settle in time."""
        permit = self._out.pop(ticket)
        _remember(self._lost, ticket, permit)
        return permit

    def pop_expired(self, ticket: str) -> PermitRecord | None:
        """Take out an expired permit whose settlement has come; None where there is none."""
        return self._lost.pop(ticket, None)

    def is_settled(self, ticket: str) -> bool:
        """Tell whether the permit was held and is settled."""
        return ticket in self._over or ticket in self._lost

    def accounts(self) -> set[str]:
        """Return the accounts of all held permits."""
        return {permit.ask.account_key for permit in self._out.values()}

    def of_client(self, holder: str) -> list[str]:
        return [ticket for ticket, permit in self._out.items() if permit.ask.client_id == holder]

    def expired(self, now: float) -> Iterator[str]:
        while self._expiries and self._expiries[0][0] <= now:
            _, ticket = heapq.heappop(self._expiries)
            if ticket in self._out and self._out[ticket].expires_at <= now:
                yield ticket

    def next_expiry(self) -> float:
        while self._expiries and self._expiries[0][1] not in self._out:
            heapq.heappop(self._expiries)
        return self._expiries[0][0] if self._expiries else math.inf


def _remember(memory: dict[str, _Value], ticket: str, value: _Value) -> None:
    memory[ticket] = value
    if len(memory) > MAX_REMEMBERED:
        del memory[next(iter(memory))]


class OrphanRequests:
    """Holds requests by run and id, each with the moment until which it waits."""

    __slots__ = ("_asks",)

    def __init__(self) -> None:
        self._asks: dict[str, dict[str, tuple[PermitRequest, float]]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._asks.values()))

    def add(self, ask: PermitRequest, now: float) -> None:
        self._asks.setdefault(ask.run_id, {})[ask.request_id] = (ask, now + ORPHAN_TTL_S)

    def withdraw(self, ticket: str) -> None:
        for asks in self._asks.values():
            asks.pop(ticket, None)

    def pop_run(self, run_id: str) -> list[PermitRequest]:
        """Take out the requests of a run that is open now."""
        return [ask for ask, _ in self._asks.pop(run_id, {}).values()]

    def expired(self, now: float) -> list[PermitRequest]:
        """Take out the requests that have waited too long."""
        late = [ask for asks in self._asks.values() for ask, until in asks.values() if until <= now]
        for ask in late:
            del self._asks[ask.run_id][ask.request_id]
        if self._asks:
            self._asks = {run_id: asks for run_id, asks in self._asks.items() if asks}
        return late

    def next_expiry(self) -> float:
        return min((until for asks in self._asks.values() for _, until in asks.values()), default=math.inf)
