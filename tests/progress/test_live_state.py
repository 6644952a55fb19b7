"""What records add up to."""

import random
import sys
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_ray.admission.protocol import RunStatus
from rlm_ray.core.context import InputSummary
from rlm_ray.core.limits import Amount, Limits
from rlm_ray.core.llm import Usage
from rlm_ray.events.records import (
    CallEnded,
    CallSent,
    CellEnded,
    FailedAttempt,
    MapEnded,
    MapOpened,
    RunFinished,
    RunStarted,
    SessionEnded,
    SessionOpened,
)
from rlm_ray.events.usage import CallStats, RunUsage
from rlm_ray.progress import LimitUsage, LiveRunState


def live_state(*records, limits=None):
    made = LiveRunState(limits)
    for record in records:
        made.add(record)
    return made


def opened(path=(), at=100.0, query="Who?", **more):
    return SessionOpened(at, path, query, InputSummary(), "model", "actor", **more)


def ended(path=(), at=110.0, reason="answered", **more):
    return SessionEnded(at, path, reason, **more)


def sent(path=(), call=1, role="turn", at=101.0, **more):
    return CallSent(at, path, call, role, "model", "key", **more)


def call(path=(), call=1, role="turn", at=102.0, **more):
    return CallEnded(at, path, call, role, "model", "key", at - 1, usage=Usage(100, 10), **more)


def row(made, path=(), now=120.0):
    return {row.path: row for row in made.view(now).rows}[path]


def test_nothing_is_known_at_first_and_that_can_be_shown():
    view = LiveRunState().view(0.0)
    assert [shown.path for shown in view.rows] == [()]
    assert (view.calls, view.sessions_open, view.elapsed_s, view.ended) == (0, 0, 0.0, "")


def test_the_question_of_the_run_is_the_roots_before_it_has_a_session():
    made = live_state(RunStarted(90.0, "run", "Who\ndid \x1b[31mit?", {}, InputSummary(), "1"))
    assert row(made).query == "Who did [31mit?"
    assert made.view(95.0).elapsed_s == 5.0


@pytest.mark.parametrize(
    ("records", "doing", "turn"),
    [
        ([], "starts", 0),
        ([sent()], "asks the model", 1),
        ([sent(), call()], "runs code", 1),
        ([sent(), call(), MapOpened(103.0, (), 1, 0, 9, 0)], "waits for sub-calls", 1),
        ([sent(), call(), MapOpened(103.0, (), 1, 0, 9, 0), MapEnded(104.0, (), 0, 9, 0)], "runs code", 1),
        ([sent(), call(), CellEnded(105.0, (), 1, 102.0)], "asks the model", 1),
        ([sent(), call(), CellEnded(105.0, (), 1, 102.0), sent(call=2)], "asks the model", 2),
        ([ended(reason="cost_usd")], "cost_usd", 0),
        ([ended(reason="error", error_kind="SandboxError")], "SandboxError", 0),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_session_says_what_it_is_at(records, doing, turn):
    shown = row(live_state(opened(), *records))
    assert (shown.doing, shown.turn) == (doing, turn)


def test_two_maps_at_once_are_waited_for_until_both_are_over():
    first, second = MapOpened(1.0, (), 1, 0, 2, 0), MapOpened(1.0, (), 1, 2, 2, 0)
    made = live_state(opened(), first, second, MapEnded(2.0, (), 0, 2, 0))
    assert row(made).doing == "waits for sub-calls"
    made.add(MapEnded(2.0, (), 2, 2, 0))
    assert row(made).doing == "runs code"


def test_leaves_and_children_are_counted_where_they_were_asked_for():
    made = live_state(
        opened(),
        MapOpened(101.0, (), 1, 0, 5, 2),
        call((0,), role="leaf"),
        call((1,), role="leaf", error_kind="ModelError", why="no"),
        opened((2,)),
        ended((2,), reason="tokens"),
        opened((3,)),
        ended((3,), reason="error", error_kind="SandboxError"),
    )
    assert (row(made).sub_calls, row(made).answered, row(made).failed) == (5, 2, 2)
    view = made.view(120.0)
    assert (view.sessions, view.sessions_open, view.calls, view.failed_calls) == (3, 1, 1, 1)


def test_calls_are_added_up_and_what_was_not_paid_is_not():
    refused = (FailedAttempt(1.0, "rate_limited", ""), FailedAttempt(2.0, "server_error", ""))
    made = live_state(
        call(cost_usd=0.25, tries=refused),
        call((0,), role="leaf"),
        call((1,), role="leaf", cost_usd=0.25, cache_hit=True),
    )
    view = made.view(103.0)
    assert (view.calls, view.cache_hits, view.tokens) == (2, 1, 220)
    assert (view.cost_usd, view.unpriced, view.retries, view.refused) == (0.25, 1, 2, 1)


def test_a_record_that_comes_twice_counts_once():
    made = live_state(call(id="a"), call(id="a"), call(id="b"))
    assert made.view(103.0).calls == 2


def test_speed_is_a_mean_over_the_last_seconds():
    made = live_state(RunStarted(0.0, "run", "", {}, InputSummary(), "1"), call(at=95.0), call(at=5.0))
    assert made.view(100.0).tokens_per_s == 11.0
    assert made.view(200.0).tokens_per_s == 0.0


def test_a_session_whose_actor_died_begins_anew_with_all_below_it():
    made = live_state(
        opened(),
        opened((4,)),
        MapOpened(101.0, (4,), 1, 0, 2, 1),
        call((4, 0), role="leaf"),
        opened((4, 1)),
        ended((4,), reason="lost", error_kind="ClusterError"),
    )
    assert (row(made).failed, made.view(120.0).sessions_open) == (1, 1)
    made.add(opened((4,), at=115.0, attempt=2))
    again = row(made, (4,))
    assert (again.state, again.turn, again.sub_calls, again.answered, again.seconds) == (
        "running",
        0,
        0,
        0,
        5.0,
    )
    assert (row(made).failed, row(made).answered) == (0, 0)
    made.add(ended((4,), attempt=2))
    assert (row(made).failed, row(made).answered) == (0, 1)
    view = made.view(120.0)
    assert (view.more_running, view.hidden_finished, view.more_failed, view.sessions_open) == (0, 1, 0, 1)


def test_what_is_below_an_ended_session_does_not_go_on():
    made = live_state(opened(), opened((0,)), opened((0, 0)), ended((0,)), opened((0, 1)))
    assert made.view(120.0).sessions_open == 1


def test_the_end_of_a_run_stops_its_clock_and_a_resume_starts_it_again():
    made = live_state(
        RunStarted(0.0, "run", "", {}, InputSummary(), "1"), opened(), RunFinished(60.0, "answered")
    )
    view = made.view(500.0)
    assert (view.elapsed_s, view.ended, view.sessions_open) == (60.0, "answered", 0)
    made.add(RunStarted(600.0, "run", "", {}, InputSummary(), "1", life=2))
    assert (made.view(610.0).elapsed_s, made.view(610.0).ended) == (10.0, "")


def test_the_widest_and_slowest_have_rows_behind_their_parents_and_the_rest_is_counted():
    made = live_state(opened())
    for place in range(100):
        made.add(opened((place,), at=100.0 + place))
    made.add(MapOpened(200.0, (77,), 1, 0, 50, 0))
    made.add(opened((88, 3)))
    made.add(MapOpened(200.0, (88, 3), 1, 0, 40, 0))
    view = made.view(300.0, rows=6)
    assert [shown.path for shown in view.rows] == [(), (0,), (1,), (77,), (88,), (88, 3)]
    assert (view.more_running, view.hidden_finished, view.more_failed) == (102 - 6, 0, 0)


def test_the_last_failures_have_rows_too():
    made = live_state(opened())
    for place in range(40):
        made.add(opened((place,), at=100.0 + place))
    for place in (7, 13):
        made.add(ended((place,), reason="error", error_kind="SandboxError"))
    paths = [shown.path for shown in made.view(300.0).rows]
    assert {(7,), (13,)} < set(paths)
    assert len(paths) == 12


def test_the_admission_knows_what_waits_and_what_others_never_told():
    tally = CallStats(calls=5, input_tokens=900, retries=3, cost_usd=0.5)
    status = RunStatus(7, {"rate": 2}, RunUsage({("model", 0): tally}, sessions=4), Amount(6 * 10**8))
    made = live_state(call(cost_usd=0.1), limits=Limits(cost_usd=1.0, calls=1_000))
    made.status(status, 0.0)
    view = made.view(103.0)
    assert (view.in_flight, view.waiting, view.calls, view.tokens, view.retries) == (
        7,
        {"rate": 2},
        5,
        900,
        3,
    )
    assert (view.cost_usd, view.sessions) == (0.5, 4)
    assert view.gauge == LimitUsage("cost_usd", 0.6, 1.0)


def test_without_the_admission_what_was_sent_and_not_answered_is_in_flight():
    assert (
        live_state(sent((0,), role="leaf"), sent((1,), role="leaf"), call((0,), role="leaf"))
        .view(0.0)
        .in_flight
        == 1
    )


def test_the_admission_also_knows_the_limits():
    made = live_state(call())
    made.status(RunStatus(limits=Limits(calls=10)), 0.0)
    assert made.view(103.0).gauge == LimitUsage("calls", 1, 10)


def test_its_clock_starts_when_it_was_asked_for():
    made = LiveRunState(began=90.0)
    assert made.view(95.0).elapsed_s == 5.0
    made.add(RunStarted(94.0, "run", "", {}, InputSummary(), "1"))
    assert made.view(95.0).elapsed_s == 5.0


def test_the_limit_that_is_nearest_to_its_end_is_the_one_to_show():
    made = live_state(call(), limits=Limits(tokens=200, calls=100))
    assert made.view(103.0).gauge == LimitUsage("tokens", 110, 200)
    assert live_state().view(0.0).gauge is None


@st.composite
def trees(draw):
    """The records of a whole run: sessions, leaves and their ends."""
    records, paths = [RunStarted(0.0, "run", "Who?", {}, InputSummary(), "1"), opened()], [()]
    for number, _ in enumerate(range(draw(st.integers(0, 25)))):
        parent = draw(st.sampled_from(paths))
        path = (*parent, number)
        failed = {"error_kind": "Error"} if draw(st.booleans()) else {}
        records.append(MapOpened(1.0, parent, 1, number, 1, 0, id=f"map{number}"))
        if draw(st.booleans()):
            records += [opened(path, id=f"open{number}"), ended(path, id=f"end{number}", **failed)]
            paths.append(path)
        else:
            records.append(call(path, role="leaf", id=f"call{number}", **failed))
    return [*records, ended(at=130.0, id="end")]


@given(trees(), st.randoms(use_true_random=False))
def test_any_order_adds_up_to_the_same(records, chance):
    shuffled = [*records, *records[2:]]
    chance.shuffle(shuffled)
    straight, mixed = live_state(*records), live_state(*shuffled)
    one, other = straight.view(200.0, 100), mixed.view(200.0, 100)
    assert one.rows[0] == other.rows[0]
    assert (one.calls, one.failed_calls, one.tokens) == (other.calls, other.failed_calls, other.tokens)
    assert one.sessions_open == other.sessions_open == 0
    assert _over(one) == _over(other)


def _over(view):
    return view.hidden_finished + sum(1 for shown in view.rows if shown.state != "running")


@contextmanager
def counted_calls():
    """Count the calls of functions within the block: their time depends on the machine."""
    count = [0]

    def note(_, event, __):
        count[0] += event == "call"

    sys.setprofile(note)
    try:
        yield count
    finally:
        sys.setprofile(None)


def test_the_work_for_a_record_and_for_a_session_in_a_view_does_not_grow_with_their_number():
    taken_in, drawn = [], []
    for places in (100, 1_000):
        records = [opened()]
        for place in range(places):
            records += [
                opened((place,), id=f"o{place}"),
                MapOpened(1.0, (place,), 1, 0, 25, 0, id=f"m{place}"),
            ]
            records += [call((place, leaf), role="leaf", id=f"{place}.{leaf}") for leaf in range(25)]
            records += [sent((place, leaf), role="leaf", id=f"s{place}.{leaf}") for leaf in range(23)]
        random.Random(1).shuffle(records)
        with counted_calls() as calls:
            made = live_state(*records)
        taken_in.append(calls[0] / len(records))
        with counted_calls() as calls:
            view = made.view(1_000.0)
        drawn.append(calls[0] / view.sessions_open)
        assert (view.calls, view.sessions_open) == (25 * places, places + 1)
    assert taken_in[1] < 1.2 * taken_in[0]
    assert drawn[1] < 1.2 * drawn[0]
