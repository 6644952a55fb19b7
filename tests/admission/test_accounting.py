"""What an attempt reserves, what it is charged, and what it counts as."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_ray.admission.permit_table import actual_cost, call_stats, max_cost, smaller
from rlm_ray.admission.protocol import AttemptOutcome, PermitRequest, Settle
from rlm_ray.core.limits import Amount
from rlm_ray.core.llm import Usage
from rlm_ray.events.usage import CallStats

ASK = PermitRequest("run", "account", "m", 100, 50, cost_usd=3e-7, input_cost_usd=1e-7, min_output_tokens=10)
BILLED = [AttemptOutcome.TIMEOUT, AttemptOutcome.CANCELLED, AttemptOutcome.UNKNOWN]
FREE = [
    AttemptOutcome.RATE_LIMITED, AttemptOutcome.QUOTA_EXHAUSTED, AttemptOutcome.REJECTED, AttemptOutcome.SERVER_ERROR, AttemptOutcome.NOT_SENT,
]  # fmt: skip


def test_worst_case_is_reserved():
    assert max_cost(ASK) == Amount(300, 150, 1)
    assert max_cost(replace(ASK, cost_usd=None)) == Amount(0, 150, 1)


@pytest.mark.parametrize(
    ("settle", "amount"),
    [
        (Settle("p", AttemptOutcome.OK, Usage(70, 20), 2e-7), Amount(200, 90, 1)),
        (Settle("p", AttemptOutcome.OK, Usage(70, 20)), Amount(300, 90, 1)),
        (Settle("p", AttemptOutcome.OK), Amount(300, 150, 1)),
        (Settle("p", AttemptOutcome.OK, None, 2e-7), Amount(200, 150, 1)),
        (Settle("p", AttemptOutcome.TIMEOUT), Amount(300, 150, 0)),
        (Settle("p", AttemptOutcome.CANCELLED), Amount(300, 150, 0)),
        (Settle("p", AttemptOutcome.UNKNOWN), Amount(300, 150, 1)),
        (Settle("p", AttemptOutcome.TIMEOUT, Usage(70, 0), 0.0), Amount(0, 70, 0)),
        (Settle("p", AttemptOutcome.RATE_LIMITED, None, 1e-9), Amount(1, 0, 0)),
        *((Settle("p", outcome), Amount()) for outcome in FREE),
    ],
    ids=str,
)
def test_charge_is_the_truth_or_else_the_estimate_of_what_may_be_billed(settle, amount):
    assert actual_cost(ASK, settle) == amount


@pytest.mark.parametrize(
    ("room", "tokens"),
    [
        (Amount(10**9, 10**9, 1), 50), (Amount(10**9, 10**9, 0), None), (Amount(10**9, 149, 1), 49), (Amount(10**9, 110, 1), 10),
        (Amount(10**9, 109, 1), None), (Amount(221, 10**9, 1), 30), (Amount(220, 10**9, 1), 29), (Amount(141, 10**9, 1), 10), (Amount(140, 10**9, 1), None),
    ],
)  # fmt: skip
def test_reply_is_shortened_to_the_room_that_is_left(room, tokens):
    fitting = smaller(ASK, room)
    assert (fitting and fitting.output_tokens) == tokens
    if fitting:
        assert fitting.cost_usd == pytest.approx(1e-7 + 2e-7 * tokens / 50)


def test_reply_that_must_be_whole_is_not_shortened():
    assert smaller(replace(ASK, min_output_tokens=0), Amount(10**9, 10**9, 1)) is None
    assert smaller(replace(ASK, min_output_tokens=60), Amount(10**9, 10**9, 1)).output_tokens == 50
    assert smaller(replace(ASK, min_output_tokens=60), Amount(10**9, 149, 1)) is None


@pytest.mark.parametrize(
    "cost", [{"cost_usd": None}, {"cost_usd": 0.0}, {"cost_usd": 1e-7, "input_cost_usd": 1e-7}]
)
def test_reply_that_costs_nothing_is_bounded_by_tokens_alone(cost):
    assert smaller(replace(ASK, **cost), Amount(100, 120, 1)).output_tokens == 20


@pytest.mark.parametrize(("nano_usd", "tokens"), [(301, 50), (300, 49), (61, 10), (60, None)])
def test_input_whose_part_of_the_price_is_not_known_is_taken_to_cost_nothing(nano_usd, tokens):
    fitting = smaller(replace(ASK, input_cost_usd=None), Amount(nano_usd, 10**9, 1))
    assert (fitting and fitting.output_tokens) == tokens
    assert fitting is None or fitting.cost_usd == pytest.approx(3e-7 * tokens / 50)


def test_reply_of_a_billionth_of_a_dollar_is_paid_for():
    ask = replace(ASK, cost_usd=1.01e-7)
    assert [smaller(ask, Amount(nano_usd, 10**9, 1)) is None for nano_usd in (100, 101, 102)] == [
        True,
        True,
        False,
    ]


def test_input_that_costs_more_than_is_left_does_not_fit_though_the_reply_is_free():
    assert smaller(replace(ASK, cost_usd=1e-7, input_cost_usd=1e-7), Amount(99, 120, 1)) is None


@given(
    st.tuples(st.integers(1, 10**6), st.integers(0, 10**6)),
    st.tuples(st.floats(0, 1), st.floats(0, 1)),
    st.integers(0, 10**9),
    st.integers(0, 10**6),
)
def test_shortened_reply_always_fits(sizes, prices, nano_usd, tokens):
    output, inputs = sizes
    ask = PermitRequest(
        "r", "a", "m", inputs, output, sum(prices), input_cost_usd=prices[0], min_output_tokens=1
    )
    fitting = smaller(ask, Amount(nano_usd, tokens, 1))
    if fitting is not None:
        assert max_cost(fitting).first_exceeded(Amount(nano_usd, tokens, 1)) is None


COUNTED = CallStats(
    calls=1,
    attempts=1,
    input_tokens=70,
    output_tokens=20,
    cached_tokens=5,
    reasoning_tokens=3,
    cost_usd=0.5,
    queue_wait_s=1,
    rate_wait_s=2,
)
USAGE = Usage(70, 20, 5, 3)


@pytest.mark.parametrize(
    ("ask", "settle", "stats"),
    [
        (ASK, Settle("p", AttemptOutcome.OK, USAGE, 0.5), COUNTED),
        (replace(ASK, attempt=2), Settle("p", AttemptOutcome.OK, USAGE, 0.5), replace(COUNTED, retries=1)),
        (
            replace(ASK, is_retry_of_lost=True),
            Settle("p", AttemptOutcome.OK, USAGE, 0.5),
            replace(COUNTED, repaid_calls=1),
        ),
        (ASK, Settle("p", AttemptOutcome.OK, USAGE), replace(COUNTED, cost_usd=0, unpriced=1)),
        (
            ASK,
            Settle("p", AttemptOutcome.OK, replace(USAGE, estimated=True), 0.5),
            replace(COUNTED, estimated=1),
        ),
        (
            replace(ASK, is_retry_of_lost=True),
            Settle("p", AttemptOutcome.TIMEOUT, replace(USAGE, estimated=True), 0.5),
            replace(COUNTED, calls=0),
        ),
        (ASK, Settle("p", AttemptOutcome.NOT_SENT, USAGE, 0.5), CallStats(queue_wait_s=1, rate_wait_s=2)),
        *(
            (ASK, Settle("p", outcome), CallStats(attempts=1, unknown=1, queue_wait_s=1, rate_wait_s=2))
            for outcome in BILLED
        ),
        *(
            (ASK, Settle("p", outcome), CallStats(attempts=1, queue_wait_s=1, rate_wait_s=2))
            for outcome in FREE[:-1]
        ),
    ],
    ids=str,
)
def test_attempt_is_counted(ask, settle, stats):
    assert call_stats(ask, settle, 1, 2) == stats
