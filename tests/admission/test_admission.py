"""The decisions of the whole cluster, in virtual time."""

import pytest

from rlm_ray.admission.controller import COMING_BACK_S, Admission
from rlm_ray.admission.policy.account import account_key
from rlm_ray.admission.policy.rate_headers import RateFacts
from rlm_ray.admission.protocol import Ask, Granted, Outcome, Refused, Resume, RunRecord, RunTerms, Settle
from rlm_ray.core.budget import Amount, nano_usd
from rlm_ray.core.limits import Limits, Rates
from rlm_ray.core.llm import Usage
from rlm_ray.core.usage import Tally


def opened(*, rates=None, **limits):
    admission = Admission()
    admission.open_run(RunTerms("run", Limits(**limits), rates or Rates()), 0.0)
    return admission


def ask(ticket, *, run_id="run", tokens=(10, 10), **more):
    more = {"key": "key", "holder": "h", "depth": 1} | more
    return Ask(run_id, more.pop("key"), "model", *tokens, ticket=ticket, **more)


def granted(admission, now=0.0):
    verdicts = admission.poll(now)
    assert not [verdict for verdict in verdicts if isinstance(verdict, Refused)], verdicts
    return [verdict.ticket for verdict in verdicts]


def refused(admission, now=0.0):
    return {verdict.ticket: verdict for verdict in admission.poll(now) if isinstance(verdict, Refused)}


USUAL = Usage(10, 5)


def answer(admission, ticket, now=1.0, usage=USUAL, **more):
    admission.settle(Settle(ticket, more.pop("outcome", Outcome.OK), usage, **more), now)


def test_an_ask_is_granted_once_and_its_permit_has_its_name():
    admission = opened()
    admission.ask(ask("a"), 0.0)
    assert admission.poll(0.0) == [Granted("a", "h", 0.0, 0.0)]
    assert admission.poll(0.0) == []


def test_a_repeated_ask_is_answered_again_and_counted_once():
    admission = opened(rates=Rates(in_flight=1))
    admission.ask(ask("a"), 0.0)
    admission.ask(ask("a"), 0.0)
    assert granted(admission) == ["a"]
    admission.ask(ask("a"), 0.1)
    assert granted(admission, 0.1) == ["a"]
    answer(admission, "a")
    answer(admission, "a")
    assert admission.usage("run").total.calls == 1


def test_requests_are_paced_and_the_next_moment_is_known():
    admission = opened(rates=Rates(rpm=60))
    for turn in range(3):
        admission.ask(ask(f"t{turn}"), 0.0)
    assert granted(admission) == ["t0"]
    assert admission.next_wakeup(0.0) == pytest.approx(1.0)
    assert granted(admission, 1.0) == ["t1"]


def test_the_window_bounds_what_is_under_way():
    admission = opened(rates=Rates(in_flight=2))
    for turn in range(3):
        admission.ask(ask(f"t{turn}"), 0.0)
    assert granted(admission) == ["t0", "t1"]
    answer(admission, "t0")
    assert granted(admission, 1.0) == ["t2"]


def test_accounts_do_not_wait_for_each_other():
    admission = opened(rates=Rates(rpm=60))
    admission.ask(ask("a", key="one"), 0.0)
    admission.ask(ask("b", key="two"), 0.0)
    assert sorted(granted(admission)) == ["a", "b"]


def test_where_runs_disagree_about_an_account_the_smaller_rate_holds():
    admission = opened(rates=Rates(in_flight=5))
    admission.open_run(RunTerms("other", rates=Rates(in_flight=1)), 0.0)
    admission.ask(ask("a", run_id="other"), 0.0)
    admission.ask(ask("b"), 0.0)
    assert granted(admission) == ["a"]
    admission.close_run("other")
    assert granted(admission) == ["b"]


def test_a_question_asked_beside_a_job_goes_first_each_time_and_the_job_goes_on():
    admission = opened(rates=Rates(in_flight=1))
    admission.open_run(RunTerms("job", rates=Rates(in_flight=1), interactive=False), 0.0)
    for row in range(100):
        admission.ask(ask(f"row{row}", run_id="job", depth=0), 0.0)
    assert granted(admission) == ["row0"]
    answer(admission, "row0")
    assert granted(admission, 1.0) == ["row1"]
    for turn in range(5):
        now = 2.0 + turn
        admission.ask(ask(f"turn{turn}"), now)
        answer(admission, f"row{turn + 1}", now)
        assert granted(admission, now) == [f"turn{turn}"]
        answer(admission, f"turn{turn}", now)
        assert granted(admission, now) == [f"row{turn + 2}"]


def test_retry_after_holds_everyone_and_is_not_followed_by_a_burst():
    admission = opened()
    for turn in range(40):
        admission.ask(ask(f"t{turn}"), 0.0)
    assert len(granted(admission)) == 20
    answer(admission, "t0", 0.5, None, outcome=Outcome.RATE_LIMITED, facts=RateFacts({}, None, 30.0))
    for turn in range(1, 20):
        answer(admission, f"t{turn}", 0.6)
    assert granted(admission, 29.0) == []
    assert len(granted(admission, 32.0)) <= 2


def test_limits_in_the_headers_are_kept_to():
    admission = opened()
    admission.ask(ask("a"), 0.0)
    granted(admission)
    answer(admission, "a", facts=RateFacts({"requests": 60.0}))
    for turn in range(10):
        admission.ask(ask(f"t{turn}"), 1.0)
    assert granted(admission, 1.0) == ["t0"]


def test_quota_stops_the_run_and_its_account_but_not_the_next_run():
    admission = opened()
    for ticket in "ab":
        admission.ask(ask(ticket), 0.0)
    granted(admission)
    admission.ask(ask("c"), 0.0)
    answer(admission, "a", 1.0, None, outcome=Outcome.QUOTA, why="insufficient_quota: pay your bill")
    admission.ask(ask("d"), 1.0)
    verdicts = refused(admission, 1.0)
    assert verdicts["d"].reason == "quota"
    assert "pay your bill" in verdicts["d"].why
    admission.open_run(RunTerms("later"), 2.0)
    admission.ask(ask("e", run_id="later"), 2.0)
    assert granted(admission, 2.0) == ["e"]


def test_a_wait_of_hours_is_a_quota():
    admission = opened()
    admission.ask(ask("a"), 0.0)
    granted(admission)
    answer(admission, "a", 1.0, None, outcome=Outcome.RATE_LIMITED, facts=RateFacts({}, None, 7200.0))
    admission.ask(ask("b"), 1.0)
    assert "120 minutes" in refused(admission, 1.0)["b"].why


@pytest.mark.parametrize(
    ("limits", "reason"),
    [({"cost_usd": 1.0}, "cost_usd"), ({"tokens": 100}, "tokens"), ({"calls": 2}, "calls")],
)
def test_a_call_waits_for_what_others_may_give_back_and_is_refused_when_nobody_can(limits, reason):
    admission = opened(**limits)
    for ticket in "ab":
        admission.ask(ask(ticket, tokens=(40, 40), cost_usd=0.8), 0.0)
    assert granted(admission) == ["a"]
    assert granted(admission, 0.5) == []
    answer(admission, "a", 1.0, Usage(40, 40), cost_usd=0.8)
    verdict = refused(admission, 1.0)["b"]
    assert verdict.reason == reason
    assert "limit" in verdict.why


def test_a_call_that_waited_goes_when_the_estimate_was_too_high():
    admission = opened(cost_usd=1.0)
    for ticket in "abc":
        admission.ask(ask(ticket, cost_usd=0.8), 0.0)
    assert granted(admission) == ["a"]
    answer(admission, "a", cost_usd=0.01)
    assert granted(admission, 1.0) == ["b"]
    answer(admission, "b", cost_usd=0.01)
    assert granted(admission, 1.0) == ["c"]


def test_all_that_wait_for_budget_are_refused_when_it_is_gone():
    admission = opened(tokens=1000)
    for ticket in "abcdef":
        admission.ask(ask(ticket, tokens=(450, 450)), 0.0)
    assert granted(admission) == ["a"]
    answer(admission, "a", usage=Usage(450, 450))
    assert set(refused(admission, 1.0)) == set("bcdef")


def test_the_last_call_uses_what_is_kept_and_may_be_late():
    admission = opened(tokens=1000, time_s=10)
    admission.ask(ask("a", tokens=(900, 0)), 0.0)
    granted(admission)
    answer(admission, "a", 5.0, Usage(900, 0))
    admission.ask(ask("b", tokens=(80, 0)), 5.0)
    assert refused(admission, 5.0)["b"].reason == "tokens"
    admission.ask(ask("c", tokens=(80, 0), last_call=True), 11.0)
    assert granted(admission, 11.0) == ["c"]


def test_an_unknown_price_under_a_cost_limit_is_refused_with_what_to_do():
    admission = opened(cost_usd=1.0)
    admission.ask(ask("a"), 0.0)
    assert "give its price" in refused(admission)["a"].why


def test_time_ends_for_those_who_wait():
    admission = opened(rates=Rates(in_flight=1), time_s=10)
    for ticket in "ab":
        admission.ask(ask(ticket), 0.0)
    assert granted(admission) == ["a"]
    assert admission.next_wakeup(0.0) == 10
    assert refused(admission, 10.0)["b"].reason == "time_s"


def test_sessions_are_counted():
    admission = opened(sessions=2)
    assert admission.usage("run").sessions == 1
    assert admission.open_sessions("run", 2).reason == "sessions"
    assert admission.open_sessions("run") is None
    assert admission.open_sessions("run").reason == "sessions"
    assert admission.open_sessions("unknown").reason == "closed"
    assert admission.usage("run").sessions == 2


def test_a_dead_holder_gives_back_its_places_but_not_the_money():
    admission = opened(rates=Rates(in_flight=1), tokens=1000)
    admission.ask(ask("a", tokens=(400, 400), holder="dead"), 0.0)
    admission.ask(ask("b", holder="dead"), 0.0)
    admission.ask(ask("c", tokens=(50, 50)), 0.0)
    assert granted(admission) == ["a"]
    admission.forget_holder("dead", 1.0)
    assert granted(admission, 1.0) == ["c"]
    assert admission.room("run").spent.tokens == 800
    assert admission.usage("run").total.unknown == 1
    assert admission.usage("run").total.tokens == 0


def test_the_truth_about_a_lost_permit_may_come_late():
    admission = opened(tokens=1000)
    admission.ask(ask("a", tokens=(400, 400), ttl_s=60), 0.0)
    granted(admission)
    assert admission.next_wakeup(0.0) == 60
    admission.poll(60.0)
    answer(admission, "a", 61.0, Usage(100, 1))
    answer(admission, "a", 62.0, Usage(100, 1))
    assert admission.room("run").spent == Amount(0, 101, 1)
    assert admission.usage("run").total == Tally(
        calls=1, attempts=1, unpriced=1, input_tokens=100, output_tokens=1
    )


@pytest.mark.parametrize(
    ("outcome", "spent"),
    [
        (Outcome.RATE_LIMITED, Amount()),
        (Outcome.SERVER_ERROR, Amount()),
        (Outcome.REJECTED, Amount()),
        (Outcome.UNSENT, Amount()),
        (Outcome.TIMEOUT, Amount(nano_usd(0.5), 20, 0)),
        (Outcome.CANCELLED, Amount(nano_usd(0.5), 20, 0)),
        (Outcome.LOST, Amount(nano_usd(0.5), 20, 1)),
        (Outcome.OK, Amount(nano_usd(0.5), 20, 1)),
    ],
)
def test_what_may_be_billed_stays_charged_where_the_usage_is_not_known(outcome, spent):
    admission = opened()
    admission.ask(ask("a", cost_usd=0.5), 0.0)
    granted(admission)
    answer(admission, "a", usage=None, outcome=outcome)
    assert admission.room("run").spent == spent


def test_withdrawing_takes_it_out_of_the_queue_or_gives_it_back():
    admission = opened(rates=Rates(in_flight=1))
    for ticket in "abc":
        admission.ask(ask(ticket), 0.0)
    assert granted(admission) == ["a"]
    admission.withdraw("b", 0.0)
    admission.withdraw("a", 0.0)
    admission.withdraw("unknown", 0.0)
    assert granted(admission) == ["c"]
    assert admission.usage("run").total.attempts == 0


def test_an_ask_may_come_before_its_run_but_does_not_wait_for_ever():
    admission = Admission()
    admission.ask(ask("a"), 0.0)
    assert admission.poll(0.0) == []
    admission.open_run(RunTerms("run"), 1.0)
    assert granted(admission, 1.0) == ["a"]
    admission.ask(ask("b", run_id="never"), 1.0)
    assert refused(admission, admission.next_wakeup(1.0))["b"].reason == "closed"


def test_closing_a_run_refuses_who_waits_and_tells_what_it_used():
    admission = opened(rates=Rates(in_flight=1))
    for ticket in "ab":
        admission.ask(ask(ticket, depth=1), 0.0)
    granted(admission)
    answer(admission, "a", usage=Usage(10, 5, 2, 1), cost_usd=0.25)
    usage = admission.close_run("run")
    assert usage.by_depth == {1: Tally(1, 1, 0, 0, 0, 10, 5, 2, 1, 0.25)}
    assert usage.by_model["model"].tokens == 15
    assert refused(admission, 1.0)["b"].reason == "closed"


def test_waits_are_told_apart():
    admission = opened(rates=Rates(rpm=60, in_flight=1))
    for ticket in "ab":
        admission.ask(ask(ticket), 0.0)
    granted(admission)
    answer(admission, "a", 0.25)
    assert granted(admission, 0.25) == []
    (verdict,) = admission.poll(1.0)
    assert verdict.queue_wait_s == pytest.approx(0.25)
    assert verdict.rate_wait_s == pytest.approx(0.75)


def test_a_new_admission_learns_what_was_spent_and_what_is_under_way():
    admission = Admission()
    terms = RunTerms("run", Limits(tokens=1000), Rates(in_flight=2), age_s=5.0)
    one = RunRecord(terms, Amount(0, 300, 3), Amount(0, 350, 4), {("model", 0): Tally(calls=3)})
    two = RunRecord(terms, Amount(0, 200, 2), Amount(0, 300, 3), {("model", 1): Tally(calls=2)})
    admission.resume("one", Resume((one,), (ask("a", tokens=(100, 0), holder="one"),)), 0.0)
    admission.resume("two", Resume((two,), ()), 0.0)
    admission.resume("two", Resume((two,), ()), 0.0)
    assert admission.room("run").spent == Amount(0, 500, 5)
    assert admission.usage("run").total.calls == 5
    admission.ask(ask("b", tokens=(400, 0)), 0.0)
    admission.ask(ask("c", tokens=(300, 0)), 0.0)
    assert granted(admission) == []
    assert granted(admission, COMING_BACK_S) == ["c"]
    answer(admission, "a", usage=Usage(100, 0))
    assert admission.room("run").spent == Amount(0, 600, 6)


def test_after_a_restart_a_budget_is_not_spent_before_all_can_have_told_what_they_hold():
    admission = Admission()
    record = RunRecord(RunTerms("run", Limits(tokens=1500)), Amount(0, 300, 3), Amount(0, 300, 3))
    admission.resume("one", Resume((record,)), 0.0)
    admission.ask(ask("a", tokens=(700, 0), holder="one"), 0.0)
    assert granted(admission, 1.0) == []
    admission.resume("two", Resume((record,), (ask("b", tokens=(300, 0), holder="two"),)), 1.0)
    assert granted(admission, COMING_BACK_S) == []
    answer(admission, "b", usage=Usage(20, 0), now=3.0)
    assert granted(admission, 3.0) == ["a"]
    record = RunRecord(RunTerms("free"), Amount(0, 300, 3))
    admission.resume("one", Resume((record,)), 0.0)
    admission.ask(ask("c", run_id="free"), 3.0)
    assert granted(admission, 3.0) == ["c"]


def test_what_a_dead_holder_spent_is_known_from_those_who_heard_of_it():
    admission = Admission()
    record = RunRecord(RunTerms("run", Limits(tokens=1000)), Amount(0, 100, 1), Amount(0, 700, 7))
    admission.resume("one", Resume((record,)), 0.0)
    assert admission.room("run").spent == Amount(0, 700, 7)


def test_a_permit_that_was_settled_is_not_brought_back():
    admission = opened(rates=Rates(in_flight=1))
    admission.ask(ask("a"), 0.0)
    granted(admission)
    answer(admission, "a")
    admission.resume("h", Resume(in_flight=(ask("a"),)), 1.0)
    admission.ask(ask("b"), 1.0)
    assert granted(admission, 1.0) == ["b"]


def test_a_large_request_is_not_overtaken_for_ever():
    admission = opened(rates=Rates(tpm=60_000))
    now = 0.0
    for turn in range(30):
        admission.ask(ask(f"small{turn}", tokens=(500, 0)), now)
    admission.ask(ask("large", tokens=(30_000, 0)), now)
    while "large" not in (tickets := granted(admission, now)):
        for ticket in tickets:
            answer(admission, ticket, now, Usage(500, 0))
        admission.ask(ask(f"more{now}", tokens=(500, 0)), now)
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
    admission.ask(ask("a"), 0.0)
    granted(admission)
    answer(admission, "a", 0.1, None, outcome=Outcome.RATE_LIMITED, facts=RateFacts({}, None, 0.05))
    for turn in range(5):
        admission.ask(ask(f"t{turn}"), 0.1)
    assert len(granted(admission, 0.2)) == 5
