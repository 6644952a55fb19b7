"""What the records of a run measure."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics
from recorded_runs import BEGIN, MODEL, Child, Leaf, Played, children

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
from rlm_ray.tracing.metrics import Metrics

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
