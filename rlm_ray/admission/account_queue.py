"""A `Door` is one provider account with those who wait before it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import astuple
from typing import assert_never

from rlm_ray.admission.policy.account import Account, Taken
from rlm_ray.admission.policy.fair_queue import Queue
from rlm_ray.admission.policy.rate_headers import RateFacts
from rlm_ray.admission.protocol import Outcome, Settle
from rlm_ray.core.limits import Rates

TOO_LONG_S = 600.0
"""A provider that asks to wait longer than this has no quota left for now."""


class Door:
    """An account, its queue, and what the runs that use it say about its rates."""

    __slots__ = ("_declared", "account", "exhausted_at", "exhausted_why", "queue", "used_at", "wakeup")

    def __init__(self, rates: Rates) -> None:
        self.account = Account(rates)
        self.queue = Queue()
        self.wakeup = math.inf
        """When the first in the queue may go, as far as time alone decides it."""
        self.exhausted_at = -math.inf
        """When the provider last said that the account has nothing left."""
        self.exhausted_why = ""
        self.used_at = -math.inf
        """When somebody last asked for it."""
        self._declared: dict[str, Rates] = {}

    @property
    def is_idle(self) -> bool:
        """No open run uses it."""
        return not self._declared and not len(self.queue)

    def declare(self, run_id: str, rates: Rates) -> None:
        """A run comes in. Where several say different things the smaller holds."""
        if self._declared.get(run_id) != rates:
            self._declared[run_id] = rates
            self.account.declare(_smallest(self._declared.values()))

    def retract(self, run_id: str) -> None:
        """A run is over. Where it was the last, what was found out about the account is kept."""
        if self._declared.pop(run_id, None) is not None and self._declared:
            self.account.declare(_smallest(self._declared.values()))

    def learn(self, taken: Taken, settle: Settle, jitter: float, now: float) -> None:
        """What an answer says about the account."""
        account, facts, usage = self.account, settle.facts, settle.usage
        if facts is not None:
            account.heard(facts)
        match settle.outcome:
            case Outcome.OK | Outcome.REJECTED:
                account.served(taken, (usage.input_tokens, usage.output_tokens) if usage else None, now)
            case Outcome.RATE_LIMITED:
                account.refused(taken, facts, jitter, now)
                self._exhaust_by_wait(facts, now)
            case Outcome.QUOTA:
                account.unsent(taken, now)
                self.exhausted_at = now
                self.exhausted_why = settle.why or "the provider says that the account has no quota left"
            case Outcome.UNSENT:
                account.unsent(taken, now)
            case Outcome.SERVER_ERROR | Outcome.TIMEOUT | Outcome.CANCELLED | Outcome.LOST:
                account.failed(now)
            case _:
                assert_never(settle.outcome)

    def _exhaust_by_wait(self, facts: RateFacts | None, now: float) -> None:
        wait_s = facts.retry_after_s if facts else None
        if wait_s is not None and wait_s > TOO_LONG_S:
            self.exhausted_at = now
            self.exhausted_why = (
                f"the provider asks to wait {wait_s / 60:.0f} minutes: the quota of the day is used up"
            )


def _smallest(declared: Iterable[Rates]) -> Rates:
    columns = zip(*(astuple(rates) for rates in declared), strict=True)
    return Rates(*(min((said for said in column if said is not None), default=None) for column in columns))
