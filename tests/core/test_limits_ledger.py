"""The budget of a run."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_ray.core.limits import Amount, BudgetFit, Ledger, Limits, to_nano_usd


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


@pytest.mark.parametrize(
    ("amount", "room", "limit"),
    [
        (Amount(1, 1, 1), Amount(1, 1, 1), None),
        (Amount(2, 2, 2), Amount(1, 1, 1), "cost_usd"),
        (Amount(1, 2, 2), Amount(1, 1, 1), "tokens"),
        (Amount(1, 1, 2), Amount(1, 1, 1), "calls"),
        (Amount(), Amount(), None),
    ],
)
def test_first_limit_that_is_exceeded_is_named(amount, room, limit):
    assert amount.first_exceeded(room) == limit


def test_amounts_are_added_and_compared_each_for_itself():
    one, other = Amount(5, 20, 3), Amount(7, 10, 4)
    assert one + other == Amount(12, 30, 7)
    assert one - other == Amount(-2, 10, -1)
    assert one.elementwise_max(other) == Amount(7, 20, 4)


@pytest.mark.parametrize(
    ("largest", "kept"),
    [(0, 50), (33, 50), (40, 60), (100, 150), (166, 249), (167, 250), (900, 250)],
)
def test_half_as_much_again_as_the_largest_root_call_is_kept_within_a_twentieth_and_a_quarter(largest, kept):
    ledger = Ledger(Limits(tokens=1000, cost_usd=1e-6))
    ledger.reserve(Amount(largest, largest, 1), root=True)
    ledger.settle(Amount(largest, largest, 1), Amount())
    assert ledger.left() == Amount(1000 - kept, 1000 - kept, ledger.limit.calls)
    assert ledger.left(last_call=True) == Amount(1000, 1000, ledger.limit.calls)


def test_calls_that_are_not_of_a_root_do_not_change_what_is_kept():
    ledger = Ledger(Limits(tokens=1000))
    ledger.reserve(Amount(0, 400, 1))
    ledger.settle(Amount(0, 400, 1), Amount(0, 100, 1))
    assert ledger.left().tokens == 1000 - 100 - 50
    assert (ledger.spent, ledger.reserved, ledger.in_flight) == (Amount(0, 100, 1), Amount(), 0)


@pytest.mark.parametrize(("limit", "left"), [(1, 1), (2, 1), (3, 2)])
def test_one_call_is_kept_where_there_are_several(limit, left):
    assert Ledger(Limits(calls=limit)).left().calls == left


def test_call_that_fits_only_what_is_reserved_waits_for_it():
    ledger = Ledger(Limits(tokens=1000))
    ledger.reserve(Amount(tokens=500))
    assert ledger.check(Amount(tokens=450)) == (BudgetFit.NOW, "")
    assert ledger.check(Amount(tokens=451)) == (BudgetFit.LATER, "tokens")
    assert ledger.check(Amount(tokens=950)) == (BudgetFit.LATER, "tokens")
    assert ledger.check(Amount(tokens=951)) == (BudgetFit.NEVER, "tokens")
    ledger.settle(Amount(tokens=500), Amount(tokens=500))
    assert ledger.check(Amount(tokens=451)) == (BudgetFit.NEVER, "tokens")


def test_truth_that_comes_late_replaces_the_charge():
    ledger = Ledger(Limits(tokens=1000))
    ledger.amend(Amount(1, 300, 1), Amount(2, 100, 0))
    assert ledger.spent == Amount(1, -200, -1)


@pytest.mark.parametrize(
    ("cost", "nano"),
    [(1.0, 10**9), (0.1 + 0.2, 3 * 10**8), (1.001e-9, 2), (1.0004e-9, 1), (2.5, 25 * 10**8)],
)
def test_noise_of_a_float_costs_nothing(cost, nano):
    assert to_nano_usd(cost) == nano
    assert Ledger(Limits(cost_usd=cost)).limit.nano_usd <= nano


@pytest.mark.parametrize("what", ["nano_usd", "tokens", "calls"])
def test_what_is_left_is_the_limit_without_what_is_spent_and_reserved(what):
    ledger = Ledger(Limits(cost_usd=1e-6, tokens=1000, calls=1000))
    ledger.amend(Amount(), Amount(300, 300, 300))
    ledger.reserve(Amount(200, 200, 200))
    assert getattr(ledger.left(last_call=True), what) == 500
    assert getattr(ledger.left(), what) == 500 - (1 if what == "calls" else 50)
    wanted = Amount(**{what: 501})
    assert ledger.check(wanted, last_call=True) == (BudgetFit.LATER, {"nano_usd": "cost_usd"}.get(what, what))
    assert ledger.check(Amount(**{what: 500}), last_call=True) == (BudgetFit.NOW, "")
    assert ledger.check(Amount(**{what: 701}), last_call=True)[0] is BudgetFit.NEVER


@pytest.mark.parametrize(("calls", "left"), [(1, 1), (2, 1), (3, 2)])
def test_one_call_of_several_is_kept_for_the_last_answer(calls, left):
    assert Ledger(Limits(calls=calls)).left().calls == left


@pytest.mark.parametrize(
    ("largest", "kept"), [(0, 50), (33, 50), (34, 51), (100, 150), (166, 249), (167, 250), (400, 250)]
)
def test_half_as_much_again_as_the_largest_call_of_the_root_is_kept_up_to_a_quarter(largest, kept):
    ledger = Ledger(Limits(tokens=1000))
    for tokens in (largest, 0):
        ledger.reserve(Amount(tokens=tokens), root=True)
        ledger.settle(Amount(tokens=tokens), Amount())
    ledger.reserve(Amount(tokens=600))
    ledger.settle(Amount(tokens=600), Amount())
    assert ledger.left().tokens == 1000 - kept
