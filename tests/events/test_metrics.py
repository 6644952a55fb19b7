"""What the records of a run measure."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics
from run_records import BEGIN, MODEL, Child, Leaf, Played, children

from rlm_ray.core.context import InputSummary
from rlm_ray.core.llm import Usage
from rlm_ray.events import metrics as measures
from rlm_ray.events.metrics import INSTRUMENTS, MetricsReducer, measure_record
from rlm_ray.events.records import (
    CallEnded,
    CallSent,
    CellEnded,
    FailedAttempt,
    RunFinished,
    SessionEnded,
    SessionOpened,
)
from rlm_ray.testing.otlp_receiver import OtlpReceiver
from rlm_ray.tracing.exporters import flush, meter_provider_from_environment
from rlm_ray.tracing.setup import Metrics

CALL = CallEnded(
    BEGIN + 4, (0,), 1, "leaf", MODEL, "k", BEGIN, "openai", 1.0, 0.5,
    (FailedAttempt(BEGIN, "rate_limited", ""), FailedAttempt(BEGIN, "timeout", ""), FailedAttempt(BEGIN, "rate_limited", "")), Usage(100, 20), 0.25,
)  # fmt: skip
SHARED = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-5"}


def plain(found):
    return {(one.name, one.attributes.get("gen_ai.token.type")): one.value for one in found}


def test_a_call_measures_its_tokens_duration_waits_refusals_and_cost():
    assert plain(measure_record(CALL)) == {
        ("gen_ai.client.operation.duration", None): 2.5,
        ("gen_ai.client.token.usage", "input"): 100,
        ("gen_ai.client.token.usage", "output"): 20,
        ("rlm.queue.wait", None): 1.0,
        ("rlm.rate.wait", None): 0.5,
        ("rlm.rate_limited", None): 2,
        ("rlm.cost", None): 0.25,
    }
    labels = {one.name: dict(one.attributes) for one in measure_record(CALL)}
    for name, found in labels.items():
        assert (
            found.items() >= SHARED.items() if name.startswith("gen_ai.") else found["gen_ai.request.model"]
        )
    assert labels["rlm.cost"] == {**SHARED, "rlm.depth": 1, "rlm.role": "leaf"}


def test_a_failed_call_says_with_what():
    failed = CallEnded(BEGIN + 1, (), 1, "turn", MODEL, "k", BEGIN, "openai", error_kind="QuotaError")
    (duration,) = [one for one in measure_record(failed) if one.name == measures.OPERATION_DURATION]
    assert duration.attributes == {**SHARED, "error.type": "QuotaError"}
    assert not [one for one in measure_record(failed) if one.name == measures.TOKEN_USAGE]


def test_a_reply_from_the_cache_measures_nothing():
    assert (
        measure_record(CallEnded(BEGIN, (), 1, "turn", MODEL, "k", BEGIN, usage=Usage(9, 9), cache_hit=True))
        == []
    )


def test_a_cell_measures_its_duration():
    (ok,) = measure_record(CellEnded(BEGIN + 2, (), 1, BEGIN))
    (killed,) = measure_record(CellEnded(BEGIN + 2, (1,), 1, BEGIN, killed="too long"))
    assert (ok.name, ok.value, dict(ok.attributes)) == ("rlm.cell.duration", 2.0, {"rlm.depth": 0})
    assert dict(killed.attributes) == {"rlm.depth": 1, "error.type": "killed"}


def test_a_session_s_duration_is_measured_once_for_each_attempt():
    counted = MetricsReducer()
    for attempt in (1, 2):
        counted.add(SessionOpened(BEGIN + attempt, (0,), "", InputSummary(), MODEL, "a", attempt))
    (lost,) = counted.add(SessionEnded(BEGIN + 2, (0,), "lost", error_kind="ClusterError"))
    (answered,) = counted.add(SessionEnded(BEGIN + 9, (0,), "answered", attempt=2))
    assert (lost.value, lost.attributes["error.type"]) == (1.0, "ClusterError")
    assert (answered.value, answered.attributes["rlm.stop_reason"]) == (7.0, "answered")
    assert counted.add(SessionEnded(BEGIN + 9, (0,), "answered", attempt=2)) == []


def in_flight(counted, record):
    return sum(one.value for one in counted.add(record) if one.name == measures.CALLS_IN_FLIGHT)


def test_calls_in_flight_go_up_and_down_and_a_lost_session_takes_its_own_with_it():
    counted = MetricsReducer()
    assert in_flight(counted, CallSent(BEGIN, (0, 1), 1, "leaf", MODEL, "k")) == 1
    assert in_flight(counted, CallSent(BEGIN, (1,), 1, "turn", MODEL, "k")) == 1
    assert in_flight(counted, CallSent(BEGIN, (1,), 1, "turn", MODEL, "k")) == 0
    assert in_flight(counted, SessionEnded(BEGIN, (0,), "lost", error_kind="ClusterError")) == -1
    assert in_flight(counted, CallEnded(BEGIN, (0, 1), 1, "leaf", MODEL, "k", BEGIN)) == 0
    assert in_flight(counted, RunFinished(BEGIN, "answered")) == -1


@given(children(), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=40)
def test_after_a_run_nothing_is_in_flight_and_all_tokens_are_counted(root, random):
    records = Played().run(root).records
    counted = MetricsReducer()
    found = [one for record in records for one in counted.add(record)]
    assert sum(one.value for one in found if one.name == measures.CALLS_IN_FLIGHT) == 0
    tokens = sum(one.value for one in found if one.name == measures.TOKEN_USAGE)
    assert tokens == 110 * sum(isinstance(record, CallEnded) for record in records)


def test_buckets_are_those_the_conventions_advise():
    assert INSTRUMENTS[measures.TOKEN_USAGE].buckets[:5] == (1, 4, 16, 64, 256)
    assert INSTRUMENTS[measures.TOKEN_USAGE].buckets[-1] == 67_108_864
    assert INSTRUMENTS[measures.OPERATION_DURATION].buckets[0] == 0.01
    assert math.isclose(INSTRUMENTS[measures.OPERATION_DURATION].buckets[-1], 81.92)
    for instrument in INSTRUMENTS.values():
        assert list(instrument.buckets) == sorted(set(instrument.buckets))


def test_metrics_of_the_conventions_have_their_names():
    theirs = {value for name, value in vars(gen_ai_metrics).items() if name.startswith("GEN_AI_")}
    assert {name for name in INSTRUMENTS if name.startswith("gen_ai.")} <= theirs


def test_metrics_arrive_at_a_collector_and_repeated_records_count_once():
    played = Played().run(Child(((Leaf(), Leaf(fails=True)), ())))
    with OtlpReceiver() as collector:
        provider, ours = meter_provider_from_environment({"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url})
        assert ours
        metrics = Metrics(provider)
        for record in [*played.records, *played.records[:5]]:
            metrics.add(record)
        assert flush(5.0, provider)
        points = collector.points
    by_name = {}
    for point in points:
        by_name.setdefault(point.name, []).append(point)
    assert set(by_name) == set(INSTRUMENTS) - {measures.RATE_LIMITED}
    assert sum(point.value for point in by_name[measures.TOKEN_USAGE]) == 110 * 4
    assert sum(point.count for point in by_name[measures.OPERATION_DURATION]) == 4
    assert [point.value for point in by_name[measures.CALLS_IN_FLIGHT]] == [0]
    assert sum(point.value for point in by_name[measures.COST]) == pytest.approx(2.0)
    (session,) = by_name[measures.SESSION_DURATION]
    assert (session.unit, session.count) == ("s", 1)
    assert session.bounds == INSTRUMENTS[measures.SESSION_DURATION].buckets


def test_boundaries_of_histograms_stay_as_dashboards_know_them():
    buckets = {name: INSTRUMENTS[name].buckets for name in INSTRUMENTS}
    assert buckets[measures.TOKEN_USAGE] == tuple(4**power for power in range(14))
    for name in (measures.OPERATION_DURATION, measures.QUEUE_WAIT, measures.RATE_WAIT):
        assert buckets[name] == pytest.approx([0.01 * 2**power for power in range(14)])
    long = (60, 120, 300, 600, 1800)
    assert buckets[measures.SESSION_DURATION] == (0.1, 0.3, 1, 3, 10, 30, *long, 3600, 10_800)
    assert buckets[measures.CELL_DURATION] == (0.001, 0.01, 0.1, 0.3, 1, 3, 10, 30, *long)
    assert [name for name in INSTRUMENTS if not buckets[name]] == [
        measures.CALLS_IN_FLIGHT, measures.RATE_LIMITED, measures.COST,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("provider", "model", "name"),
    [
        ("openai", "x", "openai"), ("", "azure/x", "azure.ai.openai"), ("", "x", "_OTHER"), ("vertex_ai", "gemini/x", "gcp.vertex_ai"),
        ("", "own/x/y", "own"), ("xai", "", "x_ai"),
    ],
)  # fmt: skip
def test_provider_has_the_name_of_the_conventions(provider, model, name):
    assert measures.provider_name(provider, model) == name


@pytest.mark.parametrize(
    ("model", "provider", "name"),
    [
        ("openai/gpt-5", "", "gpt-5"), ("openai/gpt-5", "openai", "gpt-5"), ("openai/gpt-5", "azure", "openai/gpt-5"), ("gpt-5", "", "gpt-5"),
        ("openai/", "", "openai/"), ("a/b/c", "", "b/c"), ("/x", "", "x"),
    ],
)  # fmt: skip
def test_model_has_the_name_its_provider_gives_it(model, provider, name):
    assert measures.model_name(model, provider) == name


@pytest.mark.parametrize(
    ("facts", "attributes"),
    [({}, {}), ({"error": "E"}, {"error.type": "code_error"}), ({"killed": "cpu"}, {"error.type": "killed"}),
     ({"error": "", "killed": None}, {"error.type": "code_error"}), ({"error": "E", "killed": ""}, {"error.type": "killed"})],
)  # fmt: skip
def test_cell_measures_its_duration_and_how_it_failed(facts, attributes):
    cell = CellEnded(BEGIN + 3, (0, 1), 1, BEGIN, **facts)
    assert measure_record(cell) == [
        measures.Measurement("rlm.cell.duration", 3.0, {"rlm.depth": 2} | attributes)
    ]
    early = CellEnded(BEGIN - 1, (), 1, BEGIN)
    assert measure_record(early)[0].value == 0.0


def test_call_without_tokens_waits_or_cost_measures_only_its_time():
    call = CallEnded(BEGIN + 1, (), 1, "turn", MODEL, "k", BEGIN + 2, "openai")
    assert [(one.name, one.value) for one in measure_record(call)] == [
        ("gen_ai.client.operation.duration", 0.0), ("rlm.queue.wait", 0.0), ("rlm.rate.wait", 0.0),
    ]  # fmt: skip


def test_reducer_pairs_what_is_sent_with_what_ends():
    reducer = MetricsReducer()
    opened = SessionOpened(BEGIN, (0,), "q", InputSummary(), MODEL, "a")
    assert reducer.add(opened) == []
    sent = CallSent(BEGIN, (0, 1), 1, "leaf", MODEL, "k")
    (up,) = reducer.add(sent)
    assert (up.name, up.value) == ("rlm.calls.in_flight", 1)
    assert reducer.add(sent) == []
    other = CallSent(BEGIN, (1,), 1, "leaf", MODEL, "k")
    assert reducer.add(other)[0].value == 1
    failed = reducer.add(SessionEnded(BEGIN + 5, (0,), "error", error_kind="KeyError"))
    assert [(one.name, one.value) for one in failed] == [
        ("rlm.session.duration", 5.0),
        ("rlm.calls.in_flight", -1),
    ]
    assert failed[0].attributes == {"rlm.depth": 1, "rlm.stop_reason": "error", "error.type": "KeyError"}
    assert reducer.add(SessionEnded(BEGIN + 6, (0,), "error", error_kind="KeyError")) == []
    ended = reducer.add(CallEnded(BEGIN + 4, (1,), 1, "leaf", MODEL, "k", BEGIN))
    assert (ended[-1].name, ended[-1].value) == ("rlm.calls.in_flight", -1)
    assert len(ended) == 4
    assert len(reducer.add(CallEnded(BEGIN + 4, (1,), 1, "leaf", MODEL, "k", BEGIN))) == 3


def test_answered_session_leaves_its_open_calls_in_flight_until_the_run_ends():
    reducer = MetricsReducer()
    reducer.add(SessionOpened(BEGIN, (0,), "q", InputSummary(), MODEL, "a"))
    reducer.add(CallSent(BEGIN, (0, 1), 1, "leaf", MODEL, "k"))
    (ended,) = reducer.add(SessionEnded(BEGIN - 1, (0,), "answered"))
    assert (ended.value, ended.attributes) == (0.0, {"rlm.depth": 1, "rlm.stop_reason": "answered"})
    assert [one.value for one in reducer.add(RunFinished(BEGIN + 9, "answered"))] == [-1]
