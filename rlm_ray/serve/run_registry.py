"""The run registry: who may start a run, what each key has spent, and which replica has which run. Pure: time comes in, as
`now`, seconds of a clock that never jumps.

Every request that starts a run gets a **lease** here, and gives it back with what it cost. So limits hold over all
replicas, and the runs of a replica that died are known:

- A replica asks for commands again and again; one that is silent for `REPLICA_TIMEOUT_S` is dead. Its lasting runs are given to the
  next that asks; its other runs had a client whose connection died with it, so they are only accounted for. So is a run
  that its replica has not named for `UNCLAIMED_S`.
- Of its budget a key's run holds back a part, before it starts: together they never spend more.
- What is not in `state()` may be forgotten: rates, and cancellations under way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeAlias

from rlm_ray.serve.api_keys import ApiKey

REPLICA_TIMEOUT_S = 12.0
UNCLAIMED_S = 60.0
"""So long a replica may be silent about a run of its own: the message that gave it away, or that ended it, may be lost."""
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
    """A request to start a run."""

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
    """The run of the same request, which was made before."""

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
    """What a run, or a key so far, has used."""

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
    """What a replica has to do."""

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
    """Decides who may start a run, and knows who carries out which; one for a run store."""

    leases: dict[str, RunLease] = field(default_factory=dict)
    spent: dict[str, KeySpending] = field(default_factory=dict)
    idempotency_cache: dict[str, tuple[str, str, float]] = field(default_factory=dict)
    """By key and idempotency key: run, digest and when."""
    exhausted_budgets: dict[str, float] = field(default_factory=dict)
    """Budgets of which too little is left for one more call, by key."""
    _seen: dict[str, float] = field(default_factory=dict)
    _named: dict[str, float] = field(default_factory=dict)
    """When runs were given to their replicas, or named by them."""
    _cancelled: set[str] = field(default_factory=set)
    _buckets: dict[str, _Bucket] = field(default_factory=dict)

    def admit(
        self, request: AdmissionRequest, now: float, unix_time: float | None = None
    ) -> AdmissionDecision:
        """Return a lease, or why not. `unix_time` dates what outlives this process; None: it is `now`."""
        if (
            given := self.leases.get(request.run_id)
        ) is not None:  # it asks again: the answer was lost on its way
            return Admitted(request.cost_usd if request.key.budget_usd is None else given.held_usd)
        if (
            known := self._find_repeated(request, dated := now if unix_time is None else unix_time)
        ) is not None:
            return known
        self._seen[request.replica] = now
        refused = (
            self._check_capacity(request)
            or self._check_budget(request.key)
            or self._check_rate(request.key, now)
        )
        if refused is not None:
            return refused
        held, rest_of = self._reserve(request)
        self._named[request.run_id] = now
        self.leases[request.run_id] = RunLease(
            request.run_id, request.key.name, request.replica, held or 0.0, request.lasting, rest_of
        )
        if request.idempotency:
            self.idempotency_cache[f"{request.key.name}/{request.idempotency}"] = (
                request.run_id,
                request.digest,
                dated,
            )
        return Admitted(held if held is not None else request.cost_usd)

    def settle(
        self, run_id: str, spent: KeySpending, *, repeatable: bool = False, out_of_money: bool = False
    ) -> None:
        """End a run. `repeatable`: it has no answer, and the same request may start another one.

        `out_of_money`: it was stopped because what it held was too little.
        """
        self._cancelled.discard(run_id)
        self._named.pop(run_id, None)
        if (lease := self.leases.pop(run_id, None)) is None:
            return
        self.spent[lease.key] = self.spent.get(lease.key, KeySpending()) + spent
        if out_of_money and lease.final_remainder_of is not None:
            self.exhausted_budgets[lease.key] = lease.final_remainder_of
        if repeatable:
            self.idempotency_cache = {
                name: value for name, value in self.idempotency_cache.items() if value[0] != run_id
            }

    def cancel(self, run_id: str) -> bool:
        """Have it cancelled by whoever has it; False where it is over."""
        if run_id not in self.leases:
            return False
        self._cancelled.add(run_id)
        return True

    def listen(self, replica: str, running: tuple[str, ...], now: float) -> ReplicaCommands:
        """Return what a replica has to do; `running` are the runs it has."""
        self._seen[replica] = now
        for run_id in running:
            if run_id in self.leases:
                self.leases[run_id] = replace(self.leases[run_id], replica=replica)
                self._named[run_id] = now
        self._forget_replicas(now)
        lost = [lease for lease in self.leases.values() if self._is_lost(lease, now)]
        for lease in lost:
            self.leases[lease.run_id] = replace(lease, replica=replica)
            self._named[lease.run_id] = now
        cancel = tuple(run_id for run_id in running if run_id in self._cancelled)
        return ReplicaCommands(
            cancel,
            tuple(lease.run_id for lease in lost if self._goes_on(lease)),
            tuple(lease.run_id for lease in lost if not self._goes_on(lease)),
        )

    def stats(self) -> dict[str, int]:
        """Return how many rows each table has; a lease is a run."""
        return {
            "runs": len(self.leases),
            "keys": len(self.spent),
            "remembered": len(self.idempotency_cache),
            "replicas": len(self._seen),
            "cancelled": len(self._cancelled),
        }

    def leave(self, replica: str) -> None:
        """Shut a replica down: its runs are free for others at once."""
        self._seen[replica] = -REPLICA_TIMEOUT_S

    def state(self) -> dict[str, Any]:
        """Return all that the registry knows as plain values, for JSON."""
        return {
            "tickets": [asdict(lease) for lease in self.leases.values()],
            "spent": {name: asdict(spent) for name, spent in self.spent.items()},
            "exhausted": self.exhausted_budgets,
            "remembered": {name: list(value) for name, value in self.idempotency_cache.items()},
        }

    def _find_repeated(self, request: AdmissionRequest, unix_time: float) -> AdmissionDecision | None:
        """Return what a request with a known idempotency key gets; None where it is new."""
        if not request.idempotency:
            return None
        self.idempotency_cache = {
            name: value
            for name, value in self.idempotency_cache.items()
            if unix_time - value[2] < REMEMBERED_S
        }
        found = self.idempotency_cache.get(f"{request.key.name}/{request.idempotency}")
        if found is None:
            return None
        if found[1] != request.digest:
            why = "this Idempotency-Key was used for another request; use a new one for each request"
            return Rejected(422, "idempotency_key_reused", why)
        return Duplicate(found[0])

    def _check_capacity(self, request: AdmissionRequest) -> Rejected | None:
        if len(self.leases) >= request.max_runs:
            why = f"the service has {len(self.leases)} runs under way, as many as it takes; try again"
            return Rejected(429, "service_busy", why, RETRY_AFTER_S)
        running = sum(lease.key == request.key.name for lease in self.leases.values())
        if request.key.concurrency is not None and running >= request.key.concurrency:
            why = f"this key has {running} runs under way, as many as it may; wait for one of them"
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

    def _reserve(self, request: AdmissionRequest) -> tuple[float | None, float | None]:
        """Return what of the budget the run gets, and the budget where that is its whole rest; None without a budget."""
        budget = request.key.budget_usd
        if budget is None:
            return None, None
        held = self._reserved(request.key.name)
        left = budget - self.spent.get(request.key.name, KeySpending()).cost_usd - held
        wanted = request.key.run_usd or budget / DEFAULT_RUN_BUDGET_FRACTION
        if request.cost_usd is not None:
            wanted = min(wanted, request.cost_usd)
        return min(wanted, left), budget if left < wanted and not held else None

    def _reserved(self, key: str) -> float:
        return sum(lease.held_usd for lease in self.leases.values() if lease.key == key)

    def _is_lost(self, lease: RunLease, now: float) -> bool:
        """Tell whether nobody has the run any more."""
        is_unclaimed = now - self._named.setdefault(lease.run_id, now) >= UNCLAIMED_S
        return is_unclaimed or self._is_dead(lease.replica, now)

    def _is_dead(self, replica: str, now: float) -> bool:
        return now - self._seen.setdefault(replica, now) >= REPLICA_TIMEOUT_S

    def _forget_replicas(self, now: float) -> None:
        """Forget replicas that are long dead and have no run left; each has a name of its own."""
        busy = {lease.replica for lease in self.leases.values()}
        self._seen = {name: at for name, at in self._seen.items() if now - at < REMEMBERED_S or name in busy}

    def _goes_on(self, lease: RunLease) -> bool:
        return lease.lasting and lease.run_id not in self._cancelled


def registry_from_state(state: Mapping[str, Any]) -> RunRegistry:
    """Make the run registry whose `state()` this was."""
    return RunRegistry(
        {row["run_id"]: RunLease(**row) for row in state.get("tickets", ())},
        {name: KeySpending(**row) for name, row in state.get("spent", {}).items()},
        {name: (run_id, digest, at) for name, (run_id, digest, at) in state.get("remembered", {}).items()},
        dict(state.get("exhausted", {})),
    )
