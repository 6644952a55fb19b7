"""An `AccountQueue` is one provider account with the requests that wait for it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import astuple
from typing import assert_never

from rlm_ray.admission.policy.account import Account, RateReservation
from rlm_ray.admission.policy.fair_queue import Queue
from rlm_ray.admission.policy.rate_headers import RateLimitHeaders
from rlm_ray.admission.protocol import AttemptOutcome, Settle
from rlm_ray.core.limits import Rates

QUOTA_WAIT_S = 600.0
"""A provider that asks to wait longer than this has no quota left for now."""


class AccountQueue:
    """Holds an account, its queue, and the rates that the runs using it have declared."""

    __slots__ = ("_declared", "account", "exhausted_why", "queue", "quota_exhausted_at", "used_at", "wakeup")

    def __init__(self, rates: Rates) -> None:
        self.account = Account(rates)
        self.queue = Queue()
        self.wakeup = math.inf
        """The moment at which the first in the queue may go, as far as time alone decides it."""
        self.quota_exhausted_at = -math.inf
        """The moment at which the provider last said that the account has nothing left."""
        self.exhausted_why = ""
        self.used_at = -math.inf
        """The moment of the last request for it."""
        self._declared: dict[str, Rates] = {}

    @property
    def is_idle(self) -> bool:
        """Tell whether no open run uses the account."""
        return not self._declared and not len(self.queue)

    def declare_rates(self, run_id: str, rates: Rates) -> None:
        """Register a run and the rates it declares. Where runs declare different rates, the smallest holds."""
        if self._declared.get(run_id) != rates:
            self._declared[run_id] = rates
            self.account.declare(_smallest(self._declared.values()))

    def remove_run(self, run_id: str) -> None:
        """Remove a run that is over. What was learned about the account is kept, even after the last run."""
        if self._declared.pop(run_id, None) is not None and self._declared:
            self.account.declare(_smallest(self._declared.values()))

    def on_settlement(self, taken: RateReservation, settle: Settle, jitter: float, now: float) -> None:
        """Update the account from the outcome of an attempt."""
        account, facts, usage = self.account, settle.rate_headers, settle.usage
        if facts is not None:
            account.on_headers(facts)
        match settle.outcome:
            case AttemptOutcome.OK | AttemptOutcome.REJECTED:
                account.on_success(taken, (usage.input_tokens, usage.output_tokens) if usage else None, now)
            case AttemptOutcome.RATE_LIMITED:
                account.on_rate_limited(taken, facts, jitter, now)
                self._exhaust_by_wait(facts, now)
            case AttemptOutcome.QUOTA_EXHAUSTED:
                account.on_not_sent(taken, now)
                self.quota_exhausted_at = now
                self.exhausted_why = settle.why or "the provider says that the account has no quota left"
            case AttemptOutcome.NOT_SENT:
                account.on_not_sent(taken, now)
            case (
                AttemptOutcome.SERVER_ERROR
                | AttemptOutcome.TIMEOUT
                | AttemptOutcome.CANCELLED
                | AttemptOutcome.UNKNOWN
            ):
                account.on_error(now)
            case _:
                assert_never(settle.outcome)

    def _exhaust_by_wait(self, facts: RateLimitHeaders | None, now: float) -> None:
        wait_s = facts.retry_after_s if facts else None
        if wait_s is not None and wait_s > QUOTA_WAIT_S:
            self.quota_exhausted_at = now
            self.exhausted_why = (
                f"the provider asks to wait {wait_s / 60:.0f} minutes: the quota of the day is used up"
            )


def _smallest(declared: Iterable[Rates]) -> Rates:
    columns = zip(*(astuple(rates) for rates in declared), strict=True)
    return Rates(*(min((said for said in column if said is not None), default=None) for column in columns))
