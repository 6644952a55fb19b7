"""A run in the formats of other tools is whole and well-formed."""

import json
from collections import defaultdict
from dataclasses import replace

import pytest
from google.protobuf.json_format import Parse
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from rlm_ray.core.context import InputSummary
from rlm_ray.core.llm import Usage
from rlm_ray.errors import InputError
from rlm_ray.events.records import (
    CallEnded,
    CellEnded,
    MapEnded,
    MapOpened,
    RunFinished,
    RunStarted,
    SessionEnded,
    SessionOpened,
    from_line,
)
from rlm_ray.report.export import FORMATS, export, layout_spans, send_otlp, spans_of, traces_url
from rlm_ray.testing.otlp_receiver import OtlpReceiver

BEGIN = 1_800_000_000.0
MODEL = "openai/gpt-5"


def run(leaves):
    """A run with one map of leaves, each (start, seconds, wait, failed)."""
    count = len(leaves)
    calls = [
        CallEnded(
            BEGIN + start + seconds, (ordinal,), 1, "leaf", MODEL, "k", BEGIN + start, "openai", wait, wait / 2,
            usage=Usage(10, 2), cost_usd=0.5, query="the question", text="the reply",
            error_kind="QuotaError" if failed else "",
        )
        for ordinal, (start, seconds, wait, failed) in enumerate(leaves)
    ]  # fmt: skip
    over = max((call.at for call in calls), default=BEGIN) + 1
    return [
        RunStarted(BEGIN, "run-1", "the question", {}, InputSummary(), "1"),
        SessionOpened(BEGIN + 0.5, (), "the question", InputSummary(), MODEL, "a"),
        MapOpened(BEGIN + 0.9, (), 1, 0, count, 0),
        *calls,
        MapEnded(over, (), 0, count, 0),
        CellEnded(over + 1, (), 1, BEGIN + 0.8, 1.0, "code", "output"),
        SessionEnded(over + 2, (), "answered"),
        RunFinished(over + 3, "answered"),
    ]


RUN = run([(1.0, 1.0, 0.25, False), (1.5, 2.0, 0.0, True), (4.0, 1.0, 0.0, False)])
times = st.integers(0, 20).map(lambda tenths: tenths / 10)
leaves = st.lists(st.tuples(times.map(lambda at: at + 1), times, times, st.booleans()), max_size=12)


def test_lines_are_the_records():
    assert [from_line(line) for line in export(RUN, "jsonl").splitlines()] == RUN


def test_otlp_json_is_what_the_protocol_says():
    written = export(RUN, "otlp")
    spans = json.loads(written)["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert all(
        len(bytes.fromhex(span["traceId"])) == 16 and len(bytes.fromhex(span["spanId"])) == 8
        for span in spans
    )
    (root,) = [span for span in spans if "parentSpanId" not in span]
    assert root["startTimeUnixNano"] == str(int(BEGIN * 1e9))
    assert root["name"] == "invoke_workflow rlm"
    assert {span["kind"] for span in spans} == {1, 3}
    read = Parse(written, ExportTraceServiceRequest())
    assert len(read.resource_spans[0].scope_spans[0].spans) == len(spans) == 7


def test_exports_have_all_leaves_of_a_wide_map():
    wide = run([(1.0 + i / 1000, 1.0, 0.0, False) for i in range(700)])
    assert len([span for span in spans_of(wide) if span.name == "chat gpt-5"]) == 700


@pytest.mark.parametrize("to", ["otlp", "chrome"])
def test_content_is_exported_only_when_asked_for(to):
    assert b"the reply" not in export(RUN, to)
    assert b"the reply" in export(RUN, to, content=True)


def test_an_unknown_format_is_refused():
    with pytest.raises(InputError, match="otlp, chrome, jsonl"):
        export(RUN, "svg")


@pytest.mark.parametrize("to", FORMATS)
def test_a_run_of_which_only_the_beginning_is_known_can_be_exported(to):
    assert export(RUN[:1], to)


@given(leaves)
@settings(deadline=None, max_examples=50)
def test_rows_of_a_chrome_trace_hold_slices_that_nest_and_none_is_lost(facts):
    trace = json.loads(export(run(facts), "chrome"))
    slices = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    rows = {event["tid"] for event in trace["traceEvents"] if event["ph"] == "M"}
    assert rows == {event["tid"] for event in slices}
    assert sum(event["name"] == "chat gpt-5" for event in slices) == len(facts)
    by_row = defaultdict(list)
    for event in slices:
        by_row[event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
    for row in by_row.values():
        check_nesting(sorted(row, key=lambda one: (one[0], -one[1])))


def check_nesting(row):
    opened = []
    for start, end in row:
        while opened and opened[-1] <= start + 1e-6:
            opened.pop()
        assert not opened or end <= opened[-1] + 1e-6
        opened.append(end)


def test_waits_are_slices_of_their_own_and_failures_are_marked():
    slices = {
        event["name"]: event
        for event in json.loads(export(RUN, "chrome"))["traceEvents"]
        if event["ph"] == "X"
    }
    queue, rate = slices["wait: queue"], slices["wait: rate"]
    assert (queue["ts"], queue["dur"]) == (1e6, 250_000)
    assert (rate["ts"], rate["dur"]) == (1.25e6, 125_000)
    assert "error" in {
        event["cat"] for event in json.loads(export(RUN, "chrome"))["traceEvents"] if event["ph"] == "X"
    }


def test_work_without_parallelism_is_one_lane_and_parallel_calls_get_more():
    serial = run([(1.0, 0.4, 0.0, False), (1.5, 0.4, 0.0, False)])
    without_cell = [record for record in serial if not isinstance(record, CellEnded)]
    assert {one.lane for one in layout_spans(spans_of(without_cell))} == {0}
    beside = run([(1.0, 1.0, 0.0, False)] * 4)
    calls = [one.lane for one in layout_spans(spans_of(beside)) if one.name == "chat gpt-5"]
    assert len(set(calls)) == 4


def test_a_call_on_a_machine_whose_clock_is_ahead_gets_a_lane_of_its_own():
    records = run([(1.0, 1.0, 0.0, False)])
    ahead = [
        replace(record, at=record.at + 9) if isinstance(record, CallEnded) else record for record in records
    ]
    lanes = {one.name: one.lane for one in layout_spans(spans_of(ahead))}
    assert lanes["chat gpt-5"] != lanes["recursive_map"]
    assert json.loads(export(ahead, "chrome"))["traceEvents"]


def test_a_recorded_run_can_be_sent_to_a_collector_with_its_times():
    with OtlpReceiver() as collector:
        assert send_otlp(RUN, collector.url) == 7
        assert send_otlp(RUN, f"{collector.url}/v1/traces") == 7
        assert collector.requests == 2
        starts = [span.start for span in collector.spans if not span.parent_id]
        assert starts == [int(BEGIN * 1e9)] * 2
        assert collector.spans[0].resource["service.name"] == "rlm_ray"


def test_an_endpoint_that_takes_no_spans_is_named():
    with OtlpReceiver(status=404) as collector, pytest.raises(InputError, match="takes no OTLP over HTTP"):
        send_otlp(RUN, collector.url)


@pytest.mark.parametrize(
    "given",
    ["http://host:4318", "http://host:4318/", "http://host:4318/v1/traces", "http://host:4318/v1/traces/"],
)
def test_an_endpoint_is_a_base_or_a_whole_url(given):
    assert traces_url(given) == "http://host:4318/v1/traces"
