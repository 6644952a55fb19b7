"""What the page of a run is made of: sums, coverage, columns, bounded texts, times without pauses."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_ray.core.context import InputSummary
from rlm_ray.core.llm import Usage
from rlm_ray.core.repl_types import Citation
from rlm_ray.events.records import (
    CallEnded,
    CallSent,
    CellEnded,
    MapOpened,
    RunFinished,
    RunStarted,
    SessionEnded,
    SessionOpened,
    ToolEnded,
    without_content,
)
from rlm_ray.events.usage import CallStats
from rlm_ray.report.page_data import (
    StringTable,
    build_page_data,
    columnar,
    coverage_of,
    covered,
    diff_words,
    merged,
    totals_of,
    truncation_length,
    usage_of,
    waits_of,
)
from rlm_ray.report.run_data import RunClock, run_data_from_records
from rlm_ray.testing.sample_run import example_run

RECORDS = example_run(200)
OPENED = RunStarted(100.0, "r", "why?", {"model": "m"}, InputSummary("text", 1000, 1, 0, 1000), "1")


def leaf(path, start, stop, **more):
    given = InputSummary("text", stop - start, 1, start, stop)
    return CallEnded(109.0, path, 1, "leaf", "m", "k", 105.0, input=given, query="q", **more)


def texts_of(data, name):
    column = data["nodes"][name]
    places = column if isinstance(column, list | tuple) else [column] * data["nodes"]["n"]
    return [data["texts"][place] for place in places]


def test_totals_are_the_sums_of_the_calls_in_the_records():
    calls = [record for record in RECORDS if isinstance(record, CallEnded)]
    total = usage_of(run_data_from_records(RECORDS)).total
    assert total.calls == sum(not call.error_kind for call in calls)
    assert total.tokens == sum(call.usage.tokens for call in calls)
    assert total.cost_usd == pytest.approx(sum(call.cost_usd or 0 for call in calls))
    assert total.retries == sum(len(call.tries) for call in calls)
    assert total.rate_wait_s == pytest.approx(sum(call.rate_wait_s for call in calls))


@pytest.mark.parametrize("by", ["by_model", "by_depth"])
def test_totals_by_model_and_by_depth_add_up_to_the_whole(by):
    usage = usage_of(run_data_from_records(RECORDS))
    parts = sum(getattr(usage, by).values(), CallStats())
    assert parts.tokens == usage.total.tokens
    assert parts.cost_usd == pytest.approx(usage.total.cost_usd)


def test_a_record_written_twice_counts_once():
    assert totals_of(run_data_from_records([*RECORDS, *RECORDS])) == totals_of(run_data_from_records(RECORDS))


def test_an_answer_out_of_the_cache_counts_as_a_hit_and_costs_nothing():
    paid = leaf((0,), 0, 10, usage=Usage(100, 10), cost_usd=1.0)
    hit = replace(paid, path=(1,), cache_hit=True)
    totals = totals_of(run_data_from_records([OPENED, paid, hit]))
    assert (totals["cache_hits"], totals["total"]["calls"], totals["total"]["cost_usd"]) == (1, 1, 1.0)


def test_what_a_lost_attempt_spent_is_counted_and_marked_as_old():
    first = CallEnded(103.0, (0,), 1, "turn", "m", "k", 102.0, usage=Usage(5, 5), id="a")
    records = [
        OPENED,
        SessionOpened(101.0, (0,), "q", InputSummary(), "m", "one"),
        first,
        SessionEnded(104.0, (0,), "lost", "its actor died", error_kind="ClusterError"),
        SessionOpened(105.0, (0,), "q", InputSummary(), "m", "two", attempt=2),
        replace(first, at=107.0, started=106.0, id="b"),
        SessionEnded(108.0, (0,), "answered", answer="yes", attempt=2),
    ]
    data = build_page_data(run_data_from_records(records))
    assert data["totals"]["total"]["input_tokens"] == 10
    assert list(data["calls"]["old"]) == [1, 0]
    assert data["totals"]["lost_sessions"] == 1
    assert texts_of(data, "state") == ["unfinished", "ok"]
    assert data["attempts"]["n"] == 2


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)).map(lambda r: (r[0], r[0] + r[1]))))
def test_merged_ranges_hold_the_same_bytes_apart_and_in_order(ranges):
    found = merged(ranges)
    assert {byte for r in found for byte in range(*r)} == {byte for r in ranges for byte in range(*r)}
    assert all(before[1] < after[0] for before, after in pairwise(found))
    assert covered(ranges) == len({byte for r in ranges for byte in range(*r)})


def test_coverage_counts_bytes_once_and_as_read_only_where_a_plain_call_answered():
    calls = [leaf((0,), 0, 300), leaf((1,), 200, 400), leaf((2,), 900, 1000, error_kind="ModelError")]
    found = coverage_of(run_data_from_records([OPENED, *calls]))
    assert (found.total, found.given, found.read, found.by_depth) == (1000, 500, 400, {1: 500})


def call(path, started, at, queue=0.0, rate=0.0, **more):
    return CallEnded(at, path, 1, "leaf", "m", "k", started, queue_wait_s=queue, rate_wait_s=rate, **more)


def side_by_side(count, queue):
    return [call((at,), 100.0, 101.0 + queue, queue) for at in range(count)]


WAITS = [
    ("one after another", [call((0,), 100, 103, 2), call((1,), 103, 106, 2)], "queue", (4, 4, 2)),
    ("side by side", side_by_side(1_000, 100.0), "queue", (100, 100_000, 1_000)),
    ("overlapping", [call((0,), 100, 110, 4), call((1,), 102, 110, 4)], "queue", (6, 8, 2)),
    ("the rate after the queue", [call((0,), 100, 110, 4, 3)], "rate", (3, 3, 1)),
    ("two kinds at a time", [call((0,), 100, 110, 4), call((1,), 100, 110, 0, 4)], "rate", (4, 4, 1)),
    ("the model after both", [call((0,), 100, 110, 4, 3)], "model", (3, 3, 1)),
    ("more than the call took", [call((0,), 100, 105, 60, 60)], "queue", (5, 5, 1)),
    ("more than the call took, then", [call((0,), 100, 105, 60, 60)], "rate", (0, 0, 0)),
    ("none", [call((0,), 100, 105)], "queue", (0, 0, 0)),
    ("out of the cache", [call((0,), 100, 105, 4, cache_hit=True)], "queue", (0, 0, 0)),
    ("negative", [call((0,), 100, 105, -4, -3)], "model", (5, 5, 1)),
    ("a failed call", [call((0,), 100, 105, 4, error_kind="ModelError")], "queue", (4, 4, 1)),
]


@pytest.mark.parametrize(
    ("calls", "kind", "expected"), [row[1:] for row in WAITS], ids=[row[0] for row in WAITS]
)
def test_waits_are_told_as_time_on_the_clock_and_summed_over_calls(calls, kind, expected):
    assert tuple(waits_of(run_data_from_records([OPENED, *calls]))[kind].values()) == expected


WAITING = st.tuples(st.floats(100, 200), st.floats(0, 50), st.floats(0, 500), st.floats(0, 500))


@given(st.lists(WAITING, max_size=20))
def test_no_wait_on_the_clock_is_longer_than_the_run_nor_than_its_sum(calls):
    records = [call((at,), begun, begun + took, *waits) for at, (begun, took, *waits) in enumerate(calls)]
    facts = run_data_from_records([OPENED, *records])
    for wait in waits_of(facts).values():
        assert wait["clock"] <= min(facts.clock.last, wait["sum"]) + 1e-3


def session(path, at, **more):
    return SessionOpened(at, path, "q", InputSummary(), "m", "a", **more)


def test_sessions_wait_for_a_slot_since_their_run_or_their_map_began():
    mapped = MapOpened(110.0, (), 1, 0, 3, 2, "q")
    children = [session((0,), 112.0), session((1,), 115.0), session((1,), 190.0, attempt=2)]
    slot = waits_of(run_data_from_records([OPENED, session((), 101.0), mapped, *children]))["slot"]
    assert slot == {"clock": 6, "sum": 8, "count": 3}


def test_the_pause_before_a_resume_is_no_wait():
    resumed = replace(OPENED, at=1_000.0)
    records = [OPENED, call((0,), 100.0, 102.0), resumed, call((1,), 1_000.0, 1_003.0, 2.0)]
    assert waits_of(run_data_from_records(records))["queue"] == {"clock": 2, "sum": 2, "count": 1}


def test_texts_without_a_place_are_counted_apart():
    own = InputSummary("text", 70)
    calls = [leaf((0,), 0, 300), replace(leaf((1,), 0, 1), input=own), replace(leaf((2,), 0, 1), input=None)]
    found = coverage_of(run_data_from_records([OPENED, *calls]))
    assert (found.read, found.unplaced, found.unplaced_chars) == (300, 1, 70)


def test_nodes_stand_behind_their_parents_in_the_order_of_their_ordinals():
    nodes = run_data_from_records(list(reversed(RECORDS))).nodes
    assert [node.path for node in nodes] == sorted(node.path for node in nodes)


def test_every_node_call_and_cell_of_the_records_is_in_the_columns():
    data = build_page_data(run_data_from_records(RECORDS))
    kinds = [type(record).__name__ for record in RECORDS]
    assert data["nodes"]["n"] == 200
    assert data["calls"]["n"] == kinds.count("CallEnded")
    assert data["cells"]["n"] == kinds.count("CellEnded")
    assert data["maps"]["n"] == kinds.count("MapOpened")


@given(st.lists(st.tuples(st.integers(), st.sampled_from([0, 1])), min_size=1))
def test_columns_hold_what_the_rows_held(rows):
    packed = columnar(("a", "b"), rows)
    columns = [
        packed[name] if isinstance(packed[name], tuple) else (packed[name],) * packed["n"] for name in "ab"
    ]
    assert list(zip(*columns, strict=True)) == rows


@given(st.lists(st.integers(0, 100)), st.integers(1, 50), st.integers(0, 500))
def test_texts_are_cut_at_the_greatest_length_that_fits(lengths, each, most):
    kept = truncation_length(lengths, each, most)
    assert sum(min(length, kept) for length in lengths) <= most or kept == 0
    more = sum(min(length, kept + 1) for length in lengths)
    assert kept == each or more > most


def test_a_text_that_had_to_be_cut_says_how_long_it_is():
    texts = StringTable()
    places = [texts.intern("a" * 30), texts.intern("short"), texts.intern("a" * 30), texts.intern(None)]
    assert places == [1, 2, 1, 0]
    assert texts.export(each=10) == ["", ["a" * 10, 30], "short"]


def test_the_clock_leaves_out_the_pause_before_a_resume():
    clock = RunClock([100, 110, 1000, 1005], [100, 1000])
    assert [clock(at) for at in (100, 110, 1000, 1005)] == [0, 10, 10, 15]
    assert (clock.last, clock.paused, clock.resumes) == (15, 890, [10])


def test_a_run_without_an_end_is_unfinished_and_so_are_its_open_nodes_and_calls():
    session = SessionOpened(101.0, (), "why?", InputSummary(), "m", "one")
    data = build_page_data(run_data_from_records([OPENED, session, CallSent(102.0, (), 1, "turn", "m", "k")]))
    assert (data["head"]["state"], texts_of(data, "state")) == ("unfinished", ["unfinished"])
    assert (data["calls"]["n"], data["calls"]["end"]) == (1, None)


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (RunFinished(103.0, "error", error_kind="cancelled"), ("cancelled", "cancelled", "cancelled")),
        (RunFinished(103.0, "error", error_kind="cancelled", why="by hand"), ("cancelled", "cancelled: by hand", "cancelled")),
        (RunFinished(103.0, "error", error_kind="ModelError"), ("error", "ModelError", "error")),
        (RunFinished(103.0, "error", error_kind="ModelError", why="down"), ("error", "ModelError: down", "error")),
        (RunFinished(103.0, "calls", why="the limit of 2 calls"), ("calls", "the limit of 2 calls", "stopped")),
        (RunFinished(103.0, "interrupted"), ("interrupted", "", "stopped")),
        (RunFinished(103.0, "answered", answer="because"), ("answered", "", "ok")),
    ],
)  # fmt: skip
def test_a_run_says_how_it_ended_and_why(end, expected):
    data = build_page_data(run_data_from_records([OPENED, end]))
    assert (data["head"]["state"], data["head"]["why"], *texts_of(data, "state")) == expected


def test_a_node_that_only_stands_in_paths_ended_as_the_run_did():
    records = [OPENED, leaf((0, 0), 0, 5), RunFinished(110.0, "answered", answer="because")]
    data = build_page_data(run_data_from_records(records))
    assert (texts_of(data, "kind")[1], texts_of(data, "state")) == ("unknown", ["ok", "ok", "ok"])
    assert texts_of(build_page_data(run_data_from_records(records[:2])), "state")[1] == "unfinished"


def test_a_single_direct_call_is_the_root_with_the_answer_of_the_run():
    call = CallEnded(102.0, (), 1, "direct", "m", "k", 101.0, usage=Usage(10, 2), text="because")
    data = build_page_data(
        run_data_from_records([OPENED, call, RunFinished(103.0, "answered", answer="because")])
    )
    assert (texts_of(data, "kind"), texts_of(data, "state")) == (["direct"], ["ok"])
    assert (data["head"]["answer"], data["coverage"]["read"]) == ("because", 1000)


def test_no_records_make_an_empty_run():
    data = build_page_data(run_data_from_records([]))
    assert (data["head"]["state"], data["totals"]["nodes"], data["calls"]["n"]) == ("unfinished", 0, 0)


def test_a_run_without_content_has_its_figures_and_no_texts():
    data = build_page_data(run_data_from_records([without_content(record) for record in RECORDS]))
    assert data["totals"]["total"] == totals_of(run_data_from_records(RECORDS))["total"]
    assert "motion" not in json.dumps(data["texts"])


def test_figures_that_json_does_not_know_become_none():
    data = build_page_data(run_data_from_records([OPENED, leaf((0,), 0, 5, cost_usd=float("nan"))]))
    assert data["calls"]["cost"] is None


@given(st.text("ab \n", max_size=60), st.text("ab \n", max_size=60))
def test_changes_tell_both_answers(before, after):
    found = diff_words(before, after)
    assert "".join(piece for kind, piece in found if kind != "new") == before
    assert "".join(piece for kind, piece in found if kind != "gone") == after


def test_equal_words_are_the_same_in_both_answers():
    assert diff_words("the cat sat", "the dog sat") == [
        ("same", "the "),
        ("gone", "cat "),
        ("new", "dog "),
        ("same", "sat"),
    ]


CITED = Citation("opened in 1907", "b.txt", 1, 12, 26, None, "The harbour ", " and was", 62)


def test_citations_and_calls_of_tools_stand_by_their_turn():
    cell = CellEnded(103.0, (), 1, 101.0, code="cite('opened in 1907')", citations=(CITED,))
    tools = [
        ToolEnded(
            102.0, (), 1, 1, "divide", "k", 101.5, "[[1, 0], {}]", "", "ZeroDivisionError", "it raised"
        ),
        ToolEnded(101.5, (), 1, 0, "add", "k", 101.0, "[[1], {}]", "2"),
    ]
    data = build_page_data(run_data_from_records([OPENED, *tools, cell]))
    texts, cited, called = data["texts"], data["citations"], data["tools"]
    assert [texts[cited[name]] for name in ("quote", "place", "before", "after")] == [
        "opened in 1907", "b.txt, characters 12-26", "The harbour ", " and was",
    ]  # fmt: skip
    assert (cited["node"], cited["turn"], cited["offset"]) == (0, 1, 62)
    assert [texts[place] for place in called["name"]] == ["add", "divide"]
    assert [texts[place] for place in called["result"]] == ["2", ""]
    assert [texts[place] for place in called["error"]] == ["", "it raised"]
