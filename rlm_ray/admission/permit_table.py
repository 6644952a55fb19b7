"""The permits that are held, by whom and until when; and what an attempt costs its run: reserved (`max_cost`), charged
(`actual_cost`), counted (`call_stats`). Clients use these as well: they tell a new admission what was spent.

`OrphanRequests` are requests for runs that are not open: after a restart another client may have to open the run first.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

from rlm_ray.admission.policy.account import RateReservation
from rlm_ray.admission.protocol import AttemptOutcome, PermitRequest, Settle
from rlm_ray.core.limits import Amount, to_nano_usd
from rlm_ray.events.usage import CallStats

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

    __slots__ = ("_expired", "_expiries", "_held", "_settled")

    def __init__(self) -> None:
        self._held: dict[str, PermitRecord] = {}
        self._expired: dict[str, PermitRecord] = {}
        self._settled: dict[str, None] = {}
        self._expiries: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, request_id: object) -> bool:
        return request_id in self._held

    def __getitem__(self, request_id: str) -> PermitRecord:
        return self._held[request_id]

    def add(self, permit: PermitRecord) -> None:
        self._held[permit.ask.request_id] = permit
        heapq.heappush(self._expiries, (permit.expires_at, permit.ask.request_id))

    def pop(self, request_id: str) -> PermitRecord | None:
        """Take a permit out to settle it; None where it is not held."""
        permit = self._held.pop(request_id, None)
        if permit is not None:
            remember(self._settled, request_id, None, MAX_REMEMBERED)
        return permit

    def expire(self, request_id: str) -> PermitRecord:
        """Take a permit back that its holder did not settle in time."""
        permit = self._held.pop(request_id)
        remember(self._expired, request_id, permit, MAX_REMEMBERED)
        return permit

    def pop_expired(self, request_id: str) -> PermitRecord | None:
        """Take out an expired permit whose settlement has come; None where there is none."""
        return self._expired.pop(request_id, None)

    def is_settled(self, request_id: str) -> bool:
        """Tell whether the permit was held and is settled."""
        return request_id in self._settled or request_id in self._expired

    def accounts(self) -> set[str]:
        """Return the accounts of all held permits."""
        return {permit.ask.account_key for permit in self._held.values()}

    def of_client(self, holder: str) -> list[str]:
        return [request_id for request_id, permit in self._held.items() if permit.ask.client_id == holder]

    def expired(self, now: float) -> Iterator[str]:
        while self._expiries and self._expiries[0][0] <= now:
            _, request_id = heapq.heappop(self._expiries)
            if request_id in self._held and self._held[request_id].expires_at <= now:
                yield request_id

    def next_expiry(self) -> float:
        while self._expiries and self._expiries[0][1] not in self._held:
            heapq.heappop(self._expiries)
        return self._expiries[0][0] if self._expiries else math.inf


def remember(memory: dict[str, _Value], name: str, value: _Value, most: int) -> None:
    """Add a value to a table that holds so many at most: of too many, the oldest is forgotten."""
    memory[name] = value
    if len(memory) > most:
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

    def withdraw(self, request_id: str) -> None:
        for asks in self._asks.values():
            asks.pop(request_id, None)

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


UNBILLED_OUTCOMES = {
    AttemptOutcome.RATE_LIMITED,
    AttemptOutcome.QUOTA_EXHAUSTED,
    AttemptOutcome.REJECTED,
    AttemptOutcome.SERVER_ERROR,
    AttemptOutcome.NOT_SENT,
}


def max_cost(ask: PermitRequest) -> Amount:
    """Return the amount to reserve for `ask`: its worst case."""
    return Amount(to_nano_usd(ask.cost_usd or 0.0), ask.input_tokens + ask.output_tokens, 1)


def is_root_call(ask: PermitRequest) -> bool:
    """Tell whether the last call of the run will hold the reply to it."""
    return ask.depth == 0 and not ask.is_final_call


def smaller(ask: PermitRequest, room: Amount) -> PermitRequest | None:
    """Shorten the reply of `ask` to what `room` leaves; None where that is too short to be of use."""
    if not ask.min_output_tokens or room.calls < 1:
        return None
    tokens = min(ask.output_tokens, room.tokens - ask.input_tokens)
    if ask.cost_usd:
        input_cost = to_nano_usd(ask.input_cost_usd or 0.0)
        output_cost = to_nano_usd(ask.cost_usd) - input_cost
        if output_cost > 0:
            tokens = min(tokens, (room.nano_usd - input_cost - 1) * ask.output_tokens // output_cost)
        elif input_cost > room.nano_usd:  # the reply is free, the input is not
            return None
    if tokens < min(ask.min_output_tokens, ask.output_tokens):
        return None
    share = tokens / ask.output_tokens
    input_usd = ask.input_cost_usd or 0.0
    cost_usd = None if ask.cost_usd is None else input_usd + (ask.cost_usd - input_usd) * share
    return replace(ask, output_tokens=tokens, cost_usd=cost_usd)


def actual_cost(ask: PermitRequest, settle: Settle, estimate: Amount | None = None) -> Amount:
    """Return the amount to charge: what was used where it is known, else the estimate (`max_cost`) for all that may be billed."""
    answered = settle.outcome is AttemptOutcome.OK
    estimate = estimate or max_cost(ask)
    if settle.usage is None:
        free = settle.outcome in UNBILLED_OUTCOMES
        known = Amount() if free else estimate
        cost = 0 if free else estimate.nano_usd
    else:
        known = Amount(tokens=settle.usage.tokens)
        cost = estimate.nano_usd
    if settle.cost_usd is not None:
        cost = to_nano_usd(settle.cost_usd)
    return Amount(cost, known.tokens, 1 if answered or settle.outcome is AttemptOutcome.UNKNOWN else 0)


def call_stats(ask: PermitRequest, settle: Settle, queue_wait_s: float, rate_wait_s: float) -> CallStats:
    """Return the usage of one attempt, for the usage of its run."""
    if settle.outcome is AttemptOutcome.NOT_SENT:
        return CallStats(queue_wait_s=queue_wait_s, rate_wait_s=rate_wait_s)
    usage = settle.usage
    answered = settle.outcome is AttemptOutcome.OK
    return CallStats(
        calls=int(answered),
        attempts=1,
        retries=int(ask.attempt > 1),
        unknown=int(usage is None and settle.outcome not in UNBILLED_OUTCOMES),
        repaid_calls=int(answered and ask.is_retry_of_lost),
        unpriced=int(answered and settle.cost_usd is None),
        input_tokens=usage.input_tokens if usage else 0,
        output_tokens=usage.output_tokens if usage else 0,
        cached_tokens=usage.cached_tokens if usage else 0,
        reasoning_tokens=usage.reasoning_tokens if usage else 0,
        cost_usd=settle.cost_usd or 0.0,
        queue_wait_s=queue_wait_s,
        rate_wait_s=rate_wait_s,
        estimated=int(answered and usage is not None and usage.estimated),
        cache_write_tokens=usage.cache_write_tokens if usage else 0,
    )
