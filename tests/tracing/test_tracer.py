"""The spans of a run form the tree of its sessions, in whatever order the records come."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from run_records import (
    BEGIN,
    CELL,
    CHAT,
    MODEL,
    RUN,
    SESSION,
    Child,
    Leaf,
    Played,
    children,
    expected,
    facts,
    in_memory,
    named,
    spans_of,
)

from rlm_ray.config import Tracing
from rlm_ray.core.context import InputSummary
from rlm_ray.core.llm import Usage
from rlm_ray.events.records import (
    CallEnded,
    CallSent,
    CellEnded,
    MapEnded,
    MapOpened,
    RunFinished,
    RunStarted,
    SessionEnded,
    SessionOpened,
)
from rlm_ray.tracing.reorder_buffer import REORDER_WINDOW_S
from rlm_ray.tracing.spans import parent_context
from rlm_ray.tracing.tracer import Tracer

TREE = Child(((Leaf(), Leaf(fails=True), Child(((Leaf(),),), dies=True)), ()))


def one_tree(spans):
    """One root, and every parent is there."""
    ids = {span.context.span_id for span in spans}
    roots = [span for span in spans if span.parent is None]
    return len(roots) == 1 and all(span.parent is None or span.parent.span_id in ids for span in spans)


def test_a_run_becomes_the_tree_of_its_sessions():
    played = Played().run(TREE)
    spans = spans_of(played.records)
    assert facts(spans) == expected(played)
    assert {span.name for span in spans} == {RUN, SESSION, CHAT, CELL, "recursive_map"}


@given(children(), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=60)
def test_any_order_of_arrival_gives_the_same_tree(root, random):
    played = Played().run(root)
    arrived = played.records + random.sample(played.records, len(played.records) // 3)
    random.shuffle(arrived)
    assert facts(spans_of(arrived)) == expected(played)


@given(children(), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=30)
def test_records_of_a_long_run_that_come_a_little_late_are_in_their_place(root, random):
    played = Played(step_s=0.9).run(root)
    arrived = sorted(played.records, key=lambda record: record.at + random.uniform(0, REORDER_WINDOW_S))
    assert facts(spans_of(arrived)) == expected(played)


@given(children(), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=60)
def test_whatever_is_missing_or_late_there_is_one_tree_and_no_call_is_lost(root, random):
    played = Played(step_s=3.0).run(root)
    arrived = [
        record
        for record in played.records
        if isinstance(record, CallEnded | CellEnded) or random.random() < 0.6
    ]
    random.shuffle(arrived)
    spans = spans_of(arrived)
    assert one_tree(spans)
    ends = {int(record.at * 1e9) for record in arrived if isinstance(record, CallEnded | CellEnded)}
    assert ends <= {span.end_time for span in spans if span.name in {CHAT, CELL}}


def test_nothing_heard_makes_no_span():
    assert spans_of([]) == ()


def test_what_runs_below_a_session_whose_actor_died_ends_with_it_as_an_error():
    at = BEGIN
    lost = at + 0.5
    records = [
        RunStarted(at, "run-1", "", {}, InputSummary(), "1"),
        SessionOpened(at + 0.1, (), "", InputSummary(), MODEL, "a"),
        MapOpened(at + 0.2, (), 1, 0, 2, 1),
        SessionOpened(at + 0.3, (0,), "", InputSummary(), MODEL, "b"),
        CallSent(at + 0.35, (0,), 1, "turn", MODEL, "k"),
        CallSent(at + 0.36, (1,), 1, "leaf", MODEL, "k"),
        SessionEnded(lost, (), "lost", "its actor died", error_kind="ClusterError"),
        SessionOpened(at + 0.6, (), "", InputSummary(), MODEL, "c", attempt=2),
        SessionOpened(at + 0.7, (0,), "", InputSummary(), MODEL, "d"),
        SessionEnded(at + 0.8, (0,), "answered"),
        SessionEnded(at + 0.9, (), "answered", attempt=2),
    ]
    spans = spans_of(records)
    by_start = sorted(named(spans, SESSION), key=lambda span: span.start_time)
    dead_root, dead_child, root, child = by_start
    below = [dead_child, *named(spans, "recursive_map"), *named(spans, CHAT)]
    assert all(span.status.status_code.name == "ERROR" for span in [dead_root, *below])
    assert {span.end_time for span in [dead_root, *below]} == {int(lost * 1e9)}
    assert {span.attributes["error.type"] for span in below} == {"lost"}
    assert child.parent.span_id == root.context.span_id
    assert root.status.status_code.name == child.status.status_code.name == "UNSET"
    assert [span.attributes["rlm.attempt"] for span in by_start] == [1, 1, 2, 1]


def test_a_reply_that_comes_after_its_session_was_lost_is_no_error():
    at = BEGIN
    records = [
        RunStarted(at, "run-1", "", {}, InputSummary(), "1"),
        SessionOpened(at + 0.1, (), "", InputSummary(), MODEL, "a"),
        CallSent(at + 0.2, (), 1, "turn", MODEL, "k"),
        SessionEnded(at + 0.3, (), "lost", error_kind="ClusterError"),
        CallEnded(at + 0.4, (), 1, "turn", MODEL, "k", at + 0.2, "openai"),
    ]
    (call,) = named(spans_of(records), CHAT)
    assert call.status.status_code.name == "UNSET"
    assert call.end_time == int((at + 0.4) * 1e9)


def test_a_call_sent_again_for_its_actor_died_is_two_spans():
    at = BEGIN
    records = [
        RunStarted(at, "run-1", "", {}, InputSummary(), "1"),
        SessionOpened(at + 0.1, (), "", InputSummary(), MODEL, "a"),
        MapOpened(at + 0.2, (), 1, 0, 1, 0),
        CallSent(at + 0.3, (0,), 1, "leaf", MODEL, "k"),
        CallSent(at + 0.5, (0,), 1, "leaf", MODEL, "k"),
        CallEnded(at + 0.9, (0,), 1, "leaf", MODEL, "k", at + 0.4, "openai"),
        MapEnded(at + 1.0, (), 0, 1, 0),
    ]
    spans = spans_of(records)
    lost, answered = sorted(named(spans, CHAT), key=lambda span: span.start_time)
    (around,) = named(spans, "recursive_map")
    assert lost.attributes["error.type"] == "lost"
    assert answered.status.status_code.name == "UNSET"
    assert {lost.parent.span_id, answered.parent.span_id} == {around.context.span_id}
    assert (around.attributes["rlm.map.calls"], around.attributes["rlm.map.errors"]) == (2, 1)


def test_a_leaf_that_outlives_its_session_s_first_actor_stays_with_the_first_map():
    at = BEGIN
    records = [
        RunStarted(at, "run-1", "", {}, InputSummary(), "1"),
        SessionOpened(at + 0.1, (), "", InputSummary(), MODEL, "a"),
        MapOpened(at + 0.2, (), 1, 0, 1, 0),
        SessionEnded(at + 0.4, (), "lost", error_kind="ClusterError"),
        SessionOpened(at + 0.5, (), "", InputSummary(), MODEL, "b", attempt=2),
        MapOpened(at + 0.6, (), 1, 0, 1, 0),
        CallEnded(at + 0.8, (0,), 1, "leaf", MODEL, "k", at + 0.3, "openai"),
        CallEnded(at + 0.9, (0,), 1, "leaf", MODEL, "k", at + 0.7, "openai"),
    ]
    spans = spans_of(records)
    maps = {span.context.span_id: span.start_time for span in named(spans, "recursive_map")}
    below = sorted((call.start_time, maps[call.parent.span_id]) for call in named(spans, CHAT))
    assert below == [
        (int((at + 0.3) * 1e9), int((at + 0.2) * 1e9)),
        (int((at + 0.7) * 1e9), int((at + 0.6) * 1e9)),
    ]


def test_what_is_still_open_at_the_end_ends_as_an_error():
    records = Played().run(TREE).records
    cut_short = records[: len(records) // 2]
    spans = spans_of(cut_short)
    (run,) = named(spans, RUN)
    assert one_tree(spans)
    assert run.attributes["error.type"] == "not_finished"
    assert run.end_time == int(cut_short[-1].at * 1e9)


def test_a_leaf_on_a_machine_with_another_clock_stays_below_its_map():
    for skew in (-0.4, 0.4):
        played = Played(step_s=0.01).run(Child(((Leaf(), Leaf()),)))
        records = [
            replace(
                record,
                at=record.at + skew,
                **({"started": record.started + skew} if isinstance(record, CallEnded) else {}),
            )
            if isinstance(record, CallEnded | CallSent) and record.role == "leaf"
            else record
            for record in played.records
        ]
        spans = spans_of(records)
        (around,) = named(spans, "recursive_map")
        below = [
            span
            for span in spans
            if span.parent is not None and span.parent.span_id == around.context.span_id
        ]
        assert len(below) == around.attributes["rlm.map.calls"] == 2


def test_sub_calls_without_a_map_go_below_their_session():
    played = Played().run(Child(((Leaf(), Child(((),))),)))
    records = [record for record in played.records if not isinstance(record, MapOpened | MapEnded)]
    spans = spans_of(records)
    root = min(named(spans, SESSION), key=lambda span: span.start_time)
    below = [
        span.name for span in spans if span.parent is not None and span.parent.span_id == root.context.span_id
    ]
    assert sorted(below) == sorted([CHAT, CHAT, CELL, SESSION])


def test_a_session_whose_beginning_never_came_is_made_from_what_did():
    played = Played().run(Child(((Child(((Leaf(),),)),),)))
    records = [r for r in played.records if not (isinstance(r, SessionOpened) and r.path == (0,))]
    spans = spans_of(records)
    (made,) = [span for span in named(spans, SESSION) if span.attributes.get("rlm.incomplete")]
    assert one_tree(spans)
    assert made.attributes["rlm.path"] == "0"
    assert len(spans) == len(played.spans)


def test_a_run_taken_up_again_closes_what_its_last_attempt_left_open():
    at = BEGIN
    records = [
        RunStarted(at, "run-1", "", {}, InputSummary(), "1"),
        SessionOpened(at + 1, (), "", InputSummary(), MODEL, "a"),
        CallSent(at + 2, (), 1, "turn", MODEL, "k"),
        RunStarted(at + 100, "run-1", "", {}, InputSummary(), "1", life=2),
        SessionOpened(at + 101, (), "", InputSummary(), MODEL, "b"),
        SessionEnded(at + 102, (), "answered"),
    ]
    spans = spans_of(records)
    old, new = sorted(named(spans, SESSION), key=lambda span: span.start_time)
    (run,) = named(spans, RUN)
    assert (old.attributes["error.type"], old.end_time) == ("not_finished", int((at + 2) * 1e9))
    assert new.status.status_code.name == "UNSET"
    assert [(event.name, dict(event.attributes)) for event in run.events] == [
        ("rlm.resumed", {"rlm.life": 2})
    ]
    assert (run.end_time, run.attributes["error.type"]) == (int((at + 102) * 1e9), "not_finished")


def test_the_end_of_a_run_is_that_of_its_last_attempt():
    at = BEGIN
    first = [
        RunStarted(at, "run-1", "", {}, InputSummary(), "1"),
        RunFinished(at + 1, "error", error_kind="QuotaError"),
    ]
    again = RunStarted(at + 100, "run-1", "", {}, InputSummary(), "1", life=2)
    ended = {
        "first": (first, at + 1, "QuotaError"),
        "broken off": ([*first, again], at + 100, "not_finished"),
        "second": ([*first, again, RunFinished(at + 101, "answered")], at + 101, None),
    }
    for records, end, kind in ended.values():
        (run,) = named(spans_of(records), RUN)
        assert (run.end_time, run.attributes.get("error.type")) == (int(end * 1e9), kind)


def opened(at, path=(), number=1):
    return SessionOpened(at, path, "", InputSummary(), MODEL, "a", attempt=number)


def sent(at, path=(), number=1, role="turn"):
    return CallSent(at, path, number, role, MODEL, "k")


def ended(at, started, path=(), number=1, role="turn", **facts):
    return CallEnded(at, path, number, role, MODEL, "k", started, "openai", **facts)


def test_a_run_whose_beginning_never_came_begins_with_its_first_record():
    spans = spans_of([opened(BEGIN + 1), ended(BEGIN + 3, BEGIN + 2)])
    (run,), (call,) = named(spans, RUN), named(spans, CHAT)
    assert (run.start_time, run.end_time) == (int((BEGIN + 1) * 1e9), int((BEGIN + 3) * 1e9))
    assert run.attributes["gen_ai.conversation.id"] == "run-1"
    assert call.context.trace_id == run.context.trace_id


def test_an_orphan_goes_below_the_nearest_session_that_is_known_and_into_no_map_of_it():
    spans = spans_of(
        [
            RunStarted(BEGIN, "run-1", "", {}, InputSummary(), "1"),
            opened(BEGIN + 1),
            MapOpened(BEGIN + 1.5, (), 1, 0, 5, 5),
            ended(BEGIN + 4, BEGIN + 3, (0, 3)),
            SessionEnded(BEGIN + 5, (0, 3), "answered", attempt=2),
            SessionEnded(BEGIN + 6, (), "answered"),
        ]
    )
    root, orphan = sorted(named(spans, SESSION), key=lambda span: span.start_time)
    (call,) = named(spans, CHAT)
    assert orphan.parent.span_id == root.context.span_id
    assert call.parent.span_id == orphan.context.span_id
    assert (orphan.start_time, orphan.end_time) == (int((BEGIN + 3) * 1e9), int((BEGIN + 5) * 1e9))
    assert (orphan.attributes["rlm.attempt"], orphan.attributes["rlm.incomplete"]) == (2, True)


def test_orphans_above_are_made_before_those_below_them():
    spans = spans_of(
        [
            RunStarted(BEGIN, "run-1", "", {}, InputSummary(), "1"),
            *(ended(BEGIN + 4 + n, BEGIN + 3 + n, path) for n, path in enumerate([(0, 1), (2,), (0,), ()])),
        ]
    )
    by_path = {span.attributes["rlm.path"]: span for span in named(spans, SESSION)}
    ids = {span.context.span_id: path for path, span in by_path.items()}
    assert {path: ids.get(span.parent.span_id, "run") for path, span in by_path.items()} == {
        "": "run", "0": "", "2": "", "0/1": "0",
    }  # fmt: skip
    assert {span.attributes["rlm.attempt"] for span in by_path.values()} == {1}


@pytest.mark.parametrize(
    ("sent_at", "started", "at", "is_lost"),
    [(2.0, 1.5, 3.0, False), (2.0, 2.0, 3.0, False), (3.0, 2.0, 3.0, False), (2.0, 2.5, 3.0, True), (3.5, 2.0, 3.0, True)],
)  # fmt: skip
def test_a_request_has_ended_with_the_call_in_whose_time_it_was_sent(sent_at, started, at, is_lost):
    records = [
        RunStarted(BEGIN, "run-1", "", {}, InputSummary(), "1"),
        opened(BEGIN + 1),
        sent(BEGIN + sent_at),
        ended(BEGIN + at, BEGIN + started),
        SessionEnded(BEGIN + 5, (), "answered"),
    ]
    calls = named(spans_of(records), CHAT)
    lost = [span for span in calls if span.attributes.get("error.type") == "not_finished"]
    assert (len(calls), len(lost)) == (1 + is_lost, is_lost)
    assert {span.end_time for span in lost} <= {int((BEGIN + 5) * 1e9)}


def test_a_map_whose_beginning_never_came_has_what_its_end_says():
    spans = spans_of(
        [
            RunStarted(BEGIN, "run-1", "", {}, InputSummary(), "1"),
            opened(BEGIN + 1),
            ended(BEGIN + 3, BEGIN + 2, (4,), role="leaf"),
            MapEnded(BEGIN + 4, (), 4, 2, 1),
            SessionEnded(BEGIN + 5, (), "answered"),
        ]
    )
    (around,), (call,), (session,) = named(spans, "recursive_map"), named(spans, CHAT), named(spans, SESSION)
    said = around.attributes
    assert (around.start_time, around.end_time) == (int((BEGIN + 4) * 1e9),) * 2
    assert [said[f"rlm.map.{name}"] for name in ("first", "count", "answered", "failed")] == [4, 3, 2, 1]
    assert around.status.status_code.name == "UNSET"
    assert around.parent.span_id == call.parent.span_id == session.context.span_id


def test_maps_of_one_session_end_each_with_its_own_end():
    spans = spans_of(
        [
            RunStarted(BEGIN, "run-1", "", {}, InputSummary(), "1"),
            opened(BEGIN + 1),
            *(MapOpened(BEGIN + 2 + n, (), 1, n, 1, 1) for n in range(3)),
            MapEnded(BEGIN + 6, (), 1, 1, 0),
            MapEnded(BEGIN + 7, (), 0, 0, 1),
            SessionEnded(BEGIN + 9, (), "answered"),
        ]
    )
    maps = sorted(named(spans, "recursive_map"), key=lambda span: span.start_time)
    assert [span.end_time for span in maps] == [int((BEGIN + end) * 1e9) for end in (7, 6, 9)]
    assert [span.attributes.get("rlm.map.failed") for span in maps] == [1, 0, None]
    assert [span.attributes.get("error.type") for span in maps] == [None, None, "not_finished"]


def test_the_sums_of_a_linked_trace_are_those_of_all_calls_in_it():
    used = {"usage": Usage(10, 2), "cost_usd": 0.5}
    spans = spans_of(
        [
            RunStarted(BEGIN, "run-1", "", {}, InputSummary(), "1"),
            opened(BEGIN + 1),
            ended(BEGIN + 2, BEGIN + 1.5, **used),
            MapOpened(BEGIN + 2, (), 1, 0, 1, 1),
            opened(BEGIN + 3, (0,)),
            ended(BEGIN + 4, BEGIN + 3, (0,), **used),
            MapOpened(BEGIN + 4, (0,), 1, 0, 1, 0),
            ended(BEGIN + 5, BEGIN + 4, (0, 0), role="leaf", **used),
            ended(
                BEGIN + 5, BEGIN + 4, (0, 7), role="leaf", error_kind="QuotaError", **used
            ),  # of no known map
            sent(BEGIN + 6, (0,), 2),
            SessionEnded(BEGIN + 7, (0,), "answered"),
        ],
        options=Tracing(max_sessions_per_trace=1),
    )
    (part,) = named(spans, "part 1")
    names = ("calls", "errors", "input_tokens", "output_tokens", "cost_usd", "sessions")
    assert [part.attributes[f"rlm.total.{name}"] for name in names] == [4, 2, 30, 6, 1.5, 1]
    assert part.end_time == int((BEGIN + 7) * 1e9)


def test_a_run_below_a_span_of_its_caller_has_no_link_to_it():
    kept, provider = in_memory()
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    tracer = Tracer(provider, "run-1", parent=parent_context(parent))
    assert tracer.trace_id == ""
    tracer.add(RunStarted(BEGIN, "run-1", "", {}, InputSummary(), "1", traceparent=parent))
    tracer.finish(RunFinished(BEGIN + 1, "answered"))
    (run,) = kept.get_finished_spans()
    assert (run.links, run.end_time, run.status.status_code.name) == ((), int((BEGIN + 1) * 1e9), "UNSET")
    assert f"{run.parent.span_id:016x}" == "b7ad6b7169203331"


def test_a_tracer_does_not_wait_for_the_end_to_make_spans():
    records = Played(step_s=1.0).run(TREE).records
    kept, provider = in_memory()
    tracer = Tracer(provider, "run-1")
    tracer.add(records[0])
    assert tracer.trace_id
    for record in records[1:]:
        tracer.add(record)
    before = kept.get_finished_spans()
    assert named(before, CHAT)
    assert named(before, "recursive_map")
    tracer.finish()
    assert len(kept.get_finished_spans()) > len(before)
    assert {f"{span.context.trace_id:032x}" for span in kept.get_finished_spans()} == {tracer.trace_id}


def test_a_second_finish_changes_nothing():
    kept, provider = in_memory()
    tracer = Tracer(provider, "run-1")
    for record in Played().run(TREE).records[:-1]:
        tracer.add(record)
    tracer.finish()
    before = kept.get_finished_spans()
    tracer.finish()
    assert kept.get_finished_spans() == before
