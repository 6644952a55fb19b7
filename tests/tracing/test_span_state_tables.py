"""Attempts by time, shards by room, maps by their calls, samples by their keys, records by their order."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricExportResult
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import get_current_span

from rlm_ray.config import Tracing
from rlm_ray.core.context import InputSummary
from rlm_ray.core.llm import Usage
from rlm_ray.events.metrics import CALLS_IN_FLIGHT, COST, INSTRUMENTS, OPERATION_DURATION
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
    ToolEnded,
)
from rlm_ray.tracing import circuit_breaker
from rlm_ray.tracing.attributes import Failure
from rlm_ray.tracing.circuit_breaker import (
    COOLDOWN_S,
    Breaker,
    CircuitBreakerMetricExporter,
    CircuitBreakerSpanExporter,
    port_is_open,
)
from rlm_ray.tracing.reorder_buffer import REORDER_WINDOW_S, ReorderBuffer
from rlm_ray.tracing.setup import Metrics, RunTelemetry, start_run_telemetry
from rlm_ray.tracing.span_state import Attempt, Attempts, CallSampler, MapSpan, TopK, TraceShards
from rlm_ray.tracing.spans import Spans, parent_context, parse_traceparent, traceparent_of


def leaf(ordinal, seconds=1.0, cost=None, error="", at=10.0):
    return CallEnded(
        at + seconds, (ordinal,), 1, "leaf", "m", "k", at, usage=Usage(10, 2), cost_usd=cost, error_kind=error
    )


def ordinals(calls):
    return [call.path[-1] for call in calls]


@pytest.mark.parametrize(
    ("calls", "count", "bound", "chosen"),
    [
        ([], 5, 3, []), ([leaf(0), leaf(1)], 2, 0, []), ([leaf(n) for n in range(4)], 4, 4, [0, 1, 2, 3]),
        ([leaf(n) for n in range(8)], 8, 4, [0, 2, 4, 6]), ([leaf(n) for n in range(9)], 9, 4, [0, 3, 6]),
        ([leaf(n, 9.0 if n == 5 else 1.0) for n in range(8)], 8, 4, [0, 2, 4, 5]),
        ([leaf(n, cost=1.0 if n == 5 else 0.5) for n in range(8)], 8, 4, [0, 2, 4, 5]),
        ([leaf(n, error="E" if n in (1, 3, 7) else "") for n in range(8)], 8, 2, [1, 3]),
        ([leaf(n, error="E" if n in (1, 3, 7) else "") for n in range(8)], 8, 3, [1, 3, 7]),
    ],
)  # fmt: skip
def test_sample_is_errors_then_slowest_then_costliest_then_even(calls, count, bound, chosen):
    sample = CallSampler(0, count, bound)
    for call in calls:
        sample.add(call)
    assert ordinals(sample.selected()) == chosen


@pytest.mark.parametrize(
    ("first", "count", "bound", "chosen"), [(3, 8, 4, [3, 5, 7, 9]), (4, 9, 3, [4, 7, 10]), (1, 2, 9, [1, 2])]
)
def test_even_sample_counts_from_the_first_ordinal_of_its_map(first, count, bound, chosen):
    sample = CallSampler(first, count, bound)
    for number in range(first, first + count):
        sample.add(leaf(number))
    assert ordinals(sample.selected()) == chosen


@pytest.mark.parametrize(("most", "kept"), [(0, []), (1, [9]), (2, [9, 5]), (9, [9, 5, 5, 1])])
def test_largest_keys_are_kept_and_equal_ones_never_compare_calls(most, kept):
    top = TopK(most)
    for key in (5, 1, 9, 5):
        top.add((key,), leaf(key))
    assert ordinals(top.items()) == kept


def attempt(path=(), number=1, started=0.0, *, ended=None, parent=None, end=None):
    return Attempt(path, number, SimpleNamespace(started=started, ended=ended), None, parent, end)


@pytest.mark.parametrize(("moment", "number"), [(0.5, 1), (1.0, 1), (4.9, 1), (5.0, 2), (9.0, 2)])
def test_attempt_under_way_is_the_last_that_had_begun(moment, number):
    attempts = Attempts()
    attempts.add(attempt((1,), 2, 5.0))
    attempts.add(attempt((1,), 1, 1.0))
    assert attempts.active_at((1,), moment).number == number
    assert attempts.active_at((2,), moment) is None
    assert attempts.nearest_ancestor((1, 7, 8), moment).number == number
    assert attempts.nearest_ancestor((1,), moment) is None
    assert [each.number for each in attempts] == [1, 2]


def test_open_attempt_is_the_latest_of_its_number_without_an_end():
    attempts = Attempts()
    first, second, ended = attempt(started=1.0), attempt(started=2.0), attempt(started=3.0, ended=4.0)
    for each in (first, second, ended, attempt(number=2, started=5.0)):
        attempts.add(each)
    assert attempts.open_attempts((), 1) is second
    assert attempts.open_attempts((), 3) is None


def test_what_was_open_ends_with_its_session_or_the_one_above():
    lost = attempt(ended=7.0, end=SessionEnded(7.0, (), "error", error_kind="ActorLostError"))
    answered = attempt(ended=8.0, end=SessionEnded(8.0, (), "answered"))
    assert attempt(parent=lost).final_state == lost.final_state == (7.0, "lost")
    assert attempt(parent=answered).final_state == (8.0, "not_finished")
    assert attempt().final_state == (None, "not_finished")


def make_spans():
    exporter, provider = InMemorySpanExporter(), TracerProvider(resource=Resource({}), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Spans(provider), exporter


def test_trace_takes_so_many_sessions_and_then_the_one_that_is_being_filled():
    spans, exporter = make_spans()
    main = spans.start("run", 1.0, {}, Context())
    shards = TraceShards(spans, "r", main, 2)
    placed = [shards.assign(shards.primary, 2.0).number for _ in range(5)]
    assert placed == [0, 0, 1, 1, 2]
    assert shards.assign(shards.assign(shards.primary, 2.0), 2.0).number == 3
    shards.end(3.0)
    counts = {
        span.attributes["rlm.part"]: span.attributes["rlm.total.sessions"]
        for span in exporter.get_finished_spans()
    }
    assert counts == {1: 2, 2: 2, 3: 1}
    assert {span.name for span in exporter.get_finished_spans()} >= {"part 1", "invoke_workflow rlm part 1"}


def make_map(count, sessions=0, bound=10, first=5):
    spans, exporter = make_spans()
    return MapSpan(
        MapOpened(1.0, (), 1, first, count, sessions), spans.start("recursive_map", 1.0, {}, Context()), bound
    ), exporter


@pytest.mark.parametrize(("ordinal", "covered"), [(4, False), (5, True), (7, True), (8, False)])
def test_map_covers_its_ordinals(ordinal, covered):
    assert make_map(3)[0].covers(ordinal) is covered


def test_map_is_complete_with_its_end_and_all_leaves():
    found, exporter = make_map(3, sessions=1)
    assert found.add(leaf(5)) is True
    found.end = MapEnded(4.0, (), 5, 2, 1)
    assert not found.complete
    found.add(leaf(6), lost=True)
    assert not found.complete
    found.add(leaf(6))
    assert found.complete
    assert found.close(9.0) == []
    (span,) = exporter.get_finished_spans()
    assert (span.end_time, span.attributes["rlm.map.kept"], span.attributes["rlm.map.calls"]) == (
        4_000_000_000,
        3,
        3,
    )
    assert (span.attributes["rlm.map.answered"], span.attributes["rlm.map.failed"]) == (2, 1)
    assert found.add(leaf(7)) is True


def test_small_map_gives_each_leaf_its_span_up_to_the_bound():
    found, exporter = make_map(2, bound=2)
    assert [found.add(leaf(n)) for n in (5, 6, 6)] == [True, True, False]
    found.close(9.0, Failure("lost"))
    (span,) = exporter.get_finished_spans()
    assert (span.attributes["rlm.map.kept"], span.end_time, span.attributes["error.type"]) == (
        2,
        9_000_000_000,
        "lost",
    )


def test_wide_map_chooses_at_its_end():
    found, exporter = make_map(4, bound=2)
    assert [found.add(leaf(n)) for n in (5, 6, 7, 8)] == [False] * 4
    assert ordinals(found.close(9.0)) == [5, 7]
    assert exporter.get_finished_spans()[0].attributes["rlm.map.kept"] == 2


@pytest.mark.parametrize(("at", "ended"), [(4.0, 4.0), (2.0, 3.0)])
def test_span_never_ends_before_it_began_and_only_once(at, ended):
    spans, exporter = make_spans()
    span = spans.start("x" * 300, 3.0, {}, Context())
    assert span.ended is None
    span.end(at, {"a": 1}, Failure("Kind", "why"))
    span.end(99.0, {"a": 2})
    (made,) = exporter.get_finished_spans()
    assert (span.ended, made.end_time, dict(made.attributes)) == (
        ended,
        int(ended * 1e9),
        {"a": 1, "error.type": "Kind"},
    )
    assert made.status.description == "Kind: why"
    assert len(made.name.encode()) <= 256
    spans.start("y", 1.0, {}, Context()).end(2.0, None, Failure("Kind"))
    assert exporter.get_finished_spans()[1].status.description == "Kind"


NODE = InputSummary()
SAME_TIME = [
    RunStarted(1.0, "r", "", {}, NODE, "1"), SessionOpened(1.0, (), "", NODE, "m", "a", 1), SessionOpened(1.0, (), "", NODE, "m", "a", 2),
    SessionOpened(1.0, (0,), "", NODE, "m", "a"), MapOpened(1.0, (), 1, 0, 1, 0), MapOpened(1.0, (), 1, 4, 1, 0), CallSent(1.0, (), 1, "turn", "m", "k"),
    CallSent(1.0, (), 2, "turn", "m", "k"), CallEnded(1.0, (), 1, "turn", "m", "k", 0.5), CallEnded(1.0, (), 2, "turn", "m", "k", 0.5),
    ToolEnded(1.0, (), 1, 1, "f", "k", 0.5), ToolEnded(1.0, (), 1, 2, "f", "k", 0.5), CellEnded(1.0, (), 1, 0.5), CellEnded(1.0, (), 2, 0.5),
    MapEnded(1.0, (), 0, 1, 0), MapEnded(1.0, (), 4, 1, 0), SessionEnded(1.0, (), "answered", attempt=1), SessionEnded(1.0, (), "answered", attempt=2),
    RunFinished(1.0, "answered"),
]  # fmt: skip


def test_records_of_one_time_come_as_beginnings_before_ends_by_path_and_number():
    buffer = ReorderBuffer()
    assert [record for each in reversed(SAME_TIME) for record in buffer.add(each)] == []
    assert list(buffer.flush()) == SAME_TIME
    assert list(buffer.flush()) == []


def test_records_that_are_equal_all_come_out():
    buffer = ReorderBuffer()
    assert [record for each in SAME_TIME * 2 for record in buffer.add(each)] == []
    assert list(buffer.flush()) == [each for each in SAME_TIME for _ in range(2)]


def test_record_waits_for_one_that_is_a_window_later():
    buffer = ReorderBuffer()
    first, later = RunStarted(100.0, "r", "", {}, NODE, "1"), CellEnded(100.0 + REORDER_WINDOW_S, (), 1, 1.0)
    assert list(buffer.add(first)) == []
    assert list(buffer.add(CellEnded(99.9 + REORDER_WINDOW_S, (), 1, 1.0))) == []
    assert list(buffer.add(later)) == [first]
    assert list(buffer.add(CellEnded(98.0, (), 2, 1.0))) == [CellEnded(98.0, (), 2, 1.0)]


def breaker(monkeypatch, *, is_open=True):
    now = SimpleNamespace(at=100.0, is_open=is_open, probes=0)

    def probe(_endpoint):
        now.probes += 1
        return now.is_open

    monkeypatch.setattr(circuit_breaker, "port_is_open", probe)
    return Breaker("spans", "http://x", lambda: now.at), now


def test_collector_that_fails_is_left_alone_until_its_rest_is_over(monkeypatch, caplog):
    found, now = breaker(monkeypatch)
    done = []

    def send(result):
        return found.call(lambda: done.append(result) or result, "good", "bad")

    assert (send("good"), send("good"), now.probes) == ("good", "good", 1)
    assert (send("bad"), send("good"), len(done)) == ("bad", "bad", 3)
    now.at += COOLDOWN_S - 0.001
    assert send("good") == "bad"
    now.at += 0.001
    assert (send("good"), now.probes) == ("good", 2)
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_each_outage_is_one_warning(monkeypatch, caplog):
    found, now = breaker(monkeypatch, is_open=False)
    for is_open in (False, False, True, False, False):
        now.is_open = is_open
        found.call(lambda: "good" if now.is_open else "bad", "good", "bad")
        now.at += COOLDOWN_S
    assert len(caplog.records) == 2
    assert "nobody listens there" in caplog.text


@pytest.mark.parametrize("endpoint", ["", "nonsense", "http://127.0.0.1:99999/v1"])
def test_endpoint_that_cannot_be_probed_counts_as_open(endpoint):
    assert port_is_open(endpoint) is True


@pytest.mark.parametrize(
    ("endpoint", "address"),
    [("http://h:4318/v1", ("h", 4318)), ("http://h/v1", ("h", 80)), ("https://h/v1", ("h", 443))],
)
@pytest.mark.parametrize(
    ("failure", "is_open"), [(None, True), (ConnectionRefusedError(), False), (TimeoutError(), True)]
)
def test_collector_is_probed_at_its_port_or_that_of_its_scheme(
    endpoint, address, failure, is_open, monkeypatch
):
    probed, closed = [], []

    def connect(to, timeout):
        probed.append(to)
        assert 0 < timeout < 5
        if failure is not None:
            raise failure
        return SimpleNamespace(close=lambda: closed.append(to))

    monkeypatch.setattr(circuit_breaker.requests.utils, "get_environ_proxies", lambda _: {})
    monkeypatch.setattr(circuit_breaker.socket, "create_connection", connect)
    assert port_is_open(endpoint) is is_open
    assert (probed, closed) == ([address], [address] if failure is None else [])


class Inner:
    """An exporter that notes what it is asked for."""

    _preferred_temporality, _preferred_aggregation = {"a": 1}, {"b": 2}

    def __init__(self, result):
        self.asked, self.result = [], result

    def export(self, *given, **named):
        self.asked.append((given, named))
        return self.result

    shutdown = force_flush = export


@pytest.mark.parametrize("result", list(SpanExportResult))
def test_spans_go_through_their_breaker_to_the_exporter(result, monkeypatch):
    monkeypatch.setattr(circuit_breaker, "port_is_open", lambda _: True)
    inner = Inner(result)
    exporter = CircuitBreakerSpanExporter(inner, "http://x")
    assert [exporter.export(["span"]) for _ in range(2)] == [result] * 2
    assert inner.asked == [((["span"],), {})] * (2 if result is SpanExportResult.SUCCESS else 1)
    inner.asked, inner.result = [], True
    assert exporter.force_flush(7) is True
    exporter.shutdown()
    assert inner.asked == [((7,), {}), ((), {})]


@pytest.mark.parametrize("result", list(MetricExportResult))
def test_metrics_go_through_their_breaker_to_the_exporter(result, monkeypatch):
    monkeypatch.setattr(circuit_breaker, "port_is_open", lambda _: True)
    inner = Inner(result)
    exporter = CircuitBreakerMetricExporter(inner, "http://x")
    assert (exporter._preferred_temporality, exporter._preferred_aggregation) == ({"a": 1}, {"b": 2})
    assert [exporter.export("data", 7, more=1) for _ in range(2)] == [result] * 2
    assert inner.asked == [(("data", 7), {"more": 1})] * (2 if result is MetricExportResult.SUCCESS else 1)
    inner.asked, inner.result = [], True
    assert exporter.force_flush(7) is True
    exporter.shutdown(8, more=1)
    assert inner.asked == [((7,), {}), ((8,), {"more": 1})]


def metered():
    """A provider of metrics, and the points it holds by the name of their metric."""
    reader = InMemoryMetricReader()

    def points():
        return {
            metric.name: metric.data.data_points
            for scoped in reader.get_metrics_data().resource_metrics
            for scope in scoped.scope_metrics
            for metric in scope.metrics
        }

    return MeterProvider([reader], resource=Resource({}), shutdown_on_exit=False), points


def test_runs_of_one_provider_add_up_by_what_their_calls_have_in_common():
    provider, points = metered()
    for model in ("openai/a", "openai/b", "openai/a"):
        metrics = Metrics(provider)
        metrics.add(CallSent(10.5, (), 1, "turn", model, "k"))
        metrics.add(CallSent(10.5, (), 2, "turn", model, "k"))
        metrics.add(CallEnded(11.0, (), 1, "turn", model, "k", 10.0, cost_usd=0.5))
    found = points()
    by_model = {
        name: {point.attributes["gen_ai.request.model"]: point.value for point in found[name]}
        for name in (COST, CALLS_IN_FLIGHT)
    }
    assert by_model == {COST: {"a": 1.0, "b": 0.5}, CALLS_IN_FLIGHT: {"a": 2.0, "b": 1.0}}
    (seconds,) = [
        point for point in found[OPERATION_DURATION] if point.attributes["gen_ai.request.model"] == "b"
    ]
    assert (seconds.count, seconds.sum, seconds.explicit_bounds) == (
        1,
        1.0,
        INSTRUMENTS[OPERATION_DURATION].buckets,
    )


def test_record_is_measured_once_by_its_id():
    provider, points_now = metered()
    metrics = Metrics(provider)
    for identity in ("a", "a", "b", "", ""):
        metrics.add(
            CallEnded(11.0, (), 1, "turn", "m", "k", 10.0, usage=Usage(10, 2), cost_usd=0.5, id=identity)
        )
    points = points_now()
    costs = [sum(point.value for point in found) for name, found in points.items() if "cost" in name]
    assert costs == [2.0]
    assert {point.count for found in points.values() for point in found if hasattr(point, "count")} == {4}


class Sink:
    """Takes records, as a tracer and as metrics do."""

    trace_id = "abc"

    def __init__(self):
        self.records, self.finished, self.flushed = [], 0, threading.Event()

    def add(self, record):
        self.records.append(record)

    def finish(self):
        self.finished += 1

    def force_flush(self):
        self.flushed.set()


@pytest.mark.parametrize(("has_spans", "has_metrics"), [(True, True), (True, False), (False, True)])
def test_records_go_to_spans_and_metrics_where_they_are_wanted(has_spans, has_metrics):
    spans, metrics, provider = Sink(), Sink(), Sink()
    telemetry = RunTelemetry(
        spans if has_spans else None, metrics if has_metrics else None, [provider], Tracing(), "00-1"
    )
    record = CellEnded(1.0, (), 1, 0.5)
    telemetry.add(record)
    telemetry.close()
    assert provider.flushed.wait(30)
    assert (spans.records, metrics.records) == ([record] * has_spans, [record] * has_metrics)
    assert (spans.finished, telemetry.trace_id) == (has_spans, "abc" if has_spans else "")
    assert telemetry.traceparent == "00-1"


def test_nobody_asks_for_telemetry_without_the_variables(monkeypatch):
    for name in (
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
        "OTEL_TRACES_EXPORTER",
        "OTEL_METRICS_EXPORTER",
    ):
        monkeypatch.delenv(name, raising=False)
    assert start_run_telemetry("r", Tracing()) is None
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://127.0.0.1:9/v1/metrics")
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "otlp")
    telemetry = start_run_telemetry("r", Tracing())
    assert telemetry is not None
    assert telemetry.trace_id == ""


PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize("content", ["true", ""])
def test_spans_of_a_run_go_to_the_provider_of_the_application_which_flushes_itself(content, monkeypatch):
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    flushes = []
    provider.force_flush = lambda *_: flushes.append(1)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    monkeypatch.delenv("OTEL_SDK_DISABLED", raising=False)
    monkeypatch.setenv("TRACEPARENT", PARENT.replace("b7ad", "ffff"))
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", content)
    telemetry = start_run_telemetry("r", Tracing(), PARENT)
    assert telemetry.traceparent == PARENT
    telemetry.add(RunStarted(1.0, "r", "a question", {}, NODE, "1"))
    assert telemetry.trace_id == PARENT.split("-")[1]
    telemetry.close()
    (run,) = exporter.get_finished_spans()
    assert f"{run.parent.span_id:016x}" == PARENT.split("-")[2]
    assert ("a question" in str(run.attributes)) is bool(content)
    assert run.attributes["gen_ai.conversation.id"] == "r"
    assert flushes == []


@pytest.mark.parametrize(
    ("traceparent", "environment", "found"),
    [
        (f" {PARENT} ", {}, (PARENT, "")),
        (None, {"TRACEPARENT": f" {PARENT}\n", "TRACESTATE": "a=b"}, (PARENT, "a=b")),
        (PARENT, {"TRACEPARENT": PARENT.replace("b7ad", "ffff"), "TRACESTATE": "a=b"}, (PARENT, "")),
        (None, {"TRACESTATE": "a=b"}, ("", "")),
        (None, None, ("", "")),
    ],
)
def test_parent_of_a_run_has_the_state_that_came_with_it(traceparent, environment, found):
    context = parent_context(traceparent, environment)
    state = get_current_span(context).get_span_context().trace_state
    assert (traceparent_of(context), state.to_header()) == found


@pytest.mark.parametrize(
    ("given", "span"), [(f" {PARENT}\n", "b7ad6b7169203331"), ("", None), ("nonsense", None)]
)
def test_traceparent_names_a_span_or_nothing(given, span):
    found = parse_traceparent(given)
    assert (found and f"{found.span_id:016x}") == span


def test_span_that_has_ended_is_still_the_parent_of_others():
    spans, exporter = make_spans()
    above = spans.start("above", 1.0, {}, Context())
    above.end(2.0)
    above.event("late", 2.5, {})
    spans.start("below", 1.5, {"a": 1}, above.context, links=[above.span_context]).end(3.0, {"b": 2})
    first, second = exporter.get_finished_spans()
    assert (dict(first.attributes), dict(second.attributes)) == ({}, {"a": 1, "b": 2})
    assert not first.events
    assert second.parent.span_id == first.context.span_id == second.links[0].context.span_id
    assert (second.start_time, second.kind.name) == (1_500_000_000, "INTERNAL")
    assert (second.instrumentation_scope.name, bool(second.instrumentation_scope.schema_url)) == (
        "rlm_ray",
        True,
    )
