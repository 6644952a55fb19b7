"""A `RunBudget` is one run as the admission sees it: its policy, budget, usage, and the requests that wait for it."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from rlm_ray.admission.permit_table import PermitRecord, actual_cost, call_stats, max_cost, smaller
from rlm_ray.admission.policy.fair_queue import FlowKey, QueueEntry
from rlm_ray.admission.protocol import (
    AttemptOutcome,
    BudgetShare,
    PermitRequest,
    RunPolicy,
    RunSnapshot,
    RunStatus,
    Settle,
)
from rlm_ray.core.limits import NANO, Amount, BudgetFit, Ledger
from rlm_ray.events.usage import RunUsage, UsageAccumulator


@dataclass(frozen=True, slots=True)
class BudgetDecision:
    """What the budget allows of a request."""

    fit: BudgetFit
    reason: str = ""
    why: str = ""
    smaller: PermitRequest | None = None
    """The shorter request that fits, where the whole does not."""


_FITS = BudgetDecision(BudgetFit.NOW)


class RunBudget:
    """Holds the budget and the usage of one run."""

    def __init__(self, policy: RunPolicy, now: float) -> None:
        self.policy = policy
        name = f"run:{policy.run_id}" if policy.tenant is None else f"tenant:{policy.tenant}"
        self.flow = FlowKey(name, policy.weight, policy.interactive)
        self.opened_at = now - policy.age_s
        self.ledger = Ledger(policy.limits)
        self.usage_counts = UsageAccumulator()
        self.sessions = 1
        self.waiting: dict[str, str] = {}
        """The requests of this run without a decision, by id, and the account each is for."""
        self.not_before = -math.inf
        """Nothing is granted before this moment."""
        self._clients: set[str] = set()
        self._parked: list[tuple[QueueEntry, PermitRequest]] = []
        self.ledger.amend(Amount(), policy.spent)
        self._restored = self._reported = policy.spent
        self._restored_from: set[str] = set()

    @property
    def deadline(self) -> float:
        time_s = self.policy.limits.time_s
        return math.inf if time_s is None else self.opened_at + time_s

    def begin_attempt(self, attempt: float) -> None:
        """Make the run a new attempt's, which found it open."""
        self.policy = replace(self.policy, attempt=attempt)

    def pause_until(self, moment: float) -> None:
        """Grant nothing before `moment`, if the run has a limit on what it spends."""
        limits = self.policy.limits
        if (limits.cost_usd, limits.tokens, limits.calls) != (None, None, None):
            self.not_before = moment

    def policy_at(self, now: float) -> RunPolicy:
        return replace(self.policy, age_s=now - self.opened_at)

    def usage(self) -> RunUsage:
        return RunUsage(self.usage_counts.rows(), self.sessions)

    def status(self, blocked: Mapping[str, str], now: float) -> RunStatus:
        """Return the run's status; `blocked` says what the requests for each account wait for."""
        aside = Counter(ask.account_key for _, ask in self._parked if ask.request_id in self.waiting)
        waiting = Counter({"budget": aside.total()})
        for account, count in Counter(self.waiting.values()).items():
            waiting[blocked[account]] += count - aside[account]
        ledger = self.ledger
        return RunStatus(
            ledger.in_flight, dict(+waiting), self.usage(), ledger.spent, ledger.reserved, self.policy.limits,
            now - self.opened_at,
        )  # fmt: skip

    def check(self, ask: PermitRequest, now: float, wanted: Amount | None = None) -> BudgetDecision:
        """Decide whether the run can pay for `ask` now, later or never; `wanted` is its `max_cost`, where that is known. A
        final call may be late."""
        limits = self.policy.limits
        if now >= self.deadline and not ask.is_final_call:
            return BudgetDecision(BudgetFit.NEVER, "time_s", f"the time limit of {limits.time_s:g} s is over")
        if ask.cost_usd is None and limits.cost_usd is not None:
            return BudgetDecision(
                BudgetFit.NEVER, "cost_usd",
                f"a cost limit is set but the price of {ask.model} is not known: give its price or drop the limit",
            )  # fmt: skip
        fit, reason, fitting = self._fit(ask, wanted or max_cost(ask))
        if fit is not BudgetFit.NOW:
            return BudgetDecision(fit, reason, self._refusal_message(reason, ask))
        return _FITS if fitting is None else BudgetDecision(fit, smaller=fitting)

    def open_sessions(self, count: int) -> BudgetDecision:
        """Count all of these sessions, or none."""
        limit = self.policy.limits.sessions
        if limit is not None and self.sessions + count > limit:
            why = f"the limit of {limit} sessions is reached: {self.sessions} opened, {count} more wanted"
            return BudgetDecision(BudgetFit.NEVER, "sessions", why)
        self.sessions += count
        return BudgetDecision(BudgetFit.NOW)

    def add(self, ask: PermitRequest) -> None:
        self.waiting[ask.request_id] = ask.account_key
        self._clients.add(ask.client_id)

    def park(self, entry: QueueEntry, ask: PermitRequest) -> None:
        """Put a request aside until others settle below their reservation."""
        heapq.heappush(self._parked, (entry, ask))

    def unpark(self) -> list[tuple[QueueEntry, PermitRequest]]:
        """Return the parked requests to decide again: they fit by now, together, or they never will. The first that
        must go on waiting ends the list, so that none behind overtakes it."""
        back: list[tuple[QueueEntry, PermitRequest]] = []
        hoped = Amount()
        while self._parked:
            entry, ask = self._parked[0]
            if ask.request_id in self.waiting:
                alone, _, fitting = self._fit(ask, max_cost(ask))
                wanted = max_cost(fitting or ask)
                together, _ = self.ledger.check(wanted + hoped, last_call=ask.is_final_call)
                if alone is BudgetFit.LATER or (alone is BudgetFit.NOW and together is not BudgetFit.NOW):
                    break
                hoped += wanted if alone is BudgetFit.NOW else Amount()
                back.append((entry, ask))
            heapq.heappop(self._parked)
        return back

    def _fit(self, ask: PermitRequest, wanted: Amount) -> tuple[BudgetFit, str, PermitRequest | None]:
        """Return whether it fits the budget, with a shorter reply where only that ever will; the limit where it does not."""
        ledger = self.ledger
        fit, reason = ledger.check(wanted, last_call=ask.is_final_call)
        if fit is not BudgetFit.NEVER:
            return fit, reason, None
        left = ledger.left(last_call=ask.is_final_call)
        fitting = smaller(ask, left)
        if fitting is not None:
            return BudgetFit.NOW, "", fitting
        waits = ledger.in_flight > 0 and smaller(ask, left + ledger.reserved) is not None
        return (BudgetFit.LATER if waits else fit), reason, None

    def settle(self, permit: PermitRecord, settle: Settle) -> None:
        """Settle an attempt."""
        self.ledger.settle(permit.reserved, actual_cost(permit.ask, settle, permit.reserved))
        self._count(permit, settle)

    def expire(self, permit: PermitRecord) -> None:
        """Expire an attempt that nobody settled: charged as it was reserved."""
        self.ledger.settle(permit.reserved, permit.reserved)
        self._count(permit, _lost(permit))

    def correct(self, permit: PermitRecord, settle: Settle) -> None:
        """Correct the charge of an attempt that had expired."""
        ask = permit.ask
        self.ledger.amend(permit.reserved, actual_cost(ask, settle))
        self.usage_counts.add(
            ask.model, ask.depth, call_stats(ask, settle, 0, 0) - call_stats(ask, _lost(permit), 0, 0)
        )

    def share(self) -> BudgetShare:
        """Return half of each client's even share of the rest."""
        part = 2 * max(len(self._clients), 1)
        left = self.ledger.left().elementwise_max(Amount())
        share = Amount(left.nano_usd // part, left.tokens // part, left.calls // part)
        return BudgetShare(self.policy.run_id, self.ledger.spent, share)

    def resume(self, holder: str, record: RunSnapshot) -> None:
        """Take over what `holder` knows, once. The run had spent the sum of what its clients charged, or what one of them
        last saw where that is more: a client may have died with its snapshot."""
        if holder in self._restored_from:
            return
        self._restored_from.add(holder)
        self._clients.add(holder)
        self.usage_counts.merge(record.usage.items())
        self.ledger.keep_for_last_call(record.largest_root_call)
        self._reported += record.charged
        carried = self._restored.elementwise_max(self._reported).elementwise_max(record.known_spent)
        self.ledger.amend(self._restored, carried)
        self._restored = carried

    def _count(self, permit: PermitRecord, settle: Settle) -> None:
        ask = permit.ask
        self.usage_counts.add(
            ask.model, ask.depth, call_stats(ask, settle, permit.queue_wait_s, permit.rate_wait_s)
        )

    def _refusal_message(self, reason: str, ask: PermitRequest) -> str:
        limits, spent = self.policy.limits, self.ledger.spent
        left, wanted = self.ledger.left(last_call=ask.is_final_call).elementwise_max(Amount()), max_cost(ask)
        kept = "" if ask.is_final_call else " (besides what is kept for the last answer)"
        match reason:
            case "cost_usd":
                return (
                    f"the cost limit of ${limits.cost_usd:g} is reached: ${_usd(spent)} spent, "
                    f"${_usd(left)} left{kept} for a call that may cost ${_usd(wanted)} with max_tokens="
                    f"{ask.output_tokens}; raise limits.cost_usd, or lower max_tokens"
                )
            case "tokens":
                return (
                    f"the token limit of {limits.tokens} is reached: {spent.tokens} used, "
                    f"{left.tokens} left{kept} for a call that may take {wanted.tokens} with max_tokens="
                    f"{ask.output_tokens}; raise limits.tokens, or lower max_tokens"
                )
            case _:
                return f"the limit of {limits.calls} calls is reached: {spent.calls} answered{kept}"


def _usd(amount: Amount) -> str:
    return f"{amount.nano_usd / NANO:.6g}"


def _lost(permit: PermitRecord) -> Settle:
    return Settle(permit.ask.request_id, AttemptOutcome.UNKNOWN)
