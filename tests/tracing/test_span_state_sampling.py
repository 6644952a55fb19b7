"""Wide maps are sampled and many sessions are spread over linked traces; nothing goes uncounted."""

import math
import random
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from run_records import BEGIN, CHAT, MODEL, RUN, SESSION, Child, Leaf, Played, named, spans_of

from rlm_ray.config import Tracing
from rlm_ray.core.context import InputSummary
from rlm_ray.core.llm import Usage
from rlm_ray.events.records import (
    CallEnded,
    MapEnded,
    MapOpened,
    RunFinished,
    RunStarted,
    SessionEnded,
    SessionOpened,
)
from rlm_ray.tracing.span_state import CallSampler


def leaf(ordinal, *, seconds=1.0, cost=0.0, error=""):
    return CallEnded(
        BEGIN + 1 + seconds, (ordinal,), 1, "leaf", MODEL, "k", BEGIN + 1, "openai",
        usage=Usage(10, 2), cost_usd=cost, error_kind=error,
    )  # fmt: skip


def wide(leaves):
    count = len(leaves)
    return [
        RunStarted(BEGIN, "run-1", "", {}, InputSummary(), "1"),
        SessionOpened(BEGIN, (), "", InputSummary(), MODEL, "a"),
        MapOpened(BEGIN + 1, (), 1, 0, count, 0),
        *leaves,
        MapEnded(BEGIN + 4, (), 0, count, 0),
        SessionEnded(BEGIN + 4, (), "answered"),
        RunFinished(BEGIN + 4, "answered"),
    ]


def test_a_wide_map_keeps_errors_the_slowest_the_costliest_and_a_sample_and_counts_all():
    leaves = [leaf(i) for i in range(10_000)]
    leaves[17] = leaf(17, error="QuotaError")
    leaves[5_001] = leaf(5_001, seconds=2.5)
    leaves[9_999] = leaf(9_999, cost=3.0)
    random.Random(3).shuffle(leaves)
    spans = spans_of(wide(leaves), options=Tracing(max_spans_per_map=100))
    kept = {span.attributes["rlm.path"] for span in named(spans, CHAT)}
    assert len(kept) == len(named(spans, CHAT)) == 100
    assert {"17", "5001", "9999"} <= kept
    (around,) = named(spans, "recursive_map")
    said = around.attributes
    assert (said["rlm.map.count"], said["rlm.map.calls"], said["rlm.map.kept"]) == (10_000, 10_000, 100)
    assert (said["rlm.map.input_tokens"], said["rlm.map.output_tokens"]) == (100_000, 20_000)
    assert (said["rlm.map.errors"], said["rlm.map.cost_usd"]) == (1, 3.0)
    assert math.isclose(said["rlm.map.call_s_p50"], 1.0, abs_tol=1e-6)
    assert math.isclose(said["rlm.map.call_s_max"], 2.5, abs_tol=1e-6)
    numbers = sorted(int(path) for path in kept)
    assert max(later - sooner for sooner, later in pairwise(numbers)) < 1_000


def test_a_map_that_fails_everywhere_stays_within_its_bound():
    spans = spans_of(
        wide([leaf(i, error="QuotaError") for i in range(300)]), options=Tracing(max_spans_per_map=50)
    )
    assert len(named(spans, CHAT)) == 50
    assert named(spans, "recursive_map")[0].attributes["rlm.map.errors"] == 300


def test_no_leaves_are_wanted():
    spans = spans_of(wide([leaf(i) for i in range(3)]), options=Tracing(max_spans_per_map=0))
    assert named(spans, CHAT) == []
    assert named(spans, "recursive_map")[0].attributes["rlm.map.calls"] == 3


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.booleans()), max_size=60),
    st.integers(0, 20),
    st.randoms(use_true_random=False),
)
@settings(deadline=None)
def test_the_sample_does_not_depend_on_the_order_and_keeps_its_bound(facts, bound, random):
    calls = [
        leaf(i, seconds=seconds, cost=cost, error="E" if error else "")
        for i, (seconds, cost, error) in enumerate(facts)
    ]

    def chosen(order):
        sample = CallSampler(0, len(calls), bound)
        for call in order:
            sample.add(call)
        return sample.selected()

    first = chosen(calls)
    assert first == chosen(random.sample(calls, len(calls)))
    assert len(first) <= bound
    failed = [call for call in calls if call.error_kind]
    assert sum(bool(call.error_kind) for call in first) >= min(len(failed), bound)


def test_sessions_beyond_the_bound_go_into_linked_traces_of_the_same_run():
    root = Child((tuple(Child(((Leaf(),),)) for _ in range(9)),))
    played = Played().run(root)
    spans = spans_of(played.records, options=Tracing(max_sessions_per_trace=4))
    by_trace = {}
    for span in spans:
        by_trace.setdefault(span.context.trace_id, []).append(span)
    main = named(spans, RUN)[0].context.trace_id
    assert sorted(len(named(group, SESSION)) for group in by_trace.values()) == [2, 4, 4]
    for trace, group in by_trace.items():
        ids = {span.context.span_id for span in group}
        assert sum(span.parent is None for span in group) == 1
        assert all(span.parent is None or span.parent.span_id in ids for span in group)
        if trace != main:
            check_part(group, by_trace[main])
    assert {span.attributes["gen_ai.conversation.id"] for span in spans} == {"run-1"}
    assert len(named(spans, SESSION)) == 10
    assert len(named(spans, CHAT)) == len(named(played_spans(played), CHAT))


def check_part(group, main):
    (root,) = [span for span in group if span.parent is None]
    number = root.attributes["rlm.part"]
    (run,) = named(main, RUN)
    (summary,) = named(main, f"part {number}")
    assert [link.context.span_id for link in root.links] == [run.context.span_id]
    assert [link.context.span_id for link in summary.links] == [root.context.span_id]
    assert summary.attributes["rlm.total.sessions"] == len(named(group, SESSION))
    assert summary.attributes["rlm.total.calls"] == len(named(group, CHAT))
    (around,) = [
        span.context.span_id for span in named(main, "recursive_map") if span.attributes["rlm.map.count"] == 9
    ]
    children = [span for span in named(group, SESSION) if span.parent.span_id == root.context.span_id]
    assert children
    assert all([link.context.span_id for link in span.links] == [around] for span in children)


def played_spans(played):
    return spans_of(played.records)
