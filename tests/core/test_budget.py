"""The budget of a run."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_ray.core.budget import Amount, BudgetFit, Ledger, to_nano_usd
from rlm_ray.core.limits import Limits


def test_what_is_reserved_is_not_there_for_the_next():
    ledger = Ledger(Limits(tokens=1000))
    ledger.reserve(Amount(tokens=900))
    assert ledger.check(Amount(tokens=100)) == (BudgetFit.LATER, "tokens")
    ledger.settle(Amount(tokens=900), Amount(tokens=10))
    assert ledger.check(Amount(tokens=900)) == (BudgetFit.NOW, "")


def test_it_is_refused_when_nothing_can_be_given_back():
    ledger = Ledger(Limits(cost_usd=1.0))
    assert ledger.check(Amount(to_nano_usd(0.96))) == (BudgetFit.NEVER, "cost_usd")
    ledger.reserve(Amount(to_nano_usd(0.5)))
    assert ledger.check(Amount(to_nano_usd(0.96))) == (BudgetFit.NEVER, "cost_usd")


def test_something_is_kept_for_the_last_call():
    ledger = Ledger(Limits(tokens=1000, calls=2))
    assert ledger.check(Amount(tokens=951, calls=1)) == (BudgetFit.NEVER, "tokens")
    assert ledger.check(Amount(tokens=951, calls=1), last_call=True) == (BudgetFit.NOW, "")
    ledger.reserve(Amount(tokens=200, calls=1), root=True)
    ledger.settle(Amount(tokens=200, calls=1), Amount(tokens=200, calls=1))
    assert ledger.check(Amount(calls=1)) == (BudgetFit.NEVER, "calls")
    assert ledger.check(Amount(tokens=601)) == (BudgetFit.NEVER, "tokens")
    assert ledger.check(Amount(tokens=800, calls=1), last_call=True) == (BudgetFit.NOW, "")


def test_a_single_call_needs_nothing_kept():
    assert Ledger(Limits(calls=1)).check(Amount(calls=1)) == (BudgetFit.NOW, "")


def test_nothing_is_limited_without_limits():
    assert Ledger(Limits()).check(Amount(10**18, 10**12, 10**9)) == (BudgetFit.NOW, "")


@pytest.mark.parametrize(("cost", "nano"), [(0.0, 0), (1e-9, 1), (0.1, 10**8), (1.5e-9, 2), (0.3, 3 * 10**8)])
def test_money_is_counted_in_whole_nano_dollars_rounded_up(cost, nano):
    assert to_nano_usd(cost) == nano


@given(
    st.lists(st.tuples(st.integers(0, 400), st.floats(0, 1), st.booleans(), st.integers(0, 5)), max_size=80),
    st.integers(1, 2000),
)
def test_never_above_the_limit_in_any_order(calls, limit):
    ledger = Ledger(Limits(tokens=limit))
    under_way = []
    for tokens, true_share, last_call, settle_at in calls:
        wanted = Amount(tokens=tokens, calls=1)
        if ledger.check(wanted, last_call=last_call)[0] is BudgetFit.NOW:
            ledger.reserve(wanted)
            under_way.append((wanted, Amount(tokens=int(tokens * true_share), calls=1)))
        assert ledger.spent.tokens + ledger.reserved.tokens <= limit
        if settle_at < len(under_way):
            ledger.settle(*under_way.pop(settle_at))
    for reserved, true in under_way:
        ledger.settle(reserved, true)
    assert ledger.spent.tokens <= limit
    assert ledger.reserved == Amount()
    assert ledger.in_flight == 0
