"""One run as the admission sees it: its age, its sessions, its share, and what it takes over."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from rlm_ray.admission.degraded_mode import RunReplica
from rlm_ray.admission.permit_table import max_cost
from rlm_ray.admission.policy.fair_queue import FlowKey, QueueEntry
from rlm_ray.admission.protocol import AttemptOutcome, PermitRequest, RunPolicy, RunSnapshot, Settle
from rlm_ray.admission.run_budget import RunBudget
from rlm_ray.core.limits import Amount, BudgetFit, Limits
from rlm_ray.events.usage import CallStats

ASK = PermitRequest("run", "account", "m", 100, 50, request_id="p", client_id="c")


def budget(now=100.0, age_s=0.0, **limits):
    return RunBudget(RunPolicy("run", Limits(**limits), age_s=age_s), now)


def test_age_of_a_run_counts_towards_its_time_limit():
    run = budget(age_s=4.0, time_s=10.0)
    assert (run.opened_at, run.deadline) == (96.0, 106.0)
    assert run.policy_at(110.0).age_s == 14.0
    assert budget().deadline == math.inf


@pytest.mark.parametrize(
    ("now", "is_final", "fit"),
    [(109.9, False, BudgetFit.NOW), (110.0, False, BudgetFit.NEVER), (110.0, True, BudgetFit.NOW)],
)
def test_only_the_final_call_goes_after_the_time_limit(now, is_final, fit):
    decision = budget(time_s=10.0).check(PermitRequest("run", "a", "m", 1, 1, is_final_call=is_final), now)
    assert decision.fit is fit
    assert decision.reason == ("time_s" if fit is BudgetFit.NEVER else "")


def test_unknown_price_is_refused_under_a_cost_limit_only():
    assert budget(cost_usd=1.0).check(ASK, 100.0).reason == "cost_usd"
    assert budget(tokens=1000).check(ASK, 100.0).fit is BudgetFit.NOW


@pytest.mark.parametrize(
    ("count", "fit", "sessions"), [(1, BudgetFit.NOW, 2), (2, BudgetFit.NOW, 3), (3, BudgetFit.NEVER, 1)]
)
def test_sessions_are_opened_all_or_none(count, fit, sessions):
    run = budget(sessions=3)
    assert run.open_sessions(count).fit is fit
    assert run.sessions == sessions
    assert budget().open_sessions(10**6).fit is BudgetFit.NOW


@pytest.mark.parametrize(
    ("limits", "waits"),
    [
        ({}, False),
        ({"time_s": 5.0}, False),
        ({"sessions": 5}, False),
        ({"tokens": 5}, True),
        ({"calls": 5}, True),
        ({"cost_usd": 5.0}, True),
    ],
)
def test_only_a_run_with_a_budget_waits_after_a_restart(limits, waits):
    run = budget(**limits)
    run.pause_until(130.0)
    assert run.not_before == (130.0 if waits else -math.inf)


def test_share_is_half_of_an_even_part_of_what_is_left():
    run = budget(tokens=1000, calls=11)
    left = run.ledger.left()
    assert run.share().amount == Amount(left.nano_usd // 2, left.tokens // 2, left.calls // 2)
    run.add(ASK)
    run.add(PermitRequest("run", "account", "m", 1, 1, request_id="q", client_id="d"))
    assert run.share().amount == Amount(left.nano_usd // 4, left.tokens // 4, left.calls // 4)
    run.ledger.amend(Amount(), Amount(tokens=5000))
    assert run.share().amount.tokens == 0
    assert run.share().spent.tokens == 5000


def test_clients_of_an_earlier_admission_share_what_is_left_with_those_that_ask():
    run = budget(tokens=8000)
    left = run.ledger.left().tokens
    run.add(ASK)
    for client in ("a", "b", ASK.client_id):
        run.resume(client, RunSnapshot(run.policy))
    assert run.share().amount.tokens == left // 6


def test_what_clients_charged_is_taken_over_once_and_never_less_than_one_of_them_saw():
    run = budget(tokens=10_000)
    usage = {("m", 0): CallStats(calls=2)}
    run.resume("a", RunSnapshot(run.policy, Amount(tokens=300), Amount(tokens=100), usage))
    run.resume("a", RunSnapshot(run.policy, Amount(tokens=300), Amount(tokens=100), usage))
    assert run.ledger.spent.tokens == 300
    run.resume("b", RunSnapshot(run.policy, Amount(tokens=200), Amount(tokens=900), usage))
    assert run.ledger.spent.tokens == 900
    run.resume("c", RunSnapshot(run.policy, Amount(tokens=600), Amount()))
    assert run.ledger.spent.tokens == 1100
    assert run.usage().total.calls == 4


def test_budget_that_earlier_attempts_spent_is_gone():
    run = RunBudget(RunPolicy("run", Limits(tokens=1000), spent=Amount(tokens=400)), 0.0)
    assert run.ledger.spent.tokens == 400
    run.resume("a", RunSnapshot(run.policy, Amount(tokens=100), Amount(tokens=450)))
    assert run.ledger.spent.tokens == 500


def test_what_is_kept_for_the_last_call_is_as_much_after_a_restart():
    root = replace(ASK, input_tokens=90, output_tokens=30)
    before = budget(tokens=1000)
    before.ledger.reserve(max_cost(root), root=True)
    before.ledger.settle(max_cost(root), Amount())
    replica = RunReplica(before.policy, 0.0)
    child, last = (
        replace(root, depth=1, input_tokens=400),
        replace(root, is_final_call=True, input_tokens=400),
    )
    for call in (root, child, last):
        replica.record_settlement(call, Settle("p", AttemptOutcome.REJECTED), (0.0, 0.0))
    after = budget(tokens=1000)
    assert after.ledger.left().tokens == 950
    after.resume("a", replica.snapshot(1.0))
    after.resume("b", RunSnapshot(before.policy))
    assert after.ledger.left() == before.ledger.left()
    assert after.ledger.left().tokens == 1000 - 180


def test_flow_of_a_run_is_its_tenant_or_its_own():
    assert budget().flow.name == "run:run"
    tenant = RunBudget(RunPolicy("run", tenant="t", weight=2.0, interactive=False), 0.0).flow
    assert (tenant.name, tenant.weight, tenant.interactive) == ("tenant:t", 2.0, False)


def asked(name, tokens, cost_usd=None, **more):
    return PermitRequest("run", "account", "m", *tokens, cost_usd, request_id=name, client_id="c", **more)


def parked(run, *asks):
    """Park requests in this order."""
    for number, ask in enumerate(asks):
        run.add(ask)
        run.park(QueueEntry(0.0, 0, number, ask.request_id, FlowKey("f")), ask)


def unparked(run):
    return [ask.request_id for _, ask in run.unpark()]


@pytest.mark.parametrize(
    ("limits", "ask", "why"),
    [
        (
            {"tokens": 1000},
            asked("a", (100, 800)),
            (
                "the token limit of 1000 is reached: 300 used, 650 left (besides what is kept for the last answer) for a call that may "
                "take 900 with max_tokens=800; raise limits.tokens, or lower max_tokens"
            ),
        ),
        (
            {"tokens": 1000},
            asked("a", (100, 800), is_final_call=True),
            (
                "the token limit of 1000 is reached: 300 used, 700 left for a call that may take 900 with max_tokens=800; "
                "raise limits.tokens, or lower max_tokens"
            ),
        ),
        (
            {"tokens": 250},
            asked("a", (1, 1)),
            (
                "the token limit of 250 is reached: 300 used, 0 left (besides what is kept for the last answer) for a call that may "
                "take 2 with max_tokens=1; raise limits.tokens, or lower max_tokens"
            ),
        ),
        (
            {"cost_usd": 2.0},
            asked("a", (1, 7), 1.75),
            (
                "the cost limit of $2 is reached: $0.5 spent, $1.4 left (besides what is kept for the last answer) for a call that may cost "
                "$1.75 with max_tokens=7; raise limits.cost_usd, or lower max_tokens"
            ),
        ),
        (
            {"calls": 4},
            asked("a", (1, 1)),
            "the limit of 4 calls is reached: 3 answered (besides what is kept for the last answer)",
        ),
    ],
)
def test_refusal_says_what_was_spent_what_is_left_and_what_to_do(limits, ask, why):
    run = budget(**limits)
    run.ledger.amend(Amount(), Amount(5 * 10**8, 300, 3))
    decision = run.check(ask, 100.0)
    assert (decision.fit, decision.reason, decision.why) == (
        BudgetFit.NEVER,
        next(iter(limits)),
        why,
    )


def test_refusals_of_time_and_sessions_say_the_limit():
    assert budget(time_s=2.5).check(ASK, 200.0).why == "the time limit of 2.5 s is over"
    run = budget(sessions=3)
    run.open_sessions(1)
    assert run.open_sessions(2).why == "the limit of 3 sessions is reached: 2 opened, 2 more wanted"


def test_parked_requests_come_back_as_far_as_they_fit_together():
    run = budget(tokens=1000)
    held = asked("held", (900, 0))
    run.ledger.reserve(max_cost(held))
    parked(run, asked("a", (300, 0)), asked("b", (300, 0)), asked("c", (500, 0)), asked("d", (10, 0)))
    assert unparked(run) == []
    run.ledger.settle(max_cost(held), Amount(0, 100, 1))
    assert unparked(run) == ["a", "b"]
    for _ in "ab":
        run.ledger.reserve(Amount(0, 300, 1))
    assert unparked(run) == []
    run.ledger.settle(Amount(0, 300, 1), Amount())
    assert unparked(run) == ["c", "d"]


def test_parked_request_that_never_fits_comes_back_and_takes_no_room_of_others():
    run = budget(tokens=1000)
    run.ledger.amend(Amount(), Amount(tokens=400))
    parked(run, asked("never", (600, 0)), asked("a", (300, 0)), asked("b", (250, 0)), asked("c", (1, 0)))
    assert unparked(run) == ["never", "a", "b"]


def test_parked_request_that_was_cancelled_is_dropped():
    run = budget(tokens=1000)
    parked(run, asked("a", (300, 0)), asked("b", (300, 0)))
    del run.waiting["a"]
    assert unparked(run) == ["b"]


@pytest.mark.parametrize(
    ("used", "in_flight", "fit", "granted"),
    [
        (0, 0, BudgetFit.NOW, 850), (800, 0, BudgetFit.NOW, 50), (841, 0, BudgetFit.NEVER, None), (840, 0, BudgetFit.NOW, 10),
        (0, 840, BudgetFit.NOW, 10), (0, 841, BudgetFit.LATER, None), (841, 5, BudgetFit.NEVER, None), (100, 745, BudgetFit.LATER, None),
    ],
)  # fmt: skip
def test_reply_is_shortened_to_what_is_left_or_waits_where_that_may_become_enough(
    used, in_flight, fit, granted
):
    run = budget(tokens=1000)
    run.ledger.amend(Amount(), Amount(tokens=used))
    if in_flight:
        run.ledger.reserve(Amount(tokens=in_flight))
    decision = run.check(asked("a", (100, 5000), min_output_tokens=10), 100.0)
    assert (decision.fit, decision.smaller and decision.smaller.output_tokens) == (fit, granted)
    assert decision.reason == ("" if fit is BudgetFit.NOW else "tokens")


def test_reply_that_fits_whole_is_not_shortened():
    assert budget(tokens=1000).check(asked("a", (100, 850), min_output_tokens=10), 100.0).smaller is None


def test_status_tells_those_that_wait_for_budget_apart():
    run = budget(tokens=1000)
    parked(run, asked("a", (300, 0)), asked("b", (300, 0)))
    for name in ("c", "d", "e"):
        run.add(asked(name, (1, 0)))
    del run.waiting["b"]
    status = run.status({"account": "rate"}, 107.5)
    assert (status.waiting, status.age_s, status.in_flight) == ({"budget": 1, "rate": 3}, 7.5, 0)
    assert run.status({"account": "budget"}, 100.0).waiting == {"budget": 4}
    assert budget().status({}, 100.0).waiting == {}
