"""How a run stands, as those who watch it are told."""

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_ray.admission.controller import RECOVERY_GRACE_S, AdmissionController
from rlm_ray.admission.protocol import (
    AttemptOutcome,
    Granted,
    PermitRequest,
    Resume,
    RunPolicy,
    RunSnapshot,
    Settle,
)
from rlm_ray.admission.server import AdmissionServer
from rlm_ray.cluster.detached_actor import service_stub
from rlm_ray.core.limits import Amount, Limits, Rates
from rlm_ray.core.llm import Usage
from rlm_ray.core.retry_after import RateLimitHeaders
from rlm_ray.util.rpc import RpcServer
from rlm_ray.util.rpc_service import service_of


def opened(*, rates=None, **limits):
    admission = AdmissionController()
    admission.open_run(RunPolicy("run", Limits(**limits), rates or Rates()), 0.0)
    return admission


def wish(admission, *tickets, account="account", run_id="run", now=0.0, poll=True):
    for ticket in tickets:
        admission.request(
            PermitRequest(run_id, account, "model", 10, 10, depth=1, request_id=ticket, client_id="h"), now
        )
    return admission.decisions(now) if poll else []


def test_a_run_nobody_opened_has_no_status():
    assert AdmissionController().status("run", 0.0) is None


def test_a_fresh_run_has_nothing_under_way():
    status = opened(cost_usd=2.0).status("run", 3.0)
    assert (status.in_flight, status.waiting, status.spent) == (0, {}, Amount())
    assert (status.limits.cost_usd, status.age_s) == (2.0, 3.0)


def test_what_may_not_go_for_the_window_waits_for_the_window():
    admission = opened(rates=Rates(in_flight=2))
    wish(admission, "a", "b", "c", "d", "e")
    status = admission.status("run", 0.0)
    assert (status.in_flight, status.waiting, status.wait_s) == (2, {"window": 3}, {})


def test_what_may_not_go_for_the_rate_waits_for_the_rate():
    admission = opened(rates=Rates(rpm=60))
    wish(admission, "a", "b", "c")
    status = admission.status("run", 0.1)
    assert (status.in_flight, status.waiting) == (1, {"rate": 2})
    assert status.wait_s == pytest.approx({"rate": 0.9})
    codec = service_of(AdmissionServer).codec
    assert codec.decode(codec.encode(status)).wait_s == status.wait_s


def test_of_two_accounts_that_wait_the_first_to_go_says_how_long():
    admission = opened(rates=Rates(rpm=60))
    wish(admission, "a", "b", account="one")
    wish(admission, "c", "d", account="two", now=0.5)
    status = admission.status("run", 0.5)
    assert (status.waiting, status.wait_s) == ({"rate": 2}, pytest.approx({"rate": 0.5}))


def test_what_a_provider_asked_to_wait_for_waits_for_the_pause_and_then_no_more():
    admission = opened(rates=Rates(in_flight=1))
    wish(admission, "a", "b")
    admission.release(
        Settle("a", AttemptOutcome.RATE_LIMITED, rate_headers=RateLimitHeaders({}, retry_after_s=5.0)), 1.0
    )
    admission.decisions(1.0)
    status = admission.status("run", 2.0)
    assert status.waiting == {"pause": 1}
    assert 4.0 <= status.wait_s["pause"] < 10.0
    admission.decisions(20.0)
    assert admission.status("run", 20.0).waiting == {}


def test_what_does_not_fit_the_budget_now_waits_for_the_budget():
    admission = opened(tokens=60)
    wish(admission, "a", "b", "c")
    status = admission.status("run", 0.0)
    assert (status.in_flight, status.waiting) == (2, {"budget": 1})
    assert (status.reserved.tokens, status.spent.tokens) == (40, 0)
    admission.release(Settle("a", AttemptOutcome.OK, Usage(5, 5)), 1.0)
    admission.decisions(1.0)
    status = admission.status("run", 1.0)
    assert (status.in_flight, status.waiting, status.spent.tokens) == (2, {}, 10)
    assert status.usage.total.calls == 1


def test_a_run_that_comes_from_another_attempt_waits_for_the_others_to_come_back():
    admission = AdmissionController()
    admission.restore("h", Resume((RunSnapshot(RunPolicy("run", Limits(calls=10))),)), 0.0)
    wish(admission, "a")
    assert admission.status("run", RECOVERY_GRACE_S / 2).waiting == {"pause": 1}


def test_each_account_keeps_its_own_and_runs_are_told_apart():
    admission = opened(rates=Rates(in_flight=1))
    admission.open_run(RunPolicy("other", rates=Rates(in_flight=1)), 0.0)
    wish(admission, "a", "b", account="one")
    wish(admission, "c", account="two")
    wish(admission, "d", "e", run_id="other", account="one")
    assert admission.status("run", 0.0).waiting == {"window": 1}
    assert admission.status("run", 0.0).in_flight == 2
    assert admission.status("other", 0.0).waiting == {"window": 2}
    assert admission.status("other", 0.0).in_flight == 0


@pytest.mark.parametrize("after", ["withdrawn", "forgotten", "timed out"])
def test_what_is_not_wanted_any_more_waits_no_more(after):
    admission = opened(tokens=50, time_s=100)
    wish(admission, "a", "b", "c")
    match after:
        case "withdrawn":
            admission.cancel("c", 1.0)
        case "forgotten":
            admission.drop_client("h", 1.0)
        case "timed out":
            admission.decisions(101.0)
    assert admission.status("run", 101.0).waiting == {}


@pytest.mark.parametrize(
    ("rates", "limits", "reason"),
    [(Rates(in_flight=1), {}, "window"), (Rates(), {"tokens": 40}, "budget")],
    ids=["window", "budget"],
)
def test_two_thousand_who_wait_are_counted_in_less_than_a_few_milliseconds(rates, limits, reason):
    admission = opened(rates=rates, **limits)
    wish(admission, *(f"t{number}" for number in range(2_001)))
    waiting = admission.status("run", 0.0).waiting[reason]
    assert waiting >= 1_999
    assert min(_seconds(admission) for _ in range(20)) < 0.005


def _seconds(admission):
    started = time.perf_counter()
    admission.status("run", 0.0)
    return time.perf_counter() - started


async def test_the_server_answers_by_its_own_clock():
    now = 5.0
    shell = AdmissionServer(AdmissionController(), "epoch", clock=lambda: now)
    await shell.open_run(RunPolicy("run"))
    now = 8.0
    assert (await shell.status("run")).age_s == 3.0
    assert await shell.status("other") is None


async def test_it_can_be_asked_for_over_the_line():
    shell = AdmissionServer(opened(rates=Rates(in_flight=1)), "epoch", clock=lambda: 4.0)
    service = service_of(AdmissionServer)
    line = RpcServer(shell, frozenset(service.methods), b"token", service.codec)
    address = await line.listen("127.0.0.1")
    transport = service_stub(AdmissionServer, "admission", lambda _: lambda: asyncio.sleep(0, address))
    status = await transport.status("run")
    assert (status.in_flight, status.waiting, status.age_s) == (0, {}, 4.0)
    await transport.aclose()
    await line.close()


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["ask", "answer", "refuse", "withdraw"]), st.integers(0, 30), st.integers(0, 1)
    ),
    max_size=60,
)


@given(ACTIONS, st.sampled_from([{}, {"tokens": 70}, {"calls": 3}]), st.sampled_from([1, 3, None]))
def test_every_ask_without_a_verdict_waits_for_one_thing_and_every_permit_is_in_flight(
    actions, limits, places
):
    admission = opened(rates=Rates(rpm=600, in_flight=places), **limits)
    waiting, out = set(), set()
    for now, (action, number, account) in enumerate(actions):
        moment = now / 50
        match action:
            case "ask":
                wish(admission, f"{now}", account=f"a{account}", now=moment, poll=False)
                waiting.add(f"{now}")
            case "answer" | "refuse" if out:
                permit = sorted(out)[number % len(out)]
                outcome = AttemptOutcome.OK if action == "answer" else AttemptOutcome.RATE_LIMITED
                admission.release(
                    Settle(permit, outcome, Usage(5, 5) if action == "answer" else None), moment
                )
                out.discard(permit)
            case "withdraw" if waiting:
                unwanted = sorted(waiting)[number % len(waiting)]
                admission.cancel(unwanted, moment)
                waiting.discard(unwanted)
        for verdict in admission.decisions(moment):
            waiting.discard(verdict.request_id)
            if isinstance(verdict, Granted):
                out.add(verdict.request_id)
        status = admission.status("run", moment)
        assert (sum(status.waiting.values()), status.in_flight) == (len(waiting), len(out))
        assert all(status.waiting.values())
