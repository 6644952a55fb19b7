"""A `Run` is one recursion tree as admission sees it: its terms, its budget, its books, and who waits for it."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from rlm_ray.admission.accounting import charge, smaller, tally, worst
from rlm_ray.admission.permit_table import Permit
from rlm_ray.admission.policy.fair_queue import Lane, Place
from rlm_ray.admission.protocol import Ask, Outcome, Room, RunRecord, RunStatus, RunTerms, Settle
from rlm_ray.core.budget import NANO, Amount, Fit, Ledger
from rlm_ray.core.usage import RunUsage, Tallies


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the budget says to an ask."""

    fit: Fit
    reason: str = ""
    why: str = ""
    smaller: Ask | None = None
    """What fits in the place of what was asked for."""


class Run:
    """The budget and the books of one run."""

    def __init__(self, terms: RunTerms, now: float) -> None:
        self.terms = terms
        self.opened_at = now - terms.age_s
        self.ledger = Ledger(terms.limits)
        self.tallies = Tallies()
        self.sessions = 1
        self.waiting: dict[str, str] = {}
        """The tickets of this run that have no verdict yet, and the account each is for."""
        self.not_before = -math.inf
        """Nothing of it is granted earlier."""
        self._holders: set[str] = set()
        self._aside: list[tuple[Place, Ask]] = []
        self.ledger.amend(Amount(), terms.spent)
        self._carried = self._claimed = terms.spent
        self._recorded: set[str] = set()

    @property
    def deadline(self) -> float:
        time_s = self.terms.limits.time_s
        return math.inf if time_s is None else self.opened_at + time_s

    @property
    def lane(self) -> Lane:
        name = f"run:{self.terms.run_id}" if self.terms.tenant is None else f"tenant:{self.terms.tenant}"
        return Lane(name, self.terms.weight, self.terms.interactive)

    def hold_until(self, moment: float) -> None:
        """A run without a limit on what it spends has nothing to wait for."""
        limits = self.terms.limits
        if (limits.cost_usd, limits.tokens, limits.calls) != (None, None, None):
            self.not_before = moment

    def terms_at(self, now: float) -> RunTerms:
        return replace(self.terms, age_s=now - self.opened_at)

    def usage(self) -> RunUsage:
        return RunUsage(self.tallies.rows(), self.sessions)

    def status(self, blocked: Mapping[str, str], now: float) -> RunStatus:
        """`blocked`: what keeps each account it waits for."""
        aside = Counter(ask.account_key for _, ask in self._aside if ask.ticket in self.waiting)
        waiting = Counter({"budget": aside.total()})
        for account, count in Counter(self.waiting.values()).items():
            waiting[blocked[account]] += count - aside[account]
        ledger = self.ledger
        return RunStatus(
            ledger.under_way, dict(+waiting), self.usage(), ledger.spent, ledger.reserved, self.terms.limits,
            now - self.opened_at,
        )  # fmt: skip

    def judge(self, ask: Ask, now: float) -> Judgement:
        """Whether the run can pay for `ask` now, later or never. A last call may be late."""
        limits = self.terms.limits
        if now >= self.deadline and not ask.last_call:
            return Judgement(Fit.NEVER, "time_s", f"the time limit of {limits.time_s:g} s is over")
        if ask.cost_usd is None and limits.cost_usd is not None:
            return Judgement(
                Fit.NEVER, "cost_usd",
                f"a cost limit is set but the price of {ask.model} is not known: give its price or drop the limit",
            )  # fmt: skip
        fit, reason, fitting = self._fit(ask)
        return (
            Judgement(fit, smaller=fitting)
            if fit is Fit.NOW
            else Judgement(fit, reason, self._why(reason, ask))
        )

    def open_sessions(self, count: int) -> Judgement:
        """All of them or none."""
        limit = self.terms.limits.sessions
        if limit is not None and self.sessions + count > limit:
            why = f"the limit of {limit} sessions is reached: {self.sessions} opened, {count} more wanted"
            return Judgement(Fit.NEVER, "sessions", why)
        self.sessions += count
        return Judgement(Fit.NOW)

    def add(self, ask: Ask) -> None:
        self.waiting[ask.ticket] = ask.account_key
        self._holders.add(ask.holder)

    def put_aside(self, place: Place, ask: Ask) -> None:
        """It waits for what others may give back."""
        heapq.heappush(self._aside, (place, ask))

    def take_back(self) -> list[tuple[Place, Ask]]:
        """Those put aside that should be judged again: they fit by now, together, or they never will. The first
        that must go on waiting ends it, so that it is not overtaken by those behind it."""
        back: list[tuple[Place, Ask]] = []
        hoped = Amount()
        while self._aside:
            place, ask = self._aside[0]
            if ask.ticket in self.waiting:
                alone, _, fitting = self._fit(ask)
                wanted = worst(fitting or ask)
                together, _ = self.ledger.fit(wanted + hoped, last_call=ask.last_call)
                if alone is Fit.LATER or (alone is Fit.NOW and together is not Fit.NOW):
                    break
                hoped += wanted if alone is Fit.NOW else Amount()
                back.append((place, ask))
            heapq.heappop(self._aside)
        return back

    def _fit(self, ask: Ask) -> tuple[Fit, str, Ask | None]:
        """Whether it fits the budget, with a shorter reply where only that ever will; the limit where it does not."""
        ledger = self.ledger
        fit, reason = ledger.fit(worst(ask), last_call=ask.last_call)
        if fit is not Fit.NEVER:
            return fit, reason, None
        left = ledger.left(last_call=ask.last_call)
        fitting = smaller(ask, left)
        if fitting is not None:
            return Fit.NOW, "", fitting
        waits = ledger.under_way > 0 and smaller(ask, left + ledger.reserved) is not None
        return (Fit.LATER if waits else fit), reason, None

    def settle(self, permit: Permit, settle: Settle) -> None:
        """An attempt is over."""
        self.ledger.settle(permit.reserved, charge(permit.ask, settle))
        self._count(permit, settle)

    def lose(self, permit: Permit) -> None:
        """Nobody answers for an attempt: charged as it was reserved."""
        self.ledger.settle(permit.reserved, permit.reserved)
        self._count(permit, _lost(permit))

    def amend(self, permit: Permit, settle: Settle) -> None:
        """The truth about one that was lost."""
        ask = permit.ask
        self.ledger.amend(permit.reserved, charge(ask, settle))
        self.tallies.add(ask.model, ask.depth, tally(ask, settle, 0, 0) - tally(ask, _lost(permit), 0, 0))

    def room(self) -> Room:
        """Half of what each holder's even part of the rest would be."""
        part = 2 * max(len(self._holders), 1)
        left = self.ledger.left().most(Amount())
        share = Amount(left.nano_usd // part, left.tokens // part, left.calls // part)
        return Room(self.terms.run_id, self.ledger.spent, share)

    def resume(self, holder: str, record: RunRecord) -> None:
        """Take over what `holder` knows, once. What the run had spent is what the holders' records sum up to,
        or what one of them last heard where that is more: a holder may have died with its record."""
        if holder in self._recorded:
            return
        self._recorded.add(holder)
        self.tallies.merge(record.usage.items())
        self._claimed += record.charged
        carried = self._carried.most(self._claimed).most(record.known_spent)
        self.ledger.amend(self._carried, carried)
        self._carried = carried

    def _count(self, permit: Permit, settle: Settle) -> None:
        ask = permit.ask
        self.tallies.add(ask.model, ask.depth, tally(ask, settle, permit.queue_wait_s, permit.rate_wait_s))

    def _why(self, reason: str, ask: Ask) -> str:
        limits, spent = self.terms.limits, self.ledger.spent
        left, wanted = self.ledger.left(last_call=ask.last_call).most(Amount()), worst(ask)
        kept = "" if ask.last_call else " (besides what is kept for the last answer)"
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


def _lost(permit: Permit) -> Settle:
    return Settle(permit.ask.ticket, Outcome.LOST)
