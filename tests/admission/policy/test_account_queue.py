"""An account with its queue: the rates that runs declare, and what outcomes tell it."""

from __future__ import annotations

import math

import pytest

from rlm_ray.admission.policy.account import AccountQueue
from rlm_ray.admission.policy.fair_queue import FlowKey, QueueEntry
from rlm_ray.admission.protocol import AttemptOutcome, Settle
from rlm_ray.core.limits import Rates
from rlm_ray.core.llm import Usage
from rlm_ray.core.retry_after import RateLimitHeaders


def test_smallest_of_the_declared_rates_holds_until_its_run_is_over():
    account = AccountQueue(Rates())
    account.declare_rates("a", Rates(rpm=600, in_flight=5))
    account.declare_rates("b", Rates(rpm=60, tpm=1000))
    limits = [meter.limit for meter in account.account.buckets]
    assert (limits, account.account.concurrency.limit) == ([60, 1000, math.inf, math.inf], 5)
    account.remove_run("b")
    assert [meter.limit for meter in account.account.buckets][:2] == [600, math.inf]
    account.remove_run("b")
    account.remove_run("a")
    assert account.account.buckets[0].limit == 600


def test_account_is_idle_without_runs_and_requests():
    account = AccountQueue(Rates())
    assert account.is_idle
    account.declare_rates("a", Rates())
    assert not account.is_idle
    account.remove_run("a")
    assert account.is_idle
    account.queue.add(QueueEntry(0, 0, 0, "p", FlowKey("f")))
    assert not account.is_idle


@pytest.mark.parametrize(
    ("outcome", "used", "size"),
    [
        (AttemptOutcome.OK, [1, 12, 10, 2], 40), (AttemptOutcome.REJECTED, [1, 12, 10, 2], 40), (AttemptOutcome.NOT_SENT, [0, 0, 0, 0], 20),
        (AttemptOutcome.QUOTA_EXHAUSTED, [0, 0, 0, 0], 20), (AttemptOutcome.SERVER_ERROR, [1, 150, 100, 50], 20),
        (AttemptOutcome.TIMEOUT, [1, 150, 100, 50], 20), (AttemptOutcome.CANCELLED, [1, 150, 100, 50], 20), (AttemptOutcome.UNKNOWN, [1, 150, 100, 50], 20),
    ],
)  # fmt: skip
def test_each_outcome_settles_rate_and_requests_in_flight(outcome, used, size):
    account = AccountQueue(Rates())
    taken = [account.account.take(100, 50, 0.0) for _ in range(20)]
    for each in taken:
        account.on_settlement(each, Settle("p", outcome, Usage(10, 2)), 0.0, 1.0)
    assert [meter.used_last_minute(1.0) for meter in account.account.buckets] == [
        20 * amount for amount in used
    ]
    assert (account.account.concurrency.in_flight, account.account.concurrency.limit) == (0, size)
    assert (account.quota_exhausted_at == 1.0) is (outcome is AttemptOutcome.QUOTA_EXHAUSTED)


@pytest.mark.parametrize(
    ("wait_s", "is_exhausted"), [(600.0, False), (600.1, True), (7200.0, True), (None, False)]
)
def test_wait_of_more_than_ten_minutes_means_that_the_quota_is_used_up(wait_s, is_exhausted):
    account = AccountQueue(Rates())
    facts = RateLimitHeaders({"tokens": 5000.0}, None, wait_s)
    account.on_settlement(
        account.account.take(1, 1, 0.0),
        Settle("p", AttemptOutcome.RATE_LIMITED, rate_headers=facts),
        0.0,
        1.0,
    )
    assert account.account.buckets[1].limit == 5000
    assert (account.quota_exhausted_at == 1.0) is is_exhausted
    if wait_s == 7200.0:
        assert (
            account.exhausted_why == "the provider asks to wait 120 minutes: the quota of the day is used up"
        )


@pytest.mark.parametrize(
    ("why", "said"), [("no money", "no money"), ("", "the provider says that the account has no quota left")]
)
def test_provider_says_why_nothing_is_left(why, said):
    account = AccountQueue(Rates())
    account.on_settlement(
        account.account.take(1, 1, 0.0), Settle("p", AttemptOutcome.QUOTA_EXHAUSTED, why=why), 0.0, 1.0
    )
    assert account.exhausted_why == said
