"""The desk: who may start a run, what each key has spent, and which replica has which run. Pure: time comes in, as
`now`, seconds of a clock that never jumps.

Every request that starts a run gets a **ticket** here, and gives it back with what it cost. So limits hold over all
replicas, and the runs of a replica that died are known:

- A replica asks for news again and again; one that is silent for `SILENT_S` is dead. Its lasting runs are given to the
  next that asks; its other runs had a client whose connection died with it, so they are only accounted for.
- Of its budget a key's run holds back a part, before it starts: together they never spend more.
- What is not in `state()` may be forgotten: rates, and cancellations under way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeAlias

from rlm_ray.serve.api_keys import ApiKey

REPLICA_TIMEOUT_S = 12.0
REMEMBERED_S = 24 * 3600.0
"""So long an idempotency key names its run."""
DEFAULT_RUN_BUDGET_FRACTION = 20
"""A run may use this part of its key's budget, where nothing else is said."""
BURST_S = 10.0
"""A key that was quiet may ask for so many seconds of its rate at once."""
RETRY_AFTER_S = 5.0
"""What is said to one who is told to come again."""


@dataclass(frozen=True, slots=True)
class AdmissionRequest:
    """To start a run."""

    run_id: str
    key: ApiKey
    replica: str
    max_runs: int
    cost_usd: float | None = None
    """The limit the run has anyway."""
    lasting: bool = False
    """It goes on without its client: in the background, or because the client will come again."""
    idempotency: str = ""
    digest: str = ""
    """Of the request."""


@dataclass(frozen=True, slots=True)
class Admitted:
    cost_usd: float | None
    """The most it may cost."""


@dataclass(frozen=True, slots=True)
class Duplicate:
    """The same request was made before."""

    run_id: str


@dataclass(frozen=True, slots=True)
class Rejected:
    status: int
    code: str
    why: str
    retry_after_s: float | None = None


AdmissionDecision: TypeAlias = Admitted | Duplicate | Rejected


@dataclass(frozen=True, slots=True)
class RunLease:
    """A run that is under way."""

    run_id: str
    key: str
    replica: str
    held_usd: float = 0.0
    """Of the key's budget."""
    lasting: bool = False
    final_remainder_of: float | None = None
    """The budget of its key, where the run holds all that is left of it, and that is less than a run wants."""


@dataclass(frozen=True, slots=True)
class KeySpending:
    """By a run, or a key so far."""

    runs: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0

    def __add__(self, other: KeySpending) -> KeySpending:
        return KeySpending(
            self.runs + other.runs,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cost_usd + other.cost_usd,
        )


@dataclass(frozen=True, slots=True)
class ReplicaCommands:
    """For a replica."""

    cancel: tuple[str, ...] = ()
    take_up: tuple[str, ...] = ()
    account_for: tuple[str, ...] = ()
    """Their replica and their client are gone: read what they cost, and settle."""

    def __bool__(self) -> bool:
        return bool(self.cancel or self.take_up or self.account_for)


@dataclass(slots=True)
class _Bucket:
    level: float
    at: float


@dataclass(slots=True)
class RunRegistry:
    """One for a run store."""

    tickets: dict[str, RunLease] = field(default_factory=dict)
    spent: dict[str, KeySpending] = field(default_factory=dict)
    idempotency_cache: dict[str, tuple[str, str, float]] = field(default_factory=dict)
    """By key and idempotency key: run, digest and when."""
    exhausted_budgets: dict[str, float] = field(default_factory=dict)
    """Budgets of which too little is left for one more call, by key."""
    _seen: dict[str, float] = field(default_factory=dict)
    _cancelled: set[str] = field(default_factory=set)
    _buckets: dict[str, _Bucket] = field(default_factory=dict)

    def admit(self, ask: AdmissionRequest, now: float, unix_time: float | None = None) -> AdmissionDecision:
        """A ticket, or why not. `unix_time` dates what outlives this process; None: it is `now`."""
        if (
            given := self.tickets.get(ask.run_id)
        ) is not None:  # it asks again: the answer was lost on its way
            return Admitted(ask.cost_usd if ask.key.budget_usd is None else given.held_usd)
        if (known := self._known(ask, dated := now if unix_time is None else unix_time)) is not None:
            return known
        self._seen[ask.replica] = now
        refused = self._check_capacity(ask) or self._check_budget(ask.key) or self._check_rate(ask.key, now)
        if refused is not None:
            return refused
        held, rest_of = self._reserve(ask)
        self.tickets[ask.run_id] = RunLease(
            ask.run_id, ask.key.name, ask.replica, held or 0.0, ask.lasting, rest_of
        )
        if ask.idempotency:
            self.idempotency_cache[f"{ask.key.name}/{ask.idempotency}"] = (ask.run_id, ask.digest, dated)
        return Admitted(held if held is not None else ask.cost_usd)

    def settle(
        self, run_id: str, spent: KeySpending, *, repeatable: bool = False, out_of_money: bool = False
    ) -> None:
        """The run is over. `repeatable`: it has no answer, and the same request may start another one.

        `out_of_money`: it was stopped because what it held was too little.
        """
        self._cancelled.discard(run_id)
        if (ticket := self.tickets.pop(run_id, None)) is None:
            return
        self.spent[ticket.key] = self.spent.get(ticket.key, KeySpending()) + spent
        if out_of_money and ticket.final_remainder_of is not None:
            self.exhausted_budgets[ticket.key] = ticket.final_remainder_of
        if repeatable:
            self.idempotency_cache = {
                name: value for name, value in self.idempotency_cache.items() if value[0] != run_id
            }

    def cancel(self, run_id: str) -> bool:
        """Have it cancelled by whoever has it; False where it is over."""
        if run_id not in self.tickets:
            return False
        self._cancelled.add(run_id)
        return True

    def listen(self, replica: str, running: tuple[str, ...], now: float) -> ReplicaCommands:
        """What a replica has to do; `running` are the runs it has."""
        self._seen[replica] = now
        for run_id in running:
            if run_id in self.tickets:
                self.tickets[run_id] = replace(self.tickets[run_id], replica=replica)
        self._forget_replicas(now)
        lost = [ticket for ticket in self.tickets.values() if self._is_dead(ticket.replica, now)]
        for ticket in lost:
            self.tickets[ticket.run_id] = replace(ticket, replica=replica)
        cancel = tuple(run_id for run_id in running if run_id in self._cancelled)
        return ReplicaCommands(
            cancel,
            tuple(ticket.run_id for ticket in lost if self._goes_on(ticket)),
            tuple(ticket.run_id for ticket in lost if not self._goes_on(ticket)),
        )

    def stats(self) -> dict[str, int]:
        """How many rows each table has; a ticket is a run."""
        return {
            "runs": len(self.tickets),
            "keys": len(self.spent),
            "remembered": len(self.idempotency_cache),
            "replicas": len(self._seen),
            "cancelled": len(self._cancelled),
        }

    def leave(self, replica: str) -> None:
        """It shuts down: its runs are free for others at once."""
        self._seen[replica] = -REPLICA_TIMEOUT_S

    def state(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "tickets": [asdict(ticket) for ticket in self.tickets.values()],
            "spent": {name: asdict(spent) for name, spent in self.spent.items()},
            "exhausted": self.exhausted_budgets,
            "remembered": {name: list(value) for name, value in self.idempotency_cache.items()},
        }

    def _known(self, ask: AdmissionRequest, unix_time: float) -> AdmissionDecision | None:
        if not ask.idempotency:
            return None
        self.idempotency_cache = {
            name: value
            for name, value in self.idempotency_cache.items()
            if unix_time - value[2] < REMEMBERED_S
        }
        found = self.idempotency_cache.get(f"{ask.key.name}/{ask.idempotency}")
        if found is None:
            return None
        if found[1] != ask.digest:
            why = "this Idempotency-Key was used for another request; use a new one for each request"
            return Rejected(422, "idempotency_key_reused", why)
        return Duplicate(found[0])

    def _check_capacity(self, ask: AdmissionRequest) -> Rejected | None:
        if len(self.tickets) >= ask.max_runs:
            why = f"the service has {len(self.tickets)} runs under way, as many as it takes; try again"
            return Rejected(429, "service_busy", why, RETRY_AFTER_S)
        own = sum(ticket.key == ask.key.name for ticket in self.tickets.values())
        if ask.key.concurrency is not None and own >= ask.key.concurrency:
            why = f"this key has {own} runs under way, as many as it may; wait for one of them"
            return Rejected(429, "concurrency_exceeded", why, RETRY_AFTER_S)
        return None

    def _check_rate(self, key: ApiKey, now: float) -> Rejected | None:
        if key.rpm is None:
            return None
        rate = key.rpm / 60
        most = max(1.0, rate * BURST_S)
        bucket = self._buckets.setdefault(key.name, _Bucket(most, now))
        bucket.level, bucket.at = min(most, bucket.level + (now - bucket.at) * rate), now
        if bucket.level < 1:
            why = f"this key may start {key.rpm:g} runs a minute; slow down"
            return Rejected(429, "rate_limit_exceeded", why, (1 - bucket.level) / rate)
        bucket.level -= 1
        return None

    def _check_budget(self, key: ApiKey) -> Rejected | None:
        if key.budget_usd is None:
            return None
        left = key.budget_usd - self.spent.get(key.name, KeySpending()).cost_usd
        if left <= 0 or self.exhausted_budgets.get(key.name, 0.0) >= key.budget_usd:
            why = f"this key has spent its budget of ${key.budget_usd:g}; ask whoever runs this service for more"
            return Rejected(429, "insufficient_quota", why)
        if left <= self._reserved(key.name):
            why = "runs under way hold what is left of this key's budget; wait for one of them"
            return Rejected(429, "budget_held", why, RETRY_AFTER_S)
        return None

    def _reserve(self, ask: AdmissionRequest) -> tuple[float | None, float | None]:
        """What of the budget the run gets, and the budget where that is its whole rest; None without a budget."""
        budget = ask.key.budget_usd
        if budget is None:
            return None, None
        held = self._reserved(ask.key.name)
        left = budget - self.spent.get(ask.key.name, KeySpending()).cost_usd - held
        wanted = ask.key.run_usd or budget / DEFAULT_RUN_BUDGET_FRACTION
        if ask.cost_usd is not None:
            wanted = min(wanted, ask.cost_usd)
        return min(wanted, left), budget if left < wanted and not held else None

    def _reserved(self, key: str) -> float:
        return sum(ticket.held_usd for ticket in self.tickets.values() if ticket.key == key)

    def _is_dead(self, replica: str, now: float) -> bool:
        return now - self._seen.setdefault(replica, now) >= REPLICA_TIMEOUT_S

    def _forget_replicas(self, now: float) -> None:
        """Those that are long dead and have no run left; each has a name of its own."""
        busy = {ticket.replica for ticket in self.tickets.values()}
        self._seen = {name: at for name, at in self._seen.items() if now - at < REMEMBERED_S or name in busy}

    def _goes_on(self, ticket: RunLease) -> bool:
        return ticket.lasting and ticket.run_id not in self._cancelled


def registry_from_state(state: Mapping[str, Any]) -> RunRegistry:
    """The desk whose `state()` this was."""
    return RunRegistry(
        {row["run_id"]: RunLease(**row) for row in state.get("tickets", ())},
        {name: KeySpending(**row) for name, row in state.get("spent", {}).items()},
        {name: (run_id, digest, at) for name, (run_id, digest, at) in state.get("remembered", {}).items()},
        dict(state.get("exhausted", {})),
    )
