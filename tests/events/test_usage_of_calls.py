"""What recorded calls used, added up as the admission counts it."""

from __future__ import annotations

import pytest

from rlm_ray.core.context import InputSummary
from rlm_ray.core.llm import Usage
from rlm_ray.events.records import CallEnded, CallSent, FailedAttempt, SessionOpened
from rlm_ray.events.usage import CallStats, stats_from_call, usage_from_records

USAGE = Usage(100, 20, 30, 5)
TOKENS = {"input_tokens": 100, "output_tokens": 20, "cached_tokens": 30, "reasoning_tokens": 5}


def ended(path=(), call=1, tries=(), **facts):
    attempts = tuple(FailedAttempt(1.5, each, "") for each in tries)
    given = {"usage": USAGE, "cost_usd": 0.5, "queue_wait_s": 2.0, "rate_wait_s": 3.0} | facts
    return CallEnded(9.0, path, call, "turn", "m", "k", 1.0, tries=attempts, **given)


WAITS = {"queue_wait_s": 2.0, "rate_wait_s": 3.0}


@pytest.mark.parametrize(
    ("call", "stats"),
    [
        (ended(), CallStats(calls=1, attempts=1, cost_usd=0.5, **TOKENS, **WAITS)),
        (ended(cost_usd=None), CallStats(calls=1, attempts=1, unpriced=1, **TOKENS, **WAITS)),
        (ended(tries=["rate_limited", "timeout"]), CallStats(calls=1, attempts=3, retries=2, unknown=1, cost_usd=0.5, **TOKENS, **WAITS)),
        (ended(tries=["connection", "server_error"]), CallStats(calls=1, attempts=3, retries=2, unknown=1, cost_usd=0.5, **TOKENS, **WAITS)),
        (ended(tries=["empty"], cost_usd=None), CallStats(calls=2, attempts=2, retries=1, unpriced=2, **TOKENS, **WAITS)),
        (ended(error_kind="cancelled"), CallStats(attempts=1, unknown=1, cost_usd=0.5, **TOKENS, **WAITS)),
        (ended(error_kind="ReplyError"), CallStats(calls=1, attempts=1, cost_usd=0.5, **TOKENS, **WAITS)),
        (ended(error_kind="ModelUnavailableError", tries=["timeout"]), CallStats(attempts=1, unknown=1, cost_usd=0.5, **TOKENS, **WAITS)),
        (ended(error_kind="LimitReached"), CallStats(cost_usd=0.5, **TOKENS, **WAITS)),
        (ended(repaid=True), CallStats(calls=1, attempts=1, repaid_calls=1, cost_usd=0.5, **TOKENS, **WAITS)),
        (ended(repaid=True, error_kind="KeyError"), CallStats(attempts=1, cost_usd=0.5, **TOKENS, **WAITS)),
        (ended(usage=Usage(1, 2, estimated=True)),
         CallStats(calls=1, attempts=1, estimated=1, input_tokens=1, output_tokens=2, cost_usd=0.5, **WAITS)),
        (ended(usage=Usage(estimated=True), error_kind="KeyError"), CallStats(attempts=1, cost_usd=0.5, **WAITS)),
    ],
)  # fmt: skip
def test_stats_of_one_call(call, stats):
    assert stats_from_call(call) == stats


def test_call_that_never_went_out_is_no_attempt():
    assert stats_from_call(ended(error_kind="cancelled"), went_out=False) == CallStats(
        cost_usd=0.5, **TOKENS, **WAITS
    )


def sent(path=(), call=1, key="k"):
    return CallSent(1.0, path, call, "turn", "m", key)


def opened(path=(), attempt=1):
    return SessionOpened(1.0, path, "q", InputSummary(), "m", "a", attempt)


def test_usage_of_a_run_is_the_sum_over_its_calls_by_model_and_depth():
    records = [
        opened(), opened((0,)), opened((0,), attempt=2),
        sent(), ended(), sent((0,)), ended((0,)), sent((0,), 2), ended((0,), 2),
        ended((1,), cache_hit=True), ended((2,), error_kind="cancelled"),
    ]  # fmt: skip
    usage = usage_from_records(records)
    assert (usage.sessions, usage.cache_hits) == (2, 1)
    by_depth = {depth: stats for (_, depth), stats in usage.rows.items()}
    assert by_depth[0] == stats_from_call(ended())
    twice = stats_from_call(ended())
    assert by_depth[1] == twice + twice + stats_from_call(ended(error_kind="cancelled"), went_out=False)
