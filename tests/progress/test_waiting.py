"""One line names what a run waits for, and why, at every moment."""

from __future__ import annotations

import time

import pytest

from rlm_ray.admission.protocol import RunStatus
from rlm_ray.core.context import InputSummary
from rlm_ray.events.records import (
    CallEnded,
    CallSent,
    CellEnded,
    MapEnded,
    RunFinished,
    RunStarted,
    SessionEnded,
    SessionOpened,
)
from rlm_ray.progress import LiveRunState
from rlm_ray.progress.waiting import FIRST_CALL, LOADING, NEXT_STEP, WaitTracker

NOW = 1_000.0


def sent(at, path=(), call=1, model="openai/gpt-5", role="turn"):
    return CallSent(at, path, call, role, model, "k")


def ended(at, path=(), call=1, role="turn", **more):
    return CallEnded(at, path, call, role, "openai/gpt-5", "k", at - 1, **more)


def tracker(*heard):
    made = WaitTracker()
    for each in heard:
        if isinstance(each, str):
            made.waits_for(each)
        elif isinstance(each, RunStatus):
            made.status(each, NOW)
        else:
            made.add(each)
    return made


OPENED = SessionOpened(900.0, (), "Who?", InputSummary(), "openai/gpt-5", "actor")
AT_23 = time.strftime("%H:%M:%S", time.localtime(NOW + 23))


@pytest.mark.parametrize(
    ("heard", "said"),
    [
        ([], f"waiting for {LOADING}"),
        (["Ray: it starts on this machine"], "waiting for Ray: it starts on this machine"),
        (["Ray", ""], f"waiting for {FIRST_CALL}"),
        (["", OPENED], f"waiting for {FIRST_CALL}"),
        (
            ["a session actor, which needs 1 CPU: 0 of the 2 CPUs of the cluster are free"],
            "waiting for a session actor, which needs 1 CPU: 0 of the 2 CPUs of the cluster are free",
        ),
        (["", sent(988.0)], "waiting for openai/gpt-5, since 12s"),
        (["never cleared", sent(900.0)], "waiting for openai/gpt-5, since 1:40"),
        (
            ["", sent(988.0, (1,)), sent(990.0, (2,))],
            "waiting for 2 calls of openai/gpt-5, the oldest since 12s",
        ),
        (
            ["", sent(988.0, (1,)), sent(990.0, (2,)), sent(995.0, (3,), model="small")],
            "waiting for 2 calls of openai/gpt-5 and 1 of other models, the oldest since 12s",
        ),
        (["", sent(988.0), ended(990.0)], "waiting for the model's code, which runs since 10s"),
        (["", sent(988.0), ended(990.0), CellEnded(995.0, (), 1, 991.0)], f"waiting for {NEXT_STEP}"),
        (["", sent(988.0), ended(990.0, error_kind="QuotaError")], f"waiting for {NEXT_STEP}"),
        (
            ["", RunStatus(0, {"rate": 12}, wait_s={"rate": 23.0})],
            f"12 calls wait for the rate limit of the account, the next goes at {AT_23} (in 23s)",
        ),
        (
            ["", RunStatus(0, {"pause": 1}, wait_s={"pause": 23.0})],
            f"1 call waits for the pause that the provider asked for, the next goes at {AT_23} (in 23s)",
        ),
        (["", RunStatus(0, {"rate": 1})], "1 call waits for the rate limit of the account"),
        (
            ["", sent(988.0), RunStatus(1, {"window": 3})],
            "waiting for openai/gpt-5, since 12s; 3 calls wait for a free place among the calls under way",
        ),
        (
            ["", RunStatus(0, {"budget": 2})],
            "2 calls wait for the budget: what is under way may use up the rest",
        ),
        (["", RunStatus(0, {"something new": 2, "rate": 0})], "2 calls wait for something new"),
        (
            ["", sent(988.0), RunStatus(0)],
            "waiting for another try of openai/gpt-5: the last one failed; asked since 12s",
        ),
        (["", sent(999.0), RunStatus(0)], "waiting for openai/gpt-5, since 1s"),
        ([sent(988.0), RunFinished(999.0, "answered")], ""),
    ],
)
def test_what_is_waited_for_is_named_with_its_reason(heard, said):
    assert tracker(*heard).text(NOW) == said


def test_code_that_has_its_answers_runs_since_then():
    waits = tracker("", sent(900.0), ended(910.0), sent(911.0, (0,), role="leaf"))
    assert waits.text(NOW) == "waiting for openai/gpt-5, since 1:29"
    waits.add(ended(990.0, (0,), role="leaf"))
    waits.add(MapEnded(991.0, (), 0, 1, 0))
    assert waits.text(NOW) == "waiting for the model's code, which runs since 9s"
    waits.add(CellEnded(995.0, (), 1, 910.0))
    waits.add(MapEnded(996.0, (), 0, 1, 0))
    assert waits.text(NOW) == f"waiting for {NEXT_STEP}"


def test_a_moment_that_is_over_is_not_promised():
    waits = tracker("", RunStatus(0, {"rate": 1}, wait_s={"rate": 5.0}))
    assert waits.text(NOW + 6) == "1 call waits for the rate limit of the account"


def test_calls_below_a_session_that_was_ended_are_waited_for_no_longer():
    waits = tracker("", sent(988.0, (1, 4)), sent(990.0, (2,)), ended(991.0, (1,)))
    waits.add(SessionEnded(995.0, (1,), "time_s"))
    assert waits.text(NOW) == "waiting for openai/gpt-5, since 10s"


def test_a_run_that_goes_on_is_waited_for_again():
    waits = tracker(RunFinished(9.0, "time_s"))
    waits.add(RunStarted(10.0, "id", "Who?", {}, InputSummary(), "0.1", life=2))
    assert waits.text(NOW) == f"waiting for {LOADING}"


def test_text_of_a_cluster_and_a_model_is_one_line_without_what_a_terminal_obeys():
    said = tracker("Ray\x1b[2J\nof the driver\x07").text(NOW)
    assert said == "waiting for Ray\\u001b[2J of the driver\\u0007"
    assert tracker("", sent(990.0, model="m\x1b]52;c;x\x07\n")).text(NOW).isprintable()


def test_the_view_of_a_run_tells_it_too():
    live_state = LiveRunState(began=NOW)
    live_state.waits_for("Ray: it starts on this machine")
    assert live_state.view(NOW).waits_for == "waiting for Ray: it starts on this machine"
    live_state.waits_for("")
    live_state.add(OPENED)
    live_state.add(sent(990.0))
    assert live_state.view(NOW).waits_for == "waiting for openai/gpt-5, since 10s"
