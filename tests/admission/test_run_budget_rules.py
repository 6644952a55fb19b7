"""One run as the admission sees it: its age, its sessions, its share, and what it takes over."""

from __future__ import annotations

import math

import pytest

from rlm_ray.admission.protocol import PermitRequest, RunPolicy, RunSnapshot
from rlm_ray.admission.run_budget import RunBudget
from rlm_ray.core.limits import Amount, BudgetFit, Limits
from rlm_ray.core.usage import CallStats

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


def test_flow_of_a_run_is_its_tenant_or_its_own():
    assert budget().flow.name == "run:run"
    tenant = RunBudget(RunPolicy("run", tenant="t", weight=2.0, interactive=False), 0.0).flow
    assert (tenant.name, tenant.weight, tenant.interactive) == ("tenant:t", 2.0, False)
