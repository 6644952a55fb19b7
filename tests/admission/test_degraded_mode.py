"""What a client may do while the admission cannot be reached."""

from __future__ import annotations

import asyncio

import pytest
from virtual_time import in_virtual_time

from rlm_ray.admission.degraded_mode import DegradedLimiter, RunReplica
from rlm_ray.admission.protocol import AttemptOutcome, BudgetShare, PermitRequest, RunPolicy, Settle
from rlm_ray.core.limits import Amount, Limits
from rlm_ray.core.llm import Usage

ASK = PermitRequest("run", "account", "m", 100, 50, cost_usd=3e-7)


async def granted(limiter, account="account"):
    count = 0
    while (goes := await limiter.try_acquire(account)) is True:
        count += 1
    assert goes is False
    return count


@pytest.mark.parametrize(("before", "burst"), [(0, 1), (20, 1), (21, 2), (100, 5), (1000, 50)])
async def test_half_of_what_was_granted_in_the_last_ten_seconds_goes_each_second(before, burst):
    limiter = DegradedLimiter()
    for turn in range(before):
        limiter.record_grant("account", 100.0 + 10.0 * turn / before)
    limiter.record_grant("account", 89.9)
    limiter.start(110.0)
    assert await granted(limiter) in (burst, burst - 1)


async def test_grants_of_long_ago_and_of_other_accounts_do_not_count():
    limiter = DegradedLimiter()
    for turn in range(100):
        limiter.record_grant("other", 100.0 + turn / 100)
        limiter.record_grant("account", 80.0 + turn / 100)
    limiter.start(101.0)
    assert (await granted(limiter), await granted(limiter, "unknown"), await granted(limiter, "other")) == (
        1,
        1,
        5,
    )


def test_unknown_account_gets_one_request_each_ten_seconds():
    async def work():
        limiter = DegradedLimiter()
        limiter.start(0.0)
        counts = []
        for wait_s in (0.0, 9.9, 0.2):
            await asyncio.sleep(wait_s)
            counts.append(await granted(limiter))
        assert counts == [1, 0, 1]

    in_virtual_time(work())


async def test_grant_of_ten_seconds_ago_counts_and_an_older_one_does_not():
    limiter = DegradedLimiter()
    for moment in (*[9.9] * 30, *[10.0] * 60, 20.0):
        limiter.record_grant("account", moment)
    limiter.start(20.0)
    assert await granted(limiter) == 3


def test_run_goes_on_within_its_share_and_tells_what_it_spent():
    replica = RunReplica(RunPolicy("run", Limits(tokens=1000), age_s=5.0), 100.0)
    assert replica.limits.tokens == 1000
    assert not replica.can_afford(ASK)
    replica.update_share(BudgetShare("run", Amount(7, 8, 9), Amount(600, 300, 2)))
    assert replica.spent == Amount(7, 8, 9)
    for _ in range(2):
        assert replica.can_afford(ASK)
        replica.spend_share(ASK)
    assert not replica.can_afford(ASK)
    replica.record_settlement(ASK, Settle("p", AttemptOutcome.OK, Usage(70, 20), 2e-7), (1.0, 2.0))
    replica.record_settlement(ASK, Settle("p", AttemptOutcome.TIMEOUT), (0.0, 0.0))
    snapshot = replica.snapshot(130.0)
    assert (snapshot.policy.age_s, snapshot.charged, snapshot.known_spent) == (
        35.0,
        Amount(500, 240, 1),
        Amount(7, 8, 9),
    )
    (stats,) = snapshot.usage.values()
    assert (stats.calls, stats.attempts, stats.queue_wait_s, stats.rate_wait_s) == (1, 2, 1.0, 2.0)
