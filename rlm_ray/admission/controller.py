"""`AdmissionController` decides which model call may go out, for the whole cluster.

A plain class without I/O and without a clock: every method takes `now`, seconds of a monotonic clock. `request` and
`release` change its state, `decisions` returns the decisions that follow, `next_wakeup` says when time alone can bring
the next one. The rules are elsewhere:

    admission/policy/account.py     the rate of a provider account: pace, tokens, in flight, Retry-After
    admission/policy/fair_queue.py  who is next
    core/limits.py                  the budget of a run
    admission/open_runs.py          whose a run is, and when it is over

A permit covers one HTTP attempt. It ends with `release`, or when its time is over or its client is dropped; then it
stays charged at its estimate until, perhaps, a late settlement says what was used. Settling twice, asking twice with
one id and cancelling what is gone change nothing.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from rlm_ray.admission.open_runs import OpenRuns
from rlm_ray.admission.permit_table import OrphanRequests, PermitRecord, Permits, is_root_call, max_cost
from rlm_ray.admission.policy.account import AccountQueue
from rlm_ray.admission.policy.fair_queue import QueueEntry
from rlm_ray.admission.protocol import (
    AttemptOutcome,
    BudgetShare,
    Decision,
    Granted,
    PermitRequest,
    Refused,
    Resume,
    RunPolicy,
    RunStatus,
    Settle,
)
from rlm_ray.admission.run_budget import BudgetDecision, RunBudget
from rlm_ray.core.limits import Amount, BudgetFit
from rlm_ray.events.usage import RunUsage

IDLE_ACCOUNT_S = 3600.0
"""What was learned about an account is dropped when no run has used it for so long."""
RECOVERY_GRACE_S = 2.5
"""How long nothing is granted to a limited run that an earlier admission had: each client must have had the time to
tell what it spent and what it has under way (`RETRY_S` and `HEARTBEAT_S` in `client.py`)."""
SPARE_DEADLINES = 64
"""How many deadlines of closed runs are left in the heap before it is rebuilt."""
FIXED_COST_PER_CALL = 500
"""What a call costs its flow besides its tokens."""
_RUN_NOT_OPEN = BudgetDecision(BudgetFit.NEVER, "closed", "the run is not open, or over")


@dataclass(frozen=True, slots=True)
class _QueuedRequest:
    ask: PermitRequest
    entry: QueueEntry
    asked_at: float
    rate_waited_before_s: float
    wanted: Amount
    """The most it may cost."""


class AdmissionController:
    """Holds one rate limit for each account and one budget for each run. `jitter` draws from 0 to 1."""

    def __init__(self, jitter: Callable[[], float] = lambda: 0.5) -> None:
        self._jitter = jitter
        self._runs = OpenRuns()
        self._account_queues: dict[str, AccountQueue] = {}
        self._waiting: dict[str, _QueuedRequest] = {}
        self._permits = Permits()
        self._orphans = OrphanRequests()
        self._deadlines: list[tuple[float, str]] = []
        self._decisions: list[Decision] = []
        self._arrivals = 0

    # Runs

    def open_run(self, policy: RunPolicy, now: float) -> None:
        """Open a run, also one that an earlier attempt closed. One that is open keeps what it has spent."""
        self._take_in(self._runs.open(policy, now), now)

    def hold_run(self, run_id: str) -> None:
        """Count one more driver that holds the run; before or after it is opened."""
        self._runs.hold(run_id)

    def leave_run(self, run_id: str, now: float) -> None:
        """Count one driver less. An open run that none holds any more is closed in a while by `close_abandoned_runs`."""
        self._runs.leave(run_id, now)

    def is_held(self, run_id: str) -> bool:
        """Tell whether a driver holds the run."""
        return self._runs.is_held(run_id)

    def close_run(self, run_id: str, attempt: float | None = None) -> RunUsage:
        """Close a run for an attempt of it, or for whichever has it, and return its usage; its waiting requests are refused.
        Empty where it was not open.
        """
        run = self._runs.close(run_id, attempt)
        for ask in self._orphans.pop_run(run_id):
            self._decisions.append(_refused(ask, _RUN_NOT_OPEN))
        if run is None:
            return RunUsage()
        for request_id in list(run.waiting):
            self._refuse(self._waiting[request_id], _RUN_NOT_OPEN)
        for account_queue in self._account_queues.values():
            account_queue.remove_run(run_id)
        if len(self._deadlines) > 2 * len(self._runs) + SPARE_DEADLINES:
            self._deadlines = [entry for entry in self._deadlines if entry[1] in self._runs]
            heapq.heapify(self._deadlines)
        return run.usage()

    def close_abandoned_runs(self, now: float) -> None:
        """Close the runs whose drivers are gone, or never came."""
        for run_id in self._runs.abandoned(now):
            self.close_run(run_id)

    def forget_idle_accounts(self, now: float) -> None:
        """Drop accounts that no run uses, waits for or has declared rates of."""
        in_use = self._permits.accounts()
        for key, account_queue in list(self._account_queues.items()):
            if account_queue.is_idle and key not in in_use and now - account_queue.used_at >= IDLE_ACCOUNT_S:
                del self._account_queues[key]

    def stats(self) -> dict[str, int]:
        """Count the rows of each table, for tests of leaks."""
        return {
            **self._runs.stats(),
            "accounts": len(self._account_queues),
            "waiting": len(self._waiting),
            "permits": len(self._permits),
            "strays": len(self._orphans),
            "deadlines": len(self._deadlines),
        }

    def open_sessions(self, policy: RunPolicy, count: int, now: float) -> Refused | None:
        """Count more sessions of a run, which is opened where an earlier admission had it; returns the refusal where it is
        over, or its limits do not allow all of them."""
        self._take_in(self._runs.reopen(policy, now), now)
        run = self._runs.get(policy.run_id)
        decision = _RUN_NOT_OPEN if run is None else run.open_sessions(count)
        return None if decision.fit is BudgetFit.NOW else Refused("", "", decision.reason, decision.why)

    def usage(self, run_id: str) -> RunUsage:
        return self._runs[run_id].usage() if run_id in self._runs else RunUsage()

    def run_policy(self, run_id: str, now: float) -> RunPolicy | None:
        return self._runs[run_id].policy_at(now) if run_id in self._runs else None

    def budget_share(self, run_id: str) -> BudgetShare | None:
        """Return what each client may spend of a run while the admission cannot be reached."""
        return self._runs[run_id].share() if run_id in self._runs else None

    def status(self, run_id: str, now: float) -> RunStatus | None:
        """Return the status of a run; None where it is not open."""
        run = self._runs.get(run_id)
        if run is None:
            return None
        queues = {account: self._account_queues[account] for account in set(run.waiting.values())}
        blocked = {account: _blocking_reason(queue, run, now) for account, queue in queues.items()}
        waits = [(blocked[account], queue.wakeup - now) for account, queue in queues.items()]
        wait_s = {reason: wait for reason, wait in sorted(waits, reverse=True) if 0 < wait < math.inf}
        return replace(run.status(blocked, now), wait_s=wait_s)

    # Asks

    def request(self, ask: PermitRequest, now: float) -> None:
        """Queue a request, or refuse it at once where it can never go."""
        if ask.request_id in self._permits:
            permit = self._permits[ask.request_id]
            self._decisions.append(_granted(permit, None if permit.ask == ask else permit.ask))
            return
        run = self._runs.get(ask.run_id)
        if self._runs.is_closed(ask.run_id):
            self._decisions.append(_refused(ask, _RUN_NOT_OPEN))
        elif run is None:
            self._orphans.add(ask, now)
        elif ask.request_id not in self._waiting:
            self._enqueue(ask, run, now)

    def cancel(self, request_id: str, now: float) -> None:
        """Cancel a request, whether it waits or was granted."""
        waiting = self._waiting.get(request_id)
        self._orphans.withdraw(request_id)
        if waiting is not None:
            self._dequeue(waiting)
            self._unpark(self._runs[waiting.ask.run_id])
        else:
            self.release(Settle(request_id, AttemptOutcome.NOT_SENT), now)

    def decisions(self, now: float) -> list[Decision]:
        """Return all decisions that are due."""
        for request_id in self._permits.expired(now):
            self._expire(request_id)
        self._enforce_deadlines(now)
        for ask in self._orphans.expired(now):
            self._decisions.append(_refused(ask, _RUN_NOT_OPEN))
        for account_queue in self._account_queues.values():
            self._admit(account_queue, now)
        decisions, self._decisions = self._decisions, []
        return decisions

    def next_wakeup(self, now: float) -> float | None:
        """Return the moment of the next decision that time alone will bring; None where there is none."""
        if self._decisions:
            return now
        moment = min(
            (account_queue.wakeup for account_queue in self._account_queues.values()), default=math.inf
        )
        deadline = self._deadlines[0][0] if self._deadlines else math.inf
        moment = min(moment, deadline, self._orphans.next_expiry(), self._permits.next_expiry())
        return None if moment == math.inf else max(moment, now)

    # Answers

    def release(self, settle: Settle, now: float) -> None:
        """Settle an attempt that is over."""
        permit = self._permits.pop(settle.permit)
        if permit is None:
            self._correct_late(settle)
            return
        ask = permit.ask
        run = self._runs.get(ask.run_id)
        if run is not None:
            run.settle(permit, settle)
            self._unpark(run)
        self._account_queues[ask.account_key].on_settlement(permit.taken, settle, self._jitter(), now)

    def drop_client(self, holder: str, now: float) -> None:
        """Drop a client that died: its permits are lost, its requests are cancelled."""
        for request_id in self._permits.of_client(holder):
            self._expire(request_id)
        for waiting in [waiting for waiting in self._waiting.values() if waiting.ask.client_id == holder]:
            self.cancel(waiting.ask.request_id, now)

    def restore(self, holder: str, resume: Resume, now: float) -> None:
        """Take over from a client what was before this admission started."""
        for record in resume.runs:
            reopened = self._runs.reopen(record.policy, now)
            if reopened is not None:
                self._take_in(reopened, now)
                reopened.pause_until(now + RECOVERY_GRACE_S)
            if record.policy.run_id in self._runs:
                self._runs[record.policy.run_id].resume(holder, record)
        for ask in resume.in_flight:
            run = self._runs.get(ask.run_id)
            if run is None or ask.request_id in self._permits or self._permits.is_settled(ask.request_id):
                continue
            if ask.request_id in self._waiting:
                self._dequeue(self._waiting[ask.request_id])
            self._grant_permit(ask, run, self._account(ask, run, now), max_cost(ask), now)

    # How

    def _take_in(self, opened: RunBudget | None, now: float) -> None:
        """Watch the deadline of a run that was just opened, and queue the requests that waited for it."""
        if opened is None:
            return
        run_id = opened.policy.run_id
        if opened.deadline < math.inf:
            heapq.heappush(self._deadlines, (opened.deadline, run_id))
        for ask in self._orphans.pop_run(run_id):
            self._enqueue(ask, opened, now)

    def _enqueue(self, ask: PermitRequest, run: RunBudget, now: float) -> None:
        account_queue = self._account(ask, run, now)
        self._arrivals += 1
        work = float(FIXED_COST_PER_CALL + ask.input_tokens + ask.output_tokens)
        entry = QueueEntry(ask.run_started_at, -ask.depth, self._arrivals, ask.request_id, run.flow, work)
        wanted = max_cost(ask)
        waiting = _QueuedRequest(ask, entry, now, account_queue.account.throttled_s(now), wanted)
        self._waiting[ask.request_id] = waiting
        run.add(ask)
        # The first in a queue is looked at by `decisions` anyway; one behind others is refused at once if it has to be.
        if len(account_queue.queue) and (
            (decision := _check_budget(account_queue, run, ask, wanted, now)).fit is BudgetFit.NEVER
        ):
            self._refuse(waiting, decision)
        else:
            account_queue.queue.add(entry)

    def _admit(self, account_queue: AccountQueue, now: float) -> None:
        """Grant what this account can grant now."""
        account_queue.wakeup = math.inf
        while (entry := account_queue.queue.first()) is not None:
            waiting = self._waiting[entry.request_id]
            ask, run = waiting.ask, self._runs[waiting.ask.run_id]
            decision = _check_budget(account_queue, run, ask, waiting.wanted, now)
            if decision.fit is BudgetFit.NEVER:
                self._refuse(waiting, decision)
                self._unpark(run)
            elif decision.fit is BudgetFit.LATER:
                account_queue.queue.remove(entry.request_id)
                run.park(entry, ask)
            elif (wait_s := self._wait_s(account_queue, run, decision.smaller or ask, now)) > 0:
                if wait_s < math.inf:
                    account_queue.queue.pin(entry.request_id)
                    account_queue.wakeup = now + wait_s
                return
            else:
                self._grant(waiting, decision.smaller or ask, run, account_queue, now)

    def _wait_s(self, account_queue: AccountQueue, run: RunBudget, ask: PermitRequest, now: float) -> float:
        return max(
            run.not_before - now, account_queue.account.wait_s(ask.input_tokens, ask.output_tokens, now)
        )

    def _grant(
        self,
        waiting: _QueuedRequest,
        ask: PermitRequest,
        run: RunBudget,
        account_queue: AccountQueue,
        now: float,
    ) -> None:
        account_queue.queue.grant(ask.request_id)
        self._dequeue(waiting)
        waited_s = now - waiting.asked_at
        rate_waited_s = min(account_queue.account.throttled_s(now) - waiting.rate_waited_before_s, waited_s)
        reserved = waiting.wanted if ask is waiting.ask else max_cost(ask)
        waits_s = waited_s - rate_waited_s, rate_waited_s
        permit = self._grant_permit(ask, run, account_queue, reserved, now, waits_s)
        self._decisions.append(_granted(permit, None if ask is waiting.ask else ask))

    def _grant_permit(  # noqa: PLR0913, PLR0917 - what a permit is about
        self,
        ask: PermitRequest,
        run: RunBudget,
        account_queue: AccountQueue,
        reserved: Amount,
        now: float,
        waits_s: tuple[float, float] = (0.0, 0.0),
    ) -> PermitRecord:
        run.ledger.reserve(reserved, root=is_root_call(ask))
        taken = account_queue.account.take(ask.input_tokens, ask.output_tokens, now)
        account_queue.used_at = now
        permit = PermitRecord(ask, taken, reserved, now + ask.ttl_s, *waits_s)
        self._permits.add(permit)
        return permit

    def _refuse(self, waiting: _QueuedRequest, decision: BudgetDecision) -> None:
        self._dequeue(waiting)
        self._decisions.append(_refused(waiting.ask, decision))

    def _dequeue(self, waiting: _QueuedRequest) -> None:
        """Take a request out of the queue it waits in."""
        ask = waiting.ask
        del self._waiting[ask.request_id]
        self._account_queues[ask.account_key].queue.remove(ask.request_id)
        if ask.run_id in self._runs:
            self._runs[ask.run_id].waiting.pop(ask.request_id, None)

    def _unpark(self, run: RunBudget) -> None:
        for entry, ask in run.unpark():
            self._account_queues[ask.account_key].queue.add(entry)

    def _enforce_deadlines(self, now: float) -> None:
        while self._deadlines and self._deadlines[0][0] <= now:
            run = self._runs.get(heapq.heappop(self._deadlines)[1])
            if run is not None:
                for request_id in sorted(run.waiting):
                    waiting = self._waiting[request_id]
                    decision = run.check(waiting.ask, now)
                    if decision.reason == "time_s":
                        self._refuse(waiting, decision)

    def _expire(self, request_id: str) -> None:
        """Expire a permit that nobody settled: charged as it was reserved."""
        permit = self._permits.expire(request_id)
        run = self._runs.get(permit.ask.run_id)
        if run is not None:
            run.expire(permit)
            self._unpark(run)
        self._account_queues[permit.ask.account_key].account.on_error()

    def _correct_late(self, settle: Settle) -> None:
        """Correct the charge of a permit that had expired, if this is one."""
        permit = self._permits.pop_expired(settle.permit)
        run = self._runs.get(permit.ask.run_id) if permit else None
        if permit is not None and run is not None:
            run.correct(permit, settle)
            self._unpark(run)

    def _account(self, ask: PermitRequest, run: RunBudget, now: float) -> AccountQueue:
        account_queue = self._account_queues.get(ask.account_key)
        if account_queue is None:
            account_queue = self._account_queues[ask.account_key] = AccountQueue(run.policy.rates)
        account_queue.declare_rates(ask.run_id, run.policy.rates)
        account_queue.used_at = now
        return account_queue


def _check_budget(
    account_queue: AccountQueue, run: RunBudget, ask: PermitRequest, wanted: Amount, now: float
) -> BudgetDecision:
    if run.opened_at <= account_queue.quota_exhausted_at:
        return BudgetDecision(BudgetFit.NEVER, "quota", account_queue.exhausted_why)
    return run.check(ask, now, wanted)


def _blocking_reason(account_queue: AccountQueue, run: RunBudget, now: float) -> str:
    """Say what the requests for this account wait for."""
    if not account_queue.account.concurrency.open:
        return "window"
    return "pause" if max(account_queue.account.not_before, run.not_before) > now else "rate"


def _granted(permit: PermitRecord, smaller: PermitRequest | None = None) -> Granted:
    ask = permit.ask
    return Granted(ask.request_id, ask.client_id, permit.queue_wait_s, permit.rate_wait_s, smaller)


def _refused(ask: PermitRequest, decision: BudgetDecision) -> Refused:
    return Refused(ask.request_id, ask.client_id, decision.reason, decision.why)
