"""The decisions of the whole cluster, in virtual time."""

import pytest

from rlm_ray.admission.controller import RECOVERY_GRACE_S, AdmissionController
from rlm_ray.admission.policy.account import account_key
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
from rlm_ray.core.limits import Amount, Limits, Rates, to_nano_usd
from rlm_ray.core.llm import Usage
from rlm_ray.core.retry_after import RateLimitHeaders
from rlm_ray.events.usage import CallStats


def opened(*, rates=None, **limits):
    admission = AdmissionController()
    admission.open_run(RunPolicy("run", Limits(**limits), rates or Rates()), 0.0)
    return admission


def ask(ticket, *, run_id="run", tokens=(10, 10), **more):
    more = {"key": "key", "client_id": "h", "depth": 1} | more
    return PermitRequest(run_id, more.pop("key"), "model", *tokens, request_id=ticket, **more)


def ask_all(admission, *tickets, now=0.0, **more):
    for ticket in tickets:
        admission.request(ask(ticket, **more), now)


def granted(admission, now=0.0):
    verdicts = admission.decisions(now)
    assert not [verdict for verdict in verdicts if isinstance(verdict, Refused)], verdicts
    return [verdict.request_id for verdict in verdicts]


def refused(admission, now=0.0):
    return {
        verdict.request_id: verdict for verdict in admission.decisions(now) if isinstance(verdict, Refused)
    }


USUAL = Usage(10, 5)


def answer(admission, ticket, now=1.0, usage=USUAL, **more):
    admission.release(Settle(ticket, more.pop("outcome", AttemptOutcome.OK), usage, **more), now)


def rate_limited(admission, ticket, now, retry_after_s):
    rate_headers = RateLimitHeaders({}, None, retry_after_s)
    answer(admission, ticket, now, None, outcome=AttemptOutcome.RATE_LIMITED, rate_headers=rate_headers)


def test_an_ask_is_granted_once_and_its_permit_has_its_name():
    admission = opened()
    admission.request(ask("a"), 0.0)
    assert admission.decisions(0.0) == [Granted("a", "h", 0.0, 0.0)]
    assert admission.decisions(0.0) == []


def test_a_repeated_ask_is_answered_again_and_counted_once():
    admission = opened(rates=Rates(in_flight=1))
    ask_all(admission, "a", "a")
    assert granted(admission) == ["a"]
    admission.request(ask("a"), 0.1)
    assert granted(admission, 0.1) == ["a"]
    answer(admission, "a")
    answer(admission, "a")
    assert admission.usage("run").total.calls == 1


def test_requests_are_paced_and_the_next_moment_is_known():
    admission = opened(rates=Rates(rpm=60))
    ask_all(admission, *(f"t{turn}" for turn in range(3)))
    assert granted(admission) == ["t0"]
    assert admission.next_wakeup(0.0) == pytest.approx(1.0)
    assert granted(admission, 1.0) == ["t1"]


def test_the_window_bounds_what_is_under_way():
    admission = opened(rates=Rates(in_flight=2))
    ask_all(admission, *(f"t{turn}" for turn in range(3)))
    assert granted(admission) == ["t0", "t1"]
    answer(admission, "t0")
    assert granted(admission, 1.0) == ["t2"]


def test_accounts_do_not_wait_for_each_other():
    admission = opened(rates=Rates(rpm=60))
    admission.request(ask("a", key="one"), 0.0)
    admission.request(ask("b", key="two"), 0.0)
    assert sorted(granted(admission)) == ["a", "b"]


def test_where_runs_disagree_about_an_account_the_smaller_rate_holds():
    admission = opened(rates=Rates(in_flight=5))
    admission.open_run(RunPolicy("other", rates=Rates(in_flight=1)), 0.0)
    admission.request(ask("a", run_id="other"), 0.0)
    admission.request(ask("b"), 0.0)
    assert granted(admission) == ["a"]
    admission.close_run("other")
    assert granted(admission) == ["b"]


def test_a_question_asked_beside_a_job_goes_first_each_time_and_the_job_goes_on():
    admission = opened(rates=Rates(in_flight=1))
    admission.open_run(RunPolicy("job", rates=Rates(in_flight=1), interactive=False), 0.0)
    for row in range(100):
        admission.request(ask(f"row{row}", run_id="job", depth=0), 0.0)
    assert granted(admission) == ["row0"]
    answer(admission, "row0")
    assert granted(admission, 1.0) == ["row1"]
    for turn in range(5):
        now = 2.0 + turn
        admission.request(ask(f"turn{turn}"), now)
        answer(admission, f"row{turn + 1}", now)
        assert granted(admission, now) == [f"turn{turn}"]
        answer(admission, f"turn{turn}", now)
        assert granted(admission, now) == [f"row{turn + 2}"]


def test_retry_after_holds_everyone_and_is_not_followed_by_a_burst():
    admission = opened()
    ask_all(admission, *(f"t{turn}" for turn in range(40)))
    assert len(granted(admission)) == 20
    rate_limited(admission, "t0", 0.5, retry_after_s=30.0)
    for turn in range(1, 20):
        answer(admission, f"t{turn}", 0.6)
    assert granted(admission, 29.0) == []
    assert len(granted(admission, 32.0)) <= 2


def test_limits_in_the_headers_are_kept_to():
    admission = opened()
    admission.request(ask("a"), 0.0)
    granted(admission)
    answer(admission, "a", rate_headers=RateLimitHeaders({"requests": 60.0}))
    ask_all(admission, *(f"t{turn}" for turn in range(10)), now=1.0)
    assert granted(admission, 1.0) == ["t0"]


def test_quota_stops_the_run_and_its_account_but_not_the_next_run():
    admission = opened()
    ask_all(admission, *"ab")
    granted(admission)
    admission.request(ask("c"), 0.0)
    answer(
        admission,
        "a",
        1.0,
        None,
        outcome=AttemptOutcome.QUOTA_EXHAUSTED,
        why="insufficient_quota: pay your bill",
    )
    admission.request(ask("d"), 1.0)
    verdicts = refused(admission, 1.0)
    assert verdicts["d"].reason == "quota"
    assert "pay your bill" in verdicts["d"].why
    admission.open_run(RunPolicy("later"), 2.0)
    admission.request(ask("e", run_id="later"), 2.0)
    assert granted(admission, 2.0) == ["e"]


def test_a_wait_of_hours_is_a_quota():
    admission = opened()
    admission.request(ask("a"), 0.0)
    granted(admission)
    rate_limited(admission, "a", 1.0, retry_after_s=7200.0)
    admission.request(ask("b"), 1.0)
    assert "120 minutes" in refused(admission, 1.0)["b"].why


@pytest.mark.parametrize(
    ("limits", "reason"),
    [({"cost_usd": 1.0}, "cost_usd"), ({"tokens": 100}, "tokens"), ({"calls": 2}, "calls")],
)
def test_a_call_waits_for_what_others_may_give_back_and_is_refused_when_nobody_can(limits, reason):
    admission = opened(**limits)
    ask_all(admission, *"ab", tokens=(40, 40), cost_usd=0.8)
    assert granted(admission) == ["a"]
    assert granted(admission, 0.5) == []
    answer(admission, "a", 1.0, Usage(40, 40), cost_usd=0.8)
    verdict = refused(admission, 1.0)["b"]
    assert verdict.reason == reason
    assert "limit" in verdict.why


def test_a_call_that_waited_goes_when_the_estimate_was_too_high():
    admission = opened(cost_usd=1.0)
    ask_all(admission, *"abc", cost_usd=0.8)
    assert granted(admission) == ["a"]
    answer(admission, "a", cost_usd=0.01)
    assert granted(admission, 1.0) == ["b"]
    answer(admission, "b", cost_usd=0.01)
    assert granted(admission, 1.0) == ["c"]


def test_all_that_wait_for_budget_are_refused_when_it_is_gone():
    admission = opened(tokens=1000)
    ask_all(admission, *"abcdef", tokens=(450, 450))
    assert granted(admission) == ["a"]
    answer(admission, "a", usage=Usage(450, 450))
    assert set(refused(admission, 1.0)) == set("bcdef")


def test_the_last_call_uses_what_is_kept_and_may_be_late():
    admission = opened(tokens=1000, time_s=10)
    admission.request(ask("a", tokens=(900, 0)), 0.0)
    granted(admission)
    answer(admission, "a", 5.0, Usage(900, 0))
    admission.request(ask("b", tokens=(80, 0)), 5.0)
    assert refused(admission, 5.0)["b"].reason == "tokens"
    admission.request(ask("c", tokens=(80, 0), is_final_call=True), 11.0)
    assert granted(admission, 11.0) == ["c"]


def test_an_unknown_price_under_a_cost_limit_is_refused_with_what_to_do():
    admission = opened(cost_usd=1.0)
    admission.request(ask("a"), 0.0)
    assert "give its price" in refused(admission)["a"].why


def test_time_ends_for_those_who_wait():
    admission = opened(rates=Rates(in_flight=1), time_s=10)
    ask_all(admission, *"ab")
    assert granted(admission) == ["a"]
    assert admission.next_wakeup(0.0) == 10
    assert refused(admission, 10.0)["b"].reason == "time_s"


def test_sessions_are_counted():
    admission = opened(sessions=2)
    assert admission.usage("run").sessions == 1
    policy = RunPolicy("run")
    assert admission.open_sessions(policy, 2, 0.0).reason == "sessions"
    assert admission.open_sessions(policy, 1, 0.0) is None
    assert admission.open_sessions(policy, 1, 0.0).reason == "sessions"
    assert admission.usage("run").sessions == 2


def test_a_dead_holder_gives_back_its_requests_in_flight_but_not_the_money():
    admission = opened(rates=Rates(in_flight=1), tokens=1000)
    admission.request(ask("a", tokens=(400, 400), client_id="dead"), 0.0)
    admission.request(ask("b", client_id="dead"), 0.0)
    admission.request(ask("c", tokens=(50, 50)), 0.0)
    assert granted(admission) == ["a"]
    admission.drop_client("dead", 1.0)
    assert granted(admission, 1.0) == ["c"]
    assert admission.budget_share("run").spent.tokens == 800
    assert admission.usage("run").total.unknown == 1
    assert admission.usage("run").total.tokens == 0


def test_the_truth_about_a_lost_permit_may_come_late():
    admission = opened(tokens=1000)
    admission.request(ask("a", tokens=(400, 400), ttl_s=60), 0.0)
    granted(admission)
    assert admission.next_wakeup(0.0) == 60
    admission.decisions(60.0)
    answer(admission, "a", 61.0, Usage(100, 1))
    answer(admission, "a", 62.0, Usage(100, 1))
    assert admission.budget_share("run").spent == Amount(0, 101, 1)
    assert admission.usage("run").total == CallStats(
        calls=1, attempts=1, unpriced=1, input_tokens=100, output_tokens=1
    )


@pytest.mark.parametrize(
    ("outcome", "spent"),
    [
        (AttemptOutcome.RATE_LIMITED, Amount()),
        (AttemptOutcome.SERVER_ERROR, Amount()),
        (AttemptOutcome.REJECTED, Amount()),
        (AttemptOutcome.NOT_SENT, Amount()),
        (AttemptOutcome.TIMEOUT, Amount(to_nano_usd(0.5), 20, 0)),
        (AttemptOutcome.CANCELLED, Amount(to_nano_usd(0.5), 20, 0)),
        (AttemptOutcome.UNKNOWN, Amount(to_nano_usd(0.5), 20, 1)),
        (AttemptOutcome.OK, Amount(to_nano_usd(0.5), 20, 1)),
    ],
)
def test_what_may_be_billed_stays_charged_where_the_usage_is_not_known(outcome, spent):
    admission = opened()
    admission.request(ask("a", cost_usd=0.5), 0.0)
    granted(admission)
    answer(admission, "a", usage=None, outcome=outcome)
    assert admission.budget_share("run").spent == spent


def test_withdrawing_takes_it_out_of_the_queue_or_gives_it_back():
    admission = opened(rates=Rates(in_flight=1))
    ask_all(admission, *"abc")
    assert granted(admission) == ["a"]
    admission.cancel("b", 0.0)
    admission.cancel("a", 0.0)
    admission.cancel("unknown", 0.0)
    assert granted(admission) == ["c"]
    assert admission.usage("run").total.attempts == 0


def test_an_ask_may_come_before_its_run_but_does_not_wait_for_ever():
    admission = AdmissionController()
    admission.request(ask("a"), 0.0)
    assert admission.decisions(0.0) == []
    admission.open_run(RunPolicy("run"), 1.0)
    assert granted(admission, 1.0) == ["a"]
    admission.request(ask("b", run_id="never"), 1.0)
    assert refused(admission, admission.next_wakeup(1.0))["b"].reason == "closed"


def test_closing_a_run_refuses_who_waits_and_tells_what_it_used():
    admission = opened(rates=Rates(in_flight=1))
    ask_all(admission, *"ab", depth=1)
    granted(admission)
    answer(admission, "a", usage=Usage(10, 5, 2, 1), cost_usd=0.25)
    usage = admission.close_run("run")
    assert usage.by_depth == {1: CallStats(1, 1, 0, 0, 0, 10, 5, 2, 1, 0.25)}
    assert usage.by_model["model"].tokens == 15
    assert refused(admission, 1.0)["b"].reason == "closed"


def test_waits_are_told_apart():
    admission = opened(rates=Rates(rpm=60, in_flight=1))
    ask_all(admission, *"ab")
    granted(admission)
    answer(admission, "a", 0.25)
    assert granted(admission, 0.25) == []
    (verdict,) = admission.decisions(1.0)
    assert verdict.queue_wait_s == pytest.approx(0.25)
    assert verdict.rate_wait_s == pytest.approx(0.75)


def test_a_new_admission_learns_what_was_spent_and_what_is_under_way():
    admission = AdmissionController()
    terms = RunPolicy("run", Limits(tokens=1000), Rates(in_flight=2), age_s=5.0)
    one = RunSnapshot(terms, Amount(0, 300, 3), Amount(0, 350, 4), {("model", 0): CallStats(calls=3)})
    two = RunSnapshot(terms, Amount(0, 200, 2), Amount(0, 300, 3), {("model", 1): CallStats(calls=2)})
    admission.restore("one", Resume((one,), (ask("a", tokens=(100, 0), client_id="one"),)), 0.0)
    admission.restore("two", Resume((two,), ()), 0.0)
    admission.restore("two", Resume((two,), ()), 0.0)
    assert admission.budget_share("run").spent == Amount(0, 500, 5)
    assert admission.usage("run").total.calls == 5
    admission.request(ask("b", tokens=(400, 0)), 0.0)
    admission.request(ask("c", tokens=(300, 0)), 0.0)
    assert granted(admission) == []
    assert granted(admission, RECOVERY_GRACE_S) == ["c"]
    answer(admission, "a", usage=Usage(100, 0))
    assert admission.budget_share("run").spent == Amount(0, 600, 6)


def test_after_a_restart_a_budget_is_not_spent_before_all_can_have_told_what_they_hold():
    admission = AdmissionController()
    record = RunSnapshot(RunPolicy("run", Limits(tokens=1500)), Amount(0, 300, 3), Amount(0, 300, 3))
    admission.restore("one", Resume((record,)), 0.0)
    admission.request(ask("a", tokens=(700, 0), client_id="one"), 0.0)
    assert granted(admission, 1.0) == []
    admission.restore("two", Resume((record,), (ask("b", tokens=(300, 0), client_id="two"),)), 1.0)
    assert granted(admission, RECOVERY_GRACE_S) == []
    answer(admission, "b", usage=Usage(20, 0), now=3.0)
    assert granted(admission, 3.0) == ["a"]
    record = RunSnapshot(RunPolicy("free"), Amount(0, 300, 3))
    admission.restore("one", Resume((record,)), 0.0)
    admission.request(ask("c", run_id="free"), 3.0)
    assert granted(admission, 3.0) == ["c"]


def test_what_a_dead_holder_spent_is_known_from_those_who_heard_of_it():
    admission = AdmissionController()
    record = RunSnapshot(RunPolicy("run", Limits(tokens=1000)), Amount(0, 100, 1), Amount(0, 700, 7))
    admission.restore("one", Resume((record,)), 0.0)
    assert admission.budget_share("run").spent == Amount(0, 700, 7)


def test_a_permit_that_was_settled_is_not_brought_back():
    admission = opened(rates=Rates(in_flight=1))
    admission.request(ask("a"), 0.0)
    granted(admission)
    answer(admission, "a")
    admission.restore("h", Resume(in_flight=(ask("a"),)), 1.0)
    admission.request(ask("b"), 1.0)
    assert granted(admission, 1.0) == ["b"]


def test_a_large_request_is_not_overtaken_for_ever():
    admission = opened(rates=Rates(tpm=60_000))
    now = 0.0
    for turn in range(30):
        admission.request(ask(f"small{turn}", tokens=(500, 0)), now)
    admission.request(ask("large", tokens=(30_000, 0)), now)
    while "large" not in (tickets := granted(admission, now)):
        for ticket in tickets:
            answer(admission, ticket, now, Usage(500, 0))
        admission.request(ask(f"more{now}", tokens=(500, 0)), now)
        now = max(admission.next_wakeup(now), now + 0.01)
        assert now < 40, tickets


def test_keys_of_accounts_tell_accounts_apart_and_no_secrets():
    keys = {
        account_key("openai", None, "sk-one"),
        account_key("openai", None, "sk-two"),
        account_key("openai", "http://other", "sk-one"),
        account_key("openai", None, "sk-one", "images"),
    }
    assert len(keys) == 4
    assert not any("sk-" in key for key in keys)


def test_a_refusal_after_hardly_any_request_is_waited_out_and_tells_no_rate():
    admission = opened()
    admission.request(ask("a"), 0.0)
    granted(admission)
    rate_limited(admission, "a", 0.1, retry_after_s=0.05)
    ask_all(admission, *(f"t{turn}" for turn in range(5)), now=0.1)
    assert len(granted(admission, 0.2)) == 5
