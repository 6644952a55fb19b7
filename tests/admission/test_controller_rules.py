"""Rules of the controller at their edges: who goes first, what is given back, what is forgotten; in virtual time."""

from __future__ import annotations

import pytest

from rlm_ray.admission.controller import AdmissionController
from rlm_ray.admission.protocol import (
    AttemptOutcome,
    Granted,
    PermitRequest,
    Refused,
    Resume,
    RunPolicy,
    RunSnapshot,
    Settle,
)
from rlm_ray.core.limits import Amount, Limits, Rates
from rlm_ray.core.llm import Usage
from rlm_ray.core.retry_after import RateLimitHeaders
from rlm_ray.events.usage import RunUsage


def opened(*, rates=None, now=0.0, **limits):
    admission = AdmissionController()
    admission.open_run(RunPolicy("run", Limits(**limits), rates or Rates()), now)
    return admission


def ask(name, run="run", tokens=(10, 10), **more):
    account = more.pop("account", "account")
    return PermitRequest(run, account, "m", *tokens, request_id=name, **{"client_id": "c", "depth": 1} | more)


def granted(admission, now=0.0):
    return [each.request_id for each in admission.decisions(now) if isinstance(each, Granted)]


def answer(admission, name, now=1.0, usage=None):
    admission.release(Settle(name, AttemptOutcome.OK, usage or Usage(10, 10)), now)


def test_account_is_forgotten_an_hour_after_its_last_request():
    admission = opened()
    admission.request(ask("a"), 1000.0)
    admission.decisions(1000.0)
    answer(admission, "a", 1001.0)
    admission.close_run("run")
    for now, accounts in ((4599.9, 1), (4600.0, 0)):
        admission.forget_idle_accounts(now)
        assert admission.stats()["accounts"] == accounts


@pytest.mark.parametrize(("still_open", "spare"), [(0, 64), (1, 66), (3, 70)])
def test_deadlines_of_closed_runs_are_dropped_when_they_are_many(still_open, spare):
    admission = AdmissionController()
    for number in range(spare + 1):
        admission.open_run(RunPolicy(str(number), Limits(time_s=1000.0 - number)), 0.0)
    for number in range(still_open, spare + 1):
        assert admission.stats()["deadlines"] == spare + 1
        admission.close_run(str(number))
        if admission.stats()["runs"] == still_open + 1:
            admission.open_run(RunPolicy("none"), 0.0)  # a run without a deadline has none in the table
            admission.close_run("none")
    assert admission.stats()["deadlines"] == still_open


def test_deadlines_that_are_left_are_in_order():
    admission = AdmissionController()
    for time_s in (1, 5, 2, 6, 7, 3, *range(1000, 1070)):
        admission.open_run(RunPolicy(str(time_s), Limits(time_s=float(time_s))), 0.0)
    for time_s in (1, 2, 6, 7, *range(1000, 1070)):
        admission.close_run(str(time_s))
    assert admission.next_wakeup(0.0) == 3.0


def test_wait_that_a_provider_asks_for_is_longer_by_half_of_its_jitter_where_nobody_draws():
    admission = opened()
    admission.request(ask("a"), 0.0)
    admission.decisions(0.0)
    facts = RateLimitHeaders({}, None, 20.0)
    admission.release(Settle("a", AttemptOutcome.RATE_LIMITED, rate_headers=facts), 0.0)
    admission.request(ask("b"), 0.0)
    assert granted(admission) == []
    assert admission.next_wakeup(0.0) == pytest.approx(20.5)


def test_run_that_is_not_open_has_used_nothing():
    admission = AdmissionController()
    assert admission.close_run("run") == RunUsage()
    assert admission.usage("run") == RunUsage()
    assert (
        admission.status("run", 0.0),
        admission.run_policy("run", 0.0),
        admission.budget_share("run"),
    ) == (
        None,
        None,
        None,
    )


def test_policy_of_an_open_run_says_its_age():
    assert opened(now=3.0).run_policy("run", 10.0).age_s == 7.0


def test_status_says_no_wait_that_is_over_or_that_time_does_not_end():
    admission = opened(rates=Rates(rpm=60, in_flight=10))
    for name in "ab":
        admission.request(ask(name), 0.0)
    admission.decisions(0.0)
    assert admission.status("run", 0.75).wait_s == pytest.approx({"rate": 0.25})
    assert admission.status("run", 1.0).wait_s == {}
    admission = opened(rates=Rates(in_flight=1))
    for name in "ab":
        admission.request(ask(name), 0.0)
    admission.decisions(0.0)
    assert admission.status("run", 0.0).wait_s == {}


def test_request_that_was_granted_is_answered_again_with_the_same():
    admission = opened(tokens=1000)
    whole, long = ask("a"), ask("b", tokens=(10, 5000), min_output_tokens=10)
    for each in (whole, long):
        admission.request(each, 0.0)
    first = admission.decisions(0.0)
    assert [each.smaller is None for each in first] == [True, False]
    for each in (whole, long):
        admission.request(each, 1.0)
    assert admission.decisions(1.0) == first


def test_cancelled_request_for_a_run_that_is_not_open_never_goes():
    admission = AdmissionController()
    for name in "ab":
        admission.request(ask(name), 0.0)
    admission.cancel("a", 0.0)
    admission.open_run(RunPolicy("run"), 0.0)
    assert granted(admission) == ["b"]


def test_cancelled_request_makes_way_for_those_that_waited_behind_it_for_budget():
    admission = opened(tokens=1000)  # of which 950 are not for the final call
    for name, tokens in (("a", 300), ("d", 100), ("b", 660), ("c", 560)):
        admission.request(ask(name, tokens=(tokens, 0)), 0.0)
    assert granted(admission) == ["a", "d"]
    answer(admission, "d", 0.0, Usage(0, 0))
    assert granted(admission) == []
    admission.cancel("b", 0.0)
    assert granted(admission) == ["c"]


def test_permit_that_is_not_settled_in_its_time_gives_back_its_place():
    admission = opened(rates=Rates(in_flight=1))
    for name in "ab":
        admission.request(ask(name, ttl_s=60.0), 0.0)
    assert granted(admission) == ["a"]
    assert granted(admission, 59.9) == []
    assert granted(admission, 60.0) == ["b"]
    assert admission.usage("run").total.unknown == 1


def test_late_settlement_makes_way_for_those_that_waited_for_budget():
    admission = opened(tokens=1000)
    for name, tokens, ttl_s in (("a", 500, 60.0), ("x", 20, 900.0), ("b", 440, 900.0)):
        admission.request(ask(name, tokens=(tokens, 0), ttl_s=ttl_s), 0.0)
    assert granted(admission) == ["a", "x"]
    assert admission.decisions(60.0) == []
    answer(admission, "a", 61.0, Usage(10, 1))
    assert granted(admission, 61.0) == ["b"]


def test_decision_that_nobody_fetched_is_due_now():
    admission = AdmissionController()
    assert admission.next_wakeup(5.0) is None
    admission.close_run("run")
    admission.request(ask("a"), 5.0)
    assert admission.next_wakeup(5.0) == 5.0
    assert [type(each) for each in admission.decisions(5.0)] == [Refused]
    assert admission.next_wakeup(5.0) is None


def test_next_decision_is_the_earliest_of_rates_deadlines_permits_and_requests_without_a_run():
    admission = opened(rates=Rates(rpm=1), time_s=500.0)
    for name in "ab":
        admission.request(ask(name, ttl_s=50.0), 0.0)
    admission.decisions(0.0)
    assert admission.next_wakeup(0.0) == 50.0
    admission.decisions(50.0)
    assert admission.next_wakeup(50.0) == pytest.approx(60.6)
    admission.request(ask("c", "later"), 50.0)
    assert admission.next_wakeup(50.0) == 60.0
    admission.cancel("b", 50.0)
    admission.cancel("c", 50.0)
    assert admission.decisions(50.0) == []
    assert admission.next_wakeup(50.0) == 500.0
    assert admission.next_wakeup(600.0) == 600.0


def test_run_that_a_client_brings_back_has_its_deadline_and_its_requests():
    admission = AdmissionController()
    admission.request(ask("a"), 0.0)
    policy = RunPolicy("run", Limits(time_s=100.0), age_s=30.0)
    admission.restore("c", Resume((RunSnapshot(policy),)), 0.0)
    assert granted(admission) == ["a"]
    assert admission.stats()["deadlines"] == 1
    answer(admission, "a")
    assert admission.next_wakeup(1.0) == 70.0


def test_session_of_a_run_that_an_earlier_admission_had_opens_it_with_its_deadline():
    admission = AdmissionController()
    admission.request(ask("a"), 0.0)
    assert admission.open_sessions(RunPolicy("run", Limits(time_s=100.0)), 1, 0.0) is None
    assert granted(admission) == ["a"]
    assert (admission.usage("run").sessions, admission.stats()["deadlines"]) == (2, 1)
    admission.close_run("run")
    assert admission.open_sessions(RunPolicy("run"), 1, 0.0).reason == "closed"


def test_permit_that_a_client_brings_back_is_no_longer_waited_for():
    admission = opened(rates=Rates(in_flight=1))
    for name in "ab":
        admission.request(ask(name), 0.0)
    assert granted(admission) == ["a"]
    admission.restore("c", Resume(in_flight=(ask("b"), ask("a"), ask("x", "unknown"))), 0.0)
    assert (admission.stats()["permits"], admission.stats()["waiting"]) == (2, 0)
    for name in "ab":
        answer(admission, name)
    assert granted(admission, 1.0) == []
    admission.request(ask("c"), 1.0)
    assert granted(admission, 1.0) == ["c"]


def test_runs_share_an_account_by_the_work_of_their_calls_and_their_weight():
    admission = opened(rates=Rates(in_flight=1))
    admission.open_run(RunPolicy("heavy", rates=Rates(in_flight=1), weight=4.0), 0.0)
    for number in range(10):
        admission.request(ask(f"run {number}", tokens=(400, 600)), 0.0)
        admission.request(ask(f"heavy {number}", "heavy", tokens=(1500, 2000)), 0.0)
    order = []
    for _ in range(8):
        (name,) = granted(admission)
        order.append(name.partition(" ")[0])
        answer(admission, name, 0.0)
    # A call is its tokens and 500: 1,500 for one run, 4,000 by weight 4 for the other. After five calls they are level.
    assert order == ["run", "heavy", "heavy", "run", "heavy", "run", "heavy", "heavy"]


def test_deeper_request_goes_first_and_of_equals_the_one_that_came_first():
    admission = opened(rates=Rates(in_flight=1))
    admission.request(ask("first"), 0.0)
    assert granted(admission) == ["first"]
    for name, depth in (("b", 1), ("c", 1), ("a", 2), ("d", 0)):
        admission.request(ask(name, depth=depth), 0.0)
    order = []
    last = "first"
    for _ in range(4):
        answer(admission, last, 0.0)
        (last,) = granted(admission)
        order.append(last)
    assert order == ["a", "b", "c", "d"]


def test_time_limit_refuses_all_that_wait_but_the_final_call():
    admission = opened(rates=Rates(in_flight=1), time_s=10.0)
    admission.request(ask("held"), 0.0)
    admission.decisions(0.0)
    for name in "ab":
        admission.request(ask(name), 0.0)
    admission.request(ask("final", is_final_call=True), 0.0)
    refused = {each.request_id: each.reason for each in admission.decisions(10.0)}
    assert refused == {"a": "time_s", "b": "time_s"}
    answer(admission, "held", 10.0)
    assert granted(admission, 10.0) == ["final"]


@pytest.mark.parametrize(
    ("limits", "waits"), [({"tokens": 1000}, True), ({}, False), ({"time_s": 50.0}, False)]
)
def test_only_a_limited_run_waits_two_and_a_half_seconds_after_a_restart(limits, waits):
    admission = AdmissionController()
    admission.restore("c", Resume((RunSnapshot(RunPolicy("run", Limits(**limits)), Amount()),)), 10.0)
    admission.request(ask("a"), 10.0)
    assert granted(admission, 10.0) == ([] if waits else ["a"])
    if waits:
        assert admission.status("run", 10.0).waiting == {"pause": 1}
        assert admission.next_wakeup(10.0) == 12.5
        assert granted(admission, 12.49) == []
        assert admission.status("run", 12.5).waiting == {"rate": 1}
        assert granted(admission, 12.5) == ["a"]


def test_request_that_waits_for_the_rate_is_not_overtaken_by_a_deeper_small_one():
    admission = opened(rates=Rates(tpm=60_000))
    for name in ("first", "large"):
        admission.request(ask(name, tokens=(20_000, 0)), 0.0)
    assert granted(admission) == ["first"]
    admission.request(ask("small", tokens=(10, 0), depth=2), 1.0)
    order, now = [], 1.0
    while len(order) < 2:
        order += granted(admission, now)
        now = admission.next_wakeup(now) or now
    assert order == ["large", "small"]


def test_request_that_waits_for_budget_is_refused_at_the_time_limit():
    admission = opened(tokens=1000, time_s=10.0)
    for name in "ab":
        admission.request(ask(name, tokens=(500, 0)), 0.0)
    assert granted(admission) == ["a"]
    assert admission.decisions(9.9) == []
    assert [(each.request_id, each.reason) for each in admission.decisions(10.0)] == [("b", "time_s")]


def test_waits_of_a_request_are_counted_from_its_own_beginning():
    admission = opened(rates=Rates(rpm=60, in_flight=1))
    for name, now in (("a", 100.0), ("b", 100.0)):
        admission.request(ask(name), now)
    assert granted(admission, 100.0) == ["a"]
    answer(admission, "a", 100.25)
    assert admission.decisions(100.25) == []
    (first,) = admission.decisions(101.0)
    assert (first.queue_wait_s, first.rate_wait_s) == pytest.approx((0.25, 0.75))
    answer(admission, "b", 101.0)
    admission.request(ask("c"), 101.5)
    assert admission.decisions(101.5) == []
    (second,) = admission.decisions(102.0)
    assert (second.queue_wait_s, second.rate_wait_s) == pytest.approx((0.0, 0.5))
    answer(admission, "c", 102.0)
    total = admission.usage("run").total
    assert (total.queue_wait_s, total.rate_wait_s) == pytest.approx((0.25, 1.25))


def test_permit_that_a_client_brings_back_has_waited_for_nothing():
    admission = opened()
    admission.restore("c", Resume(in_flight=(ask("a"),)), 5.0)
    answer(admission, "a", 6.0)
    total = admission.usage("run").total
    assert (total.calls, total.queue_wait_s, total.rate_wait_s) == (1, 0.0, 0.0)


@pytest.mark.parametrize(
    ("depth", "is_final", "kept"), [(0, False, 150), (1, False, 50), (0, True, 50), (1, True, 50)]
)
def test_one_and_a_half_of_the_largest_call_of_the_root_is_kept_for_its_last(depth, is_final, kept):
    admission = opened(tokens=1000)
    admission.request(ask("a", tokens=(60, 40), depth=depth, is_final_call=is_final), 0.0)
    assert granted(admission) == ["a"]
    answer(admission, "a", 0.0, Usage(0, 0))
    for name, tokens in (("b", 1001 - kept), ("c", 1000 - kept)):
        admission.request(ask(name, tokens=(tokens, 0)), 0.0)
        decisions = admission.decisions(0.0)
        assert [type(each) for each in decisions] == [Refused if name == "b" else Granted]


def test_permit_that_is_lost_ends_the_hope_of_those_that_waited_for_its_budget():
    admission = opened(tokens=1000)
    for name in "ab":
        admission.request(ask(name, tokens=(500, 0), ttl_s=60.0), 0.0)
    assert granted(admission) == ["a"]
    assert admission.decisions(59.9) == []
    assert [(each.request_id, each.reason) for each in admission.decisions(60.0)] == [("b", "tokens")]


def test_late_settlement_of_a_run_that_is_over_changes_nothing():
    admission = opened()
    admission.request(ask("a", ttl_s=60.0), 0.0)
    admission.decisions(0.0)
    admission.decisions(60.0)
    admission.close_run("run")
    answer(admission, "a", 61.0)
    assert admission.stats()["permits"] == 0


@pytest.mark.parametrize(("opened_at", "goes"), [(0.0, False), (1.0, False), (1.01, True)])
def test_account_without_quota_takes_requests_of_runs_that_were_opened_later(opened_at, goes):
    admission = opened()
    admission.request(ask("a"), 0.0)
    admission.decisions(0.0)
    admission.release(Settle("a", AttemptOutcome.QUOTA_EXHAUSTED), 1.0)
    admission.open_run(RunPolicy("next"), opened_at)
    admission.request(ask("b", "next"), 2.0)
    assert (granted(admission, 2.0) == ["b"]) is goes
