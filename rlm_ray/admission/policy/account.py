"""An `Account` decides when the next request to one provider account may go, and learns from each answer.

It combines the token buckets (`token_bucket.py`), the limit on requests in flight (`concurrency_limit.py`) and what the
provider asked for:

- `Retry-After` is one absolute moment before which nothing goes, shared by all, a little later by jitter, and
  what has waited is then released at the pace, never in one burst.
- A refusal is about the *rate* where the provider says what is exhausted or how long to wait, or where a bucket is
  nearly empty; then that bucket learns. Otherwise it is about the number *in flight*, and the concurrency limit learns.
- A refusal after hardly any request tells no rate: it is waited out as asked, and nothing is learned.
- A refusal that the concurrency limit cannot explain (few are in flight, or a lower limit did not help) pauses the
  account for 1, 2, 4 ... 30 s. Where the first pause did not help either, the provider counts minutes and says nothing.

An `AccountQueue` is an account with the requests that wait for it, and the rates that its runs have declared.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from typing import assert_never

from rlm_ray.admission.policy.concurrency_limit import MAX_LIMIT, START_LIMIT, ConcurrencyLimit
from rlm_ray.admission.policy.fair_queue import Queue
from rlm_ray.admission.policy.token_bucket import EstimateCalibrator, TokenBucket
from rlm_ray.admission.protocol import AttemptOutcome, Settle
from rlm_ray.core.limits import Rates
from rlm_ray.core.retry_after import RESOURCES, RateLimitHeaders

NEAR_LIMIT = 0.9
MIN_REQUESTS_TO_INFER = 10
"""A refusal shows a rate only after so many requests were served in the last minute: after one it shows nothing."""
FIRST_PAUSE_S, MAX_PAUSE_S = 1.0, 30.0
QUOTA_WAIT_S = 600.0
"""A provider that asks to wait longer than this has no quota left for now."""


def account_key(provider: str, api_base: str | None, api_key: str | None, group: str = "") -> str:
    """Return the name of what shares one rate: provider, account and limit group. It holds a hash, never the key itself."""
    secret = f"{api_base or ''}\0{api_key or ''}".encode()
    return f"{provider}/{hashlib.sha256(secret).hexdigest()[:12]}/{group}"


@dataclass(frozen=True, slots=True)
class RateReservation:
    """What one request reserved of an account; handed back with its outcome."""

    amounts: tuple[float, float, float, float]
    """By resource, in the order of `RESOURCES`."""
    estimates: tuple[float, float]
    """Input and output tokens as the caller estimated them."""
    slots: tuple[int, int, int, int]
    at: float


class Account:
    """Holds the rate of one account."""

    def __init__(self, rates: Rates) -> None:
        self.buckets = tuple(TokenBucket() for _ in RESOURCES)
        start = START_LIMIT if rates.rpm is None else max(START_LIMIT, min(int(rates.rpm / 60), MAX_LIMIT))
        self.concurrency = ConcurrencyLimit(None, start)
        self.not_before = -math.inf
        self.rate_blocked_s = 0.0
        """Seconds in which a request waited for the rate, not for the concurrency limit."""
        self._blocked_since: float | None = None
        self._input, self._output = EstimateCalibrator(), EstimateCalibrator()
        self._pause_s, self._paused_at = 0.0, -math.inf
        self._declared_in_flight: int | None = None
        self.declare(rates)

    def declare(self, rates: Rates) -> None:
        """Set the user's limits."""
        for bucket, limit in zip(
            self.buckets, (rates.rpm, rates.tpm, rates.input_tpm, rates.output_tpm), strict=True
        ):
            bucket.declare(limit)
        if rates.in_flight != self._declared_in_flight:
            self._declared_in_flight = rates.in_flight
            self.concurrency.max_limit = MAX_LIMIT if rates.in_flight is None else rates.in_flight
            if rates.in_flight is not None:
                self.concurrency.size = float(rates.in_flight)  # a user's word needs no slow start

    def wait_s(self, input_tokens: int, output_tokens: int, now: float) -> float:
        """Return the seconds until this request may go; 0: now; infinity: when another one is answered."""
        if not self.concurrency.open:
            self._stop_throttle_timer(now)
            return math.inf
        wait = self.not_before - now
        if wait <= 0 and any(bucket.limit < math.inf for bucket in self.buckets):
            amounts = zip(self.buckets, self._amounts(input_tokens, output_tokens), strict=True)
            wait = max(bucket.wait_s(amount, now) for bucket, amount in amounts if bucket.limit < math.inf)
        if wait > 0 and self._blocked_since is None:
            self._blocked_since = now
        elif wait <= 0:
            self._stop_throttle_timer(now)
        return max(wait, 0.0)

    def throttled_s(self, now: float) -> float:
        return self.rate_blocked_s + (0.0 if self._blocked_since is None else now - self._blocked_since)

    def _stop_throttle_timer(self, now: float) -> None:
        self.rate_blocked_s = self.throttled_s(now)
        self._blocked_since = None

    def take(self, input_tokens: int, output_tokens: int, now: float) -> RateReservation:
        amounts = self._amounts(input_tokens, output_tokens)
        requests, tokens, inputs, outputs = (
            bucket.take(amount, now) for bucket, amount in zip(self.buckets, amounts, strict=True)
        )
        estimates = (float(input_tokens), float(output_tokens))
        self.concurrency.acquire()
        return RateReservation(amounts, estimates, (requests, tokens, inputs, outputs), now)

    def on_success(self, taken: RateReservation, tokens: tuple[int, int] | None, now: float) -> None:
        """Learn from an answer; `tokens` are its true input and output, None where they are not known."""
        self.concurrency.release()
        self.concurrency.on_success(now, taken.at)
        if taken.at > self._paused_at:
            self._pause_s = 0.0
        if tokens is not None:
            self._input.learn(taken.estimates[0], tokens[0])
            self._output.learn(taken.estimates[1], tokens[1])
            self._reconcile(taken, (1.0, sum(tokens), *tokens), now)
        for bucket in self.buckets:
            bucket.probe_up(now)

    def on_error(self) -> None:
        """Learn from a server error or an unknown end; what was reserved stays used."""
        self.concurrency.release()
        self.concurrency.failed()

    def on_not_sent(self, taken: RateReservation, now: float) -> None:
        """Return what a request reserved that was never sent."""
        self.concurrency.release()
        self._reconcile(taken, (0.0, 0.0, 0.0, 0.0), now)

    def on_rate_limited(
        self, taken: RateReservation, facts: RateLimitHeaders | None, jitter: float, now: float
    ) -> None:
        """Learn from a 429; `jitter` is a random number from 0 to 1."""
        self.on_not_sent(taken, now)
        wait_s = facts.retry_after_s if facts else None
        resource = facts.exhausted_resource if facts else None
        fullest = max(self.buckets, key=lambda bucket: bucket.utilization(now))
        full = fullest.utilization(now) >= NEAR_LIMIT
        unexplained = wait_s is None and resource is None and not full
        if unexplained and self.concurrency.on_rejected(taken.at, now):
            return
        wait_s = self._next_pause_s(taken.at, now) if wait_s is None else wait_s
        bucket = self.buckets[RESOURCES.index(resource)] if resource else fullest if full else self.buckets[0]
        if self.buckets[0].used_last_minute(now) >= MIN_REQUESTS_TO_INFER:
            bucket.refused(wait_s, taken.at, now, pause_failed=unexplained and self._pause_s > FIRST_PAUSE_S)
        self._pause_until(now + wait_s + jitter * min(0.1 * wait_s, 1.0))

    def on_headers(self, facts: RateLimitHeaders) -> None:
        for resource, limit in facts.limits.items():
            self.buckets[RESOURCES.index(resource)].on_header_limit(limit)

    def _next_pause_s(self, granted_at: float, now: float) -> float:
        """Return the next pause: refusals that were in flight together make one pause, each one after a pause doubles it."""
        if granted_at <= self._paused_at:
            return max(self._paused_at + self._pause_s - now, 0.0)
        self._pause_s = FIRST_PAUSE_S if self._pause_s == 0 else min(self._pause_s * 2, MAX_PAUSE_S)
        self._paused_at = now
        return self._pause_s

    def _pause_until(self, until: float) -> None:
        self.not_before = max(self.not_before, until)
        for bucket in self.buckets:
            bucket.pause(self.not_before)

    def _amounts(self, input_tokens: int, output_tokens: int) -> tuple[float, float, float, float]:
        inputs = input_tokens * self._input.multiplier(self.concurrency.in_flight)
        outputs = output_tokens * self._output.multiplier(self.concurrency.in_flight)
        return 1.0, inputs + outputs, inputs, outputs

    def _reconcile(self, taken: RateReservation, true: tuple[float, float, float, float], now: float) -> None:
        for bucket, slot, amount, truth in zip(self.buckets, taken.slots, taken.amounts, true, strict=True):
            bucket.reconcile(slot, truth - amount, now)


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
        declared = self._declared.get(run_id)
        if declared is not rates and declared != rates:
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
                account.on_error()
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
