"""Where spans go, and that no collector can hold a run up."""

import logging
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from opentelemetry import metrics as metrics_api
from opentelemetry import trace as trace_api
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from run_records import CHAT, RUN, Child, Leaf, Played, expected, in_memory, named

from rlm_ray.testing.otlp_receiver import OtlpReceiver
from rlm_ray.tracing import exporters
from rlm_ray.tracing.circuit_breaker import COOLDOWN_S, Breaker, port_is_open
from rlm_ray.tracing.exporters import (
    BackgroundFlusher,
    endpoint_of,
    flush,
    meter_provider_from_environment,
    provider_from_environment,
    resource,
)
from rlm_ray.tracing.tracer import Tracer

PLAYED = Played().run(Child(((Leaf(), Leaf(fails=True)), ())))
QUIET = {"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"}


@pytest.fixture(autouse=True)
def a_clean_environment(monkeypatch):
    for name in [name for name in os.environ if name.startswith("OTEL_") or name in QUIET]:
        monkeypatch.delenv(name)


def traced(environment, flush_timeout_s=5.0):
    """A run traced as the environment says; whether all was sent in time."""
    provider, ours = provider_from_environment(environment)
    assert ours
    tracer = Tracer(provider, "run-1")
    for record in PLAYED.records:
        tracer.add(record)
    tracer.finish()
    return flush(flush_timeout_s, provider)


def dead_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def test_spans_arrive_at_the_collector_the_environment_names():
    with OtlpReceiver() as collector:
        assert traced({"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url})
        starts = {span.span_id: span.start for span in collector.spans}
        found = {(s.name, s.start, starts.get(s.parent_id), s.status == "error") for s in collector.spans}
        assert found == expected(PLAYED)
        (run,) = [span for span in collector.spans if span.name == RUN]
        assert (run.kind, run.parent_id, run.resource["service.name"]) == ("internal", "", "rlm_ray")
        call = next(span for span in collector.spans if span.name == CHAT)
        assert (call.kind, call.attributes["gen_ai.usage.input_tokens"]) == ("client", 100)
        assert call.trace_id == run.trace_id


def test_spans_are_packed_when_the_environment_says_so(monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    with OtlpReceiver() as collector:
        assert traced(
            {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip"}
        )
        assert len(collector.spans) == len(PLAYED.spans)


@pytest.mark.parametrize(
    ("environment", "endpoint"),
    [
        ({}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318/"}, "http://c:4318/v1/traces"),
        (
            {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c/x", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://d"},
            "http://c/x",
        ),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://c/x"}, None),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, "http://localhost:4318/v1/traces"),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c"}, None),
        (
            {"OTEL_TRACES_EXPORTER": "console, otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c"},
            "http://c/v1/traces",
        ),
        ({"OTEL_TRACES_EXPORTER": "console"}, None),
    ],
)
def test_the_standard_variables_say_where_spans_go(environment, endpoint):
    assert endpoint_of("TRACES", environment) == endpoint
    assert (provider_from_environment(environment) is None) is (endpoint is None)


def test_a_disabled_sdk_means_no_spans_and_no_metrics():
    environment = {"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c"}
    assert provider_from_environment(environment) is None
    assert meter_provider_from_environment(environment) is None


def test_a_provider_the_user_has_set_is_used_and_left_alone(monkeypatch):
    kept, provider = in_memory()
    monkeypatch.setattr(trace_api, "_TRACER_PROVIDER", provider)
    found = provider_from_environment({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"})
    assert found == (provider, False)
    tracer = Tracer(found[0], "run-1")
    for record in PLAYED.records:
        tracer.add(record)
    tracer.finish()
    assert len(kept.get_finished_spans()) == len(PLAYED.spans)
    assert named(kept.get_finished_spans(), RUN)[0].resource is provider.resource


def test_a_meter_provider_the_user_has_set_is_used(monkeypatch):
    provider = MeterProvider(shutdown_on_exit=False)
    monkeypatch.setattr("opentelemetry.metrics._internal._METER_PROVIDER", provider)
    assert meter_provider_from_environment({}) == (provider, False)


def test_a_user_s_provider_that_does_nothing_turns_tracing_off(monkeypatch):
    monkeypatch.setattr(trace_api, "_TRACER_PROVIDER", trace_api.NoOpTracerProvider())
    assert provider_from_environment({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}) is None


def test_a_user_s_meter_provider_that_does_nothing_turns_metrics_off(monkeypatch):
    nothing = metrics_api.NoOpMeterProvider()
    monkeypatch.setattr("opentelemetry.metrics._internal._METER_PROVIDER", nothing)
    assert meter_provider_from_environment({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}) is None


@pytest.mark.parametrize(
    ("value", "is_off"), [("true", True), (" TRUE ", True), ("false", False), ("", False)]
)
def test_the_sdk_is_disabled_by_true_only(value, is_off):
    environment = {
        "OTEL_SDK_DISABLED": value,
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{dead_port()}",
    }
    assert (provider_from_environment(environment) is None) is is_off
    assert (meter_provider_from_environment(environment) is None) is is_off


@pytest.mark.parametrize(
    ("environment", "endpoint"),
    [
        ({}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9/"}, "http://127.0.0.1:9/v1/metrics"),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://127.0.0.1:9/m"}, "http://127.0.0.1:9/m"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:9/t"}, None),
        ({"OTEL_METRICS_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}, None),
    ],
)
def test_the_standard_variables_say_where_metrics_go(environment, endpoint):
    assert endpoint_of("METRICS", environment) == endpoint
    assert (meter_provider_from_environment(environment) is None) is (endpoint is None)


def test_metrics_arrive_at_the_collector_the_environment_names():
    with OtlpReceiver() as collector:
        provider, is_ours = meter_provider_from_environment({"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url})
        provider.get_meter("m").create_counter("count").add(3)
        assert is_ours
        assert flush(5.0, provider)
        assert [(point.name, point.value) for point in collector.points] == [("count", 3)]


@pytest.mark.parametrize(
    ("variable", "name"),
    [
        ("OTEL_BSP_MAX_QUEUE_SIZE", "max_queue_size"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "max_export_batch_size"),
        ("OTEL_BSP_SCHEDULE_DELAY", "schedule_delay_millis"),
    ],
)
def test_the_sdk_s_own_variables_go_before_our_sizes_of_its_queue(variable, name, monkeypatch):
    chosen = []
    monkeypatch.setattr(
        exporters, "BatchSpanProcessor", lambda _, **sizes: chosen.append(sizes) or SpanProcessor()
    )
    url = f"http://127.0.0.1:{dead_port()}"
    for more in ({}, {variable: "7"}):
        provider_from_environment({"OTEL_EXPORTER_OTLP_ENDPOINT": url, **more})
    ours, theirs = chosen
    assert all(value is not None for value in ours.values())
    assert ours["max_queue_size"] > 2_048  # of the SDK, which loses some of a wide map
    assert theirs == ours | {name: None}


def test_none_of_ours_is_set_for_the_whole_process():
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{dead_port()}"}
    assert provider_from_environment(environment)[1]
    assert meter_provider_from_environment(environment)[1]
    assert isinstance(trace_api.get_tracer_provider(), trace_api.ProxyTracerProvider)
    assert type(metrics_api.get_meter_provider()).__name__ == "_ProxyMeterProvider"


def test_runs_of_one_process_share_a_provider():
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{dead_port()}"}
    assert provider_from_environment(environment)[0] is provider_from_environment(dict(environment))[0]


def test_the_service_has_the_name_the_environment_gives(monkeypatch):
    assert resource({}).attributes["service.name"] == "rlm_ray"
    monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
    assert resource({"OTEL_SERVICE_NAME": "mine"}).attributes["service.name"] == "mine"
    monkeypatch.delenv("OTEL_SERVICE_NAME")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=ours,zone=x")
    assert resource(os.environ).attributes["service.name"] == "ours"
    assert resource({"OTEL_RESOURCE_ATTRIBUTES": "zone=x"}).attributes["service.name"] == "rlm_ray"


def test_a_collector_nobody_listens_for_costs_no_time_and_one_warning(caplog):
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{dead_port()}"}
    started = time.monotonic()
    for _ in range(3):
        assert traced(environment, flush_timeout_s=5.0)
    assert time.monotonic() - started < 5  # the exporter alone tries for 10 s each time
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.name for record in warnings] == ["rlm_ray.tracing.circuit_breaker"]
    assert "nobody listens there" in warnings[0].getMessage()


def test_a_collector_that_refuses_is_one_warning(caplog):
    with OtlpReceiver(status=400) as collector:
        for _ in range(3):
            assert traced({"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url})
        assert collector.requests == 1
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.name for record in warnings] == ["rlm_ray.tracing.circuit_breaker"]


def test_a_collector_that_hangs_is_waited_for_no_longer_than_asked():
    with OtlpReceiver(hang=True) as collector:
        started = time.monotonic()
        assert not traced({"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}, flush_timeout_s=0.3)
        assert time.monotonic() - started < 5
        collector.resume()


def end_a_traced_process(url, flush_timeout_s):
    """How long the run was held up by its collector."""
    script = Path(__file__).with_name("traced_process.py")
    command = [sys.executable, str(script), url, str(flush_timeout_s)]
    environment = os.environ | {"PYTHONPATH": str(script.parents[1])}
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30, env=environment)
    assert done.stderr == ""
    return float(done.stdout)


def test_a_collector_that_hangs_holds_up_no_run_and_the_end_of_a_process_for_as_long_as_asked():
    with OtlpReceiver(hang=True) as collector:
        started = time.monotonic()
        assert end_a_traced_process(collector.url, 0.3) < 0.25
        assert time.monotonic() - started < 9  # the exporter alone tries for 10 s


def test_a_process_that_ends_at_once_has_sent_everything():
    with OtlpReceiver() as collector:
        end_a_traced_process(collector.url, 20)
        assert RUN in {span.name for span in collector.spans}


def test_a_collector_has_a_rest_after_a_failure_and_is_tried_again():
    now = [0.0]
    results = iter(["bad", "good", "bad"])
    breaker = Breaker("spans", "nowhere", clock=lambda: now[0])
    assert breaker.call(lambda: next(results), "good", "bad") == "bad"
    assert breaker.call(lambda: pytest.fail("it has a rest"), "good", "bad") == "bad"
    now[0] = COOLDOWN_S + 1
    assert breaker.call(lambda: next(results), "good", "bad") == "good"
    assert breaker.call(lambda: next(results), "good", "bad") == "bad"


def test_an_exporter_that_raises_is_a_collector_that_fails(caplog):
    def broken():
        raise ValueError("no such thing")

    assert Breaker("spans", "nowhere").call(broken, "good", "bad") == "bad"
    assert "no such thing" in caplog.text


@pytest.mark.parametrize("is_good", [True, False])
def test_what_an_exporter_logs_of_our_batches_is_for_debugging_only(is_good, caplog):
    loud = logging.getLogger("opentelemetry.exporter.otlp.proto.http.metric_exporter")
    breaker = Breaker("metrics", "nowhere")

    def send():
        loud.error("a batch of ours")
        return "good" if is_good else 1 / 0

    caplog.set_level(logging.DEBUG)
    assert breaker.call(send, "good", "bad") == ("good" if is_good else "bad")
    (said,) = [record for record in caplog.records if record.getMessage() == "a batch of ours"]
    assert (said.name, said.levelno) == ("rlm_ray.tracing.circuit_breaker", logging.DEBUG)
    loud.error("somebody else's")
    assert caplog.records[-1].name == loud.name


def test_others_exporters_log_as_before(caplog):
    Breaker("spans", "nowhere")
    logging.getLogger("opentelemetry.exporter.otlp.proto.http.trace_exporter").error("somebody else's")
    assert "somebody else's" in caplog.text


def test_a_proxy_is_not_probed(monkeypatch):
    port = dead_port()
    assert not port_is_open(f"http://127.0.0.1:{port}/v1/traces")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    assert port_is_open(f"http://127.0.0.1:{port}/v1/traces")


def test_a_flush_that_fails_is_over(caplog):
    class Broken(TracerProvider):
        def force_flush(self, timeout_millis=30_000):
            raise RuntimeError("broken")

    assert flush(1.0, Broken(shutdown_on_exit=False))


class Held:
    """A provider whose flush lasts until it is let go."""

    def __init__(self):
        self.begun, self.go, self.flushes = threading.Event(), threading.Event(), 0

    def force_flush(self):
        self.flushes += 1
        self.begun.set()
        assert self.go.wait(30)


def test_what_is_asked_for_during_a_flush_is_sent_by_one_more():
    provider = Held()
    flusher = BackgroundFlusher(provider)
    assert flusher.wait(0.0)  # nothing was asked for
    flusher.ask()
    assert provider.begun.wait(30)
    for _ in range(3):
        flusher.ask()
    assert not flusher.wait(time.monotonic())
    provider.go.set()
    assert flusher.wait(time.monotonic() + 30)
    assert provider.flushes == 2
    flusher.ask()
    assert flusher.wait(time.monotonic() + 30)
    assert provider.flushes == 3


def test_a_flush_without_providers_waits_for_all_that_were_asked(monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(exporters, "_all", {})
    slow, quick = Held(), Held()
    quick.go.set()
    exporters.flush_async(0.0, slow, quick)
    assert flush(30.0, quick)
    assert not flush(0.0)
    assert "did not take everything" in caplog.text
    slow.go.set()
    assert flush(30.0)


def test_the_end_of_the_process_waits_as_long_as_the_longest_setting_allows(monkeypatch):
    deadlines = []

    class Waits:
        def ask(self):
            pass

        def wait(self, deadline):
            deadlines.append(deadline - time.monotonic())

    provider = object()
    monkeypatch.setattr(exporters, "_all", {provider: Waits()})
    monkeypatch.setattr(exporters, "_last_deadline", 0.0)
    exporters.flush_async(100.0, provider)
    exporters.flush_async(1.0, provider)
    exporters.flush_at_exit()
    assert deadlines == [pytest.approx(100.0, abs=30.0)]
