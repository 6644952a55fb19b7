"""How a client goes on while the admission cannot be reached: at half of the rate it was granted lately.

Half of each process's share is at most half of the account's rate together, however many processes do this; so the
account stays within its limit until the admission is back and for the minute after.

`DegradedLimiter` paces with aiolimiter: one request at a time, on one loop, with a period of a second. (The admission
itself uses a `TokenBucket`, for refunds, debts and a virtual clock.) `RunReplica` is what a client knows of a run: enough
to go on within its share of the budget, and to restore the run in a new admission.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from aiolimiter import AsyncLimiter

from rlm_ray.admission.permit_table import actual_cost, call_stats, is_root_call, max_cost
from rlm_ray.admission.protocol import BudgetShare, PermitRequest, RunPolicy, RunSnapshot, Settle
from rlm_ray.core.limits import Amount, Limits
from rlm_ray.events.usage import UsageAccumulator

RECENT_S = 10.0
MIN_PER_S = 0.1
DEGRADED_SHARE = 0.5


class DegradedLimiter:
    """Counts what the admission granted, and paces at half of that."""

    __slots__ = ("_granted", "_limiters")

    def __init__(self) -> None:
        self._granted: dict[str, deque[float]] = {}
        self._limiters: dict[str, AsyncLimiter] = {}

    def record_grant(self, account_key: str, now: float) -> None:
        """Count a permit that the admission granted."""
        moments = self._granted.setdefault(account_key, deque(maxlen=10_000))
        moments.append(now)
        while moments[0] < now - RECENT_S:
            moments.popleft()

    def start(self, now: float) -> None:
        """Begin: from now on the admission cannot be reached."""
        self._limiters = {key: _limiter(len(self._recent(key, now)) / RECENT_S) for key in self._granted}

    async def try_acquire(self, account_key: str) -> bool:
        """Tell whether one more request may go now; never waits."""
        limiter = self._limiters.get(account_key)
        if limiter is None:
            limiter = self._limiters[account_key] = _limiter(0.0)
        if not limiter.has_capacity():
            return False
        await limiter.acquire()
        return True

    def _recent(self, account_key: str, now: float) -> list[float]:
        return [moment for moment in self._granted[account_key] if moment >= now - RECENT_S]


def _limiter(granted_per_s: float) -> AsyncLimiter:
    per_s = max(DEGRADED_SHARE * granted_per_s, MIN_PER_S)
    burst = max(per_s, 1.0)
    return AsyncLimiter(burst, burst / per_s)


class RunReplica:
    """Holds one run's budget and usage as this client knows them, from its first request until the run is over."""

    __slots__ = ("_charged", "_largest_root_call", "_opened_at", "_policy", "_share", "_usage")

    def __init__(self, policy: RunPolicy, now: float) -> None:
        self._policy = policy
        self._opened_at = now - policy.age_s
        self._charged = self._largest_root_call = Amount()
        self._usage = UsageAccumulator()
        self._share = BudgetShare(policy.run_id, Amount(), Amount())

    def update_share(self, share: BudgetShare) -> None:
        self._share = share

    def record_settlement(self, ask: PermitRequest, settle: Settle, waits_s: tuple[float, float]) -> None:
        """Count a settlement that the admission has acknowledged."""
        self._charged += actual_cost(ask, settle)
        self._usage.add(ask.model, ask.depth, call_stats(ask, settle, *waits_s))
        if is_root_call(ask):
            self._largest_root_call = self._largest_root_call.elementwise_max(max_cost(ask))

    @property
    def limits(self) -> Limits:
        return self._policy.limits

    @property
    def spent(self) -> Amount:
        """Return what the whole run had spent by the last message."""
        return self._share.spent

    def can_afford(self, ask: PermitRequest) -> bool:
        """Tell whether a request fits this client's share of the budget."""
        return max_cost(ask).first_exceeded(self._share.amount) is None

    def spend_share(self, ask: PermitRequest) -> None:
        self._share = replace(self._share, amount=self._share.amount - max_cost(ask))

    def snapshot(self, now: float) -> RunSnapshot:
        policy = replace(self._policy, age_s=now - self._opened_at)
        return RunSnapshot(
            policy, self._charged, self._share.spent, self._usage.rows(), self._largest_root_call
        )
