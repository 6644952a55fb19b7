"""`Admission` decides which model call may go out, for everything that shares it: one per cluster.

A plain class without IO and without a clock: every method takes `now`, seconds of a clock that only goes forward.
`ask` and `settle` change what it knows; `poll` gives out the verdicts that follow; `next_wakeup` says when time
alone can bring the next. Its rules stand where they are kept:

    core/account.py  the rate of a provider account: pace, tokens, in flight, Retry-After
    core/queue.py    who is next
    core/ledger.py   the budget of a run

A permit covers one HTTP attempt. It is given back by `settle`, or taken back when its time is over or its holder
is forgotten; then it stays charged at its estimate until, perhaps, a late settle tells the truth. Settling twice,
asking twice with one ticket and withdrawing what is gone change nothing.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass

from rlm_ray.admission.account_queue import Door
from rlm_ray.admission.accounting import worst
from rlm_ray.admission.permit_table import Permit, Permits, Strays
from rlm_ray.admission.policy.fair_queue import Place
from rlm_ray.admission.protocol import (
    Ask,
    Granted,
    Outcome,
    Refused,
    Resume,
    Room,
    RunStatus,
    RunTerms,
    Settle,
    Verdict,
)
from rlm_ray.admission.run_budget import Judgement, Run
from rlm_ray.core.budget import Fit
from rlm_ray.core.usage import RunUsage

IDLE_ACCOUNT_S = 3600.0
"""What was found out about an account is forgotten when no run has used it for so long."""
COMING_BACK_S = 2.5
"""How long nothing is granted of a limited run that came from another life: each holder must have had the time to
tell what it spent and what it has under way (`RETRY_S` and `HEARTBEAT_S` in `client.py`)."""
SPARE_DEADLINES = 64
"""Of closed runs, before they are cleared away."""
WORK_PER_CALL = 500
"""What a call costs its place in the queue besides its tokens."""
_CLOSED = Judgement(Fit.NEVER, "closed", "the run is not open, or over")


@dataclass(frozen=True, slots=True)
class _Waiting:
    ask: Ask
    place: Place
    asked_at: float
    rate_waited_before_s: float


class Admission:
    """One rate limit and one budget for the whole cluster. `jitter` draws from 0 to 1."""

    def __init__(self, jitter: Callable[[], float] = lambda: 0.5) -> None:
        self._jitter = jitter
        self._runs: dict[str, Run] = {}
        self._doors: dict[str, Door] = {}
        self._waiting: dict[str, _Waiting] = {}
        self._permits = Permits()
        self._strays = Strays()
        self._deadlines: list[tuple[float, str]] = []
        self._verdicts: list[Verdict] = []
        self._arrivals = 0

    # Runs

    def open_run(self, terms: RunTerms, now: float) -> None:
        """A run that is open already stays as it is."""
        if terms.run_id not in self._runs:
            run = self._runs[terms.run_id] = Run(terms, now)
            if run.deadline < math.inf:
                heapq.heappush(self._deadlines, (run.deadline, terms.run_id))
            for ask in self._strays.claim(terms.run_id):
                self._enqueue(ask, run, now)

    def close_run(self, run_id: str) -> RunUsage:
        """What it used; what still waits for it is refused. Empty where it was not open."""
        run = self._runs.pop(run_id, None)
        if run is None:
            return RunUsage()
        for ticket in list(run.waiting):
            self._refuse(self._waiting[ticket], _CLOSED)
        for door in self._doors.values():
            door.retract(run_id)
        if len(self._deadlines) > 2 * len(self._runs) + SPARE_DEADLINES:
            self._deadlines = [entry for entry in self._deadlines if entry[1] in self._runs]
            heapq.heapify(self._deadlines)
        return run.usage()

    def forget_idle_accounts(self, now: float) -> None:
        """Drop those that nobody uses, waits for or has declared rates of."""
        in_use = self._permits.accounts()
        for key, door in list(self._doors.items()):
            if door.is_idle and key not in in_use and now - door.used_at >= IDLE_ACCOUNT_S:
                del self._doors[key]

    def census(self) -> dict[str, int]:
        """How many rows each table has."""
        return {
            "runs": len(self._runs),
            "accounts": len(self._doors),
            "waiting": len(self._waiting),
            "permits": len(self._permits),
            "strays": len(self._strays),
            "deadlines": len(self._deadlines),
        }

    def open_sessions(self, run_id: str, count: int = 1) -> Refused | None:
        """Count more sessions; the refusal where the run's limits have no place for all of them."""
        run = self._runs.get(run_id)
        judgement = _CLOSED if run is None else run.open_sessions(count)
        return None if judgement.fit is Fit.NOW else Refused("", "", judgement.reason, judgement.why)

    def usage(self, run_id: str) -> RunUsage:
        return self._runs[run_id].usage() if run_id in self._runs else RunUsage()

    def terms(self, run_id: str, now: float) -> RunTerms | None:
        return self._runs[run_id].terms_at(now) if run_id in self._runs else None

    def room(self, run_id: str) -> Room | None:
        """What each holder may spend of a run on its own, should nobody be here to ask."""
        return self._runs[run_id].room() if run_id in self._runs else None

    def status(self, run_id: str, now: float) -> RunStatus | None:
        """How it stands; None where it is not open."""
        run = self._runs.get(run_id)
        if run is None:
            return None
        accounts = set(run.waiting.values())
        return run.status({account: _blocked(self._doors[account], run, now) for account in accounts}, now)

    # Asks

    def ask(self, ask: Ask, now: float) -> None:
        """Put it in the queue, or refuse it at once where it can never go."""
        if ask.ticket in self._permits:
            permit = self._permits[ask.ticket]
            self._verdicts.append(_granted(permit, None if permit.ask == ask else permit.ask))
            return
        run = self._runs.get(ask.run_id)
        if run is None:
            self._strays.add(ask, now)
        elif ask.ticket not in self._waiting:
            self._enqueue(ask, run, now)

    def withdraw(self, ticket: str, now: float) -> None:
        """It is not wanted any more, whether it waits or was granted."""
        waiting = self._waiting.get(ticket)
        self._strays.withdraw(ticket)
        if waiting is not None:
            self._drop(waiting)
            self._return_aside(self._runs[waiting.ask.run_id])
        else:
            self.settle(Settle(ticket, Outcome.UNSENT), now)

    def poll(self, now: float) -> list[Verdict]:
        """All verdicts that are due."""
        for ticket in self._permits.expired(now):
            self._lose(ticket, now)
        self._enforce_deadlines(now)
        for ask in self._strays.expired(now):
            self._verdicts.append(Refused(ask.ticket, ask.holder, _CLOSED.reason, _CLOSED.why))
        for door in self._doors.values():
            self._admit(door, now)
        verdicts, self._verdicts = self._verdicts, []
        return verdicts

    def next_wakeup(self, now: float) -> float | None:
        """The moment of the next verdict that time alone will bring; None where none is to come."""
        if self._verdicts:
            return now
        moment = min((door.wakeup for door in self._doors.values()), default=math.inf)
        deadline = self._deadlines[0][0] if self._deadlines else math.inf
        moment = min(moment, deadline, self._strays.next_expiry(), self._permits.next_expiry())
        return None if moment == math.inf else max(moment, now)

    # Answers

    def settle(self, settle: Settle, now: float) -> None:
        """An attempt is over."""
        permit = self._permits.pop(settle.permit)
        if permit is None:
            self._amend(settle)
            return
        ask = permit.ask
        run = self._runs.get(ask.run_id)
        if run is not None:
            run.settle(permit, settle)
            self._return_aside(run)
        self._doors[ask.account_key].learn(permit.taken, settle, self._jitter(), now)

    def forget_holder(self, holder: str, now: float) -> None:
        """It died: what it holds is lost, what it asked for is not wanted any more."""
        for ticket in self._permits.of(holder):
            self._lose(ticket, now)
        for waiting in [waiting for waiting in self._waiting.values() if waiting.ask.holder == holder]:
            self.withdraw(waiting.ask.ticket, now)

    def resume(self, holder: str, resume: Resume, now: float) -> None:
        """Learn from a holder what was before this admission started."""
        for record in resume.runs:
            if record.terms.run_id not in self._runs:
                self.open_run(record.terms, now)
                self._runs[record.terms.run_id].hold_until(now + COMING_BACK_S)
            self._runs[record.terms.run_id].resume(holder, record)
        for ask in resume.in_flight:
            run = self._runs.get(ask.run_id)
            if run is None or ask.ticket in self._permits or self._permits.over(ask.ticket):
                continue
            if ask.ticket in self._waiting:
                self._drop(self._waiting[ask.ticket])
            self._issue(ask, run, now)

    # How

    def _enqueue(self, ask: Ask, run: Run, now: float) -> None:
        door = self._door(ask, run, now)
        self._arrivals += 1
        work = float(WORK_PER_CALL + ask.input_tokens + ask.output_tokens)
        place = Place(ask.root_order, -ask.depth, self._arrivals, ask.ticket, run.lane, work)
        waiting = _Waiting(ask, place, now, door.account.rate_waited_s(now))
        self._waiting[ask.ticket] = waiting
        run.add(ask)
        judgement = _judge(door, run, ask, now)
        if judgement.fit is Fit.NEVER:
            self._refuse(waiting, judgement)
        else:
            door.queue.add(place)

    def _admit(self, door: Door, now: float) -> None:
        """Give out what this door can give now."""
        door.wakeup = math.inf
        while (place := door.queue.first()) is not None:
            waiting = self._waiting[place.ticket]
            ask, run = waiting.ask, self._runs[waiting.ask.run_id]
            judgement = _judge(door, run, ask, now)
            if judgement.fit is Fit.NEVER:
                self._refuse(waiting, judgement)
                self._return_aside(run)
            elif judgement.fit is Fit.LATER:
                door.queue.remove(place.ticket)
                run.put_aside(place, ask)
            elif (wait_s := self._wait_s(door, run, judgement.smaller or ask, now)) > 0:
                if wait_s < math.inf:
                    door.queue.hold(place.ticket)
                    door.wakeup = now + wait_s
                return
            else:
                self._grant(waiting, judgement.smaller or ask, run, door, now)

    def _wait_s(self, door: Door, run: Run, ask: Ask, now: float) -> float:
        return max(run.not_before - now, door.account.wait_s(ask.input_tokens, ask.output_tokens, now))

    def _grant(self, waiting: _Waiting, ask: Ask, run: Run, door: Door, now: float) -> None:
        door.queue.grant(ask.ticket)
        self._drop(waiting)
        waited_s = now - waiting.asked_at
        rate_waited_s = min(door.account.rate_waited_s(now) - waiting.rate_waited_before_s, waited_s)
        permit = self._issue(ask, run, now, (waited_s - rate_waited_s, rate_waited_s))
        self._verdicts.append(_granted(permit, None if ask is waiting.ask else ask))

    def _issue(self, ask: Ask, run: Run, now: float, waits_s: tuple[float, float] = (0.0, 0.0)) -> Permit:
        reserved = worst(ask)
        run.ledger.reserve(reserved, root=ask.depth == 0 and not ask.last_call)
        taken = self._door(ask, run, now).account.take(ask.input_tokens, ask.output_tokens, now)
        permit = Permit(ask, taken, reserved, now + ask.ttl_s, *waits_s)
        self._permits.add(permit)
        return permit

    def _refuse(self, waiting: _Waiting, judgement: Judgement) -> None:
        ask = waiting.ask
        self._drop(waiting)
        self._verdicts.append(Refused(ask.ticket, ask.holder, judgement.reason, judgement.why))

    def _drop(self, waiting: _Waiting) -> None:
        """It waits nowhere any more."""
        ask = waiting.ask
        del self._waiting[ask.ticket]
        self._doors[ask.account_key].queue.remove(ask.ticket)
        if ask.run_id in self._runs:
            self._runs[ask.run_id].waiting.pop(ask.ticket, None)

    def _return_aside(self, run: Run) -> None:
        for place, ask in run.take_back():
            self._doors[ask.account_key].queue.add(place)

    def _enforce_deadlines(self, now: float) -> None:
        while self._deadlines and self._deadlines[0][0] <= now:
            run = self._runs.get(heapq.heappop(self._deadlines)[1])
            if run is not None:
                for ticket in sorted(run.waiting):
                    waiting = self._waiting[ticket]
                    judgement = run.judge(waiting.ask, now)
                    if judgement.reason == "time_s":
                        self._refuse(waiting, judgement)

    def _lose(self, ticket: str, now: float) -> None:
        """Nobody answers for this permit: charged as it was reserved."""
        permit = self._permits.lose(ticket)
        run = self._runs.get(permit.ask.run_id)
        if run is not None:
            run.lose(permit)
            self._return_aside(run)
        self._doors[permit.ask.account_key].account.failed(now)

    def _amend(self, settle: Settle) -> None:
        """The truth about a permit that was lost, if this is one."""
        permit = self._permits.find(settle.permit)
        run = self._runs.get(permit.ask.run_id) if permit else None
        if permit is not None and run is not None:
            run.amend(permit, settle)
            self._return_aside(run)

    def _door(self, ask: Ask, run: Run, now: float) -> Door:
        door = self._doors.get(ask.account_key)
        if door is None:
            door = self._doors[ask.account_key] = Door(run.terms.rates)
        door.declare(ask.run_id, run.terms.rates)
        door.used_at = now
        return door


def _judge(door: Door, run: Run, ask: Ask, now: float) -> Judgement:
    if run.opened_at <= door.exhausted_at:
        return Judgement(Fit.NEVER, "quota", door.exhausted_why)
    return run.judge(ask, now)


def _blocked(door: Door, run: Run, now: float) -> str:
    """What keeps those who wait for this account."""
    if not door.account.window.open:
        return "window"
    return "pause" if max(door.account.not_before, run.not_before) > now else "rate"


def _granted(permit: Permit, smaller: Ask | None = None) -> Granted:
    ask = permit.ask
    return Granted(ask.ticket, ask.holder, permit.queue_wait_s, permit.rate_wait_s, smaller)
