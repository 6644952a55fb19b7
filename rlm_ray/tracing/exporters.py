"""Where spans and metrics go: to the provider the user has set, else where the standard `OTEL_*` variables say.

- Nothing is set globally; a provider of ours serves all runs of the process.
- No collector, dead or slow, holds a run up: what is left to send is sent in the background (`flush_async`), and only
  the end of the process waits for it, for a bounded time.
"""

from __future__ import annotations

import atexit
import functools
import logging
import os
import threading
import time
from collections.abc import Mapping
from typing import Any, Literal

from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider as OwnMeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider as OwnTracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from rlm_ray.tracing.circuit_breaker import CircuitBreakerMetricExporter, CircuitBreakerSpanExporter

SERVICE = "rlm_ray"
QUEUE = 65_536
"""Spans that wait to be sent; the SDK's 2,048 lose some of a wide map."""
BATCH = 1_024
DELAY_MS = 1_000.0

_DEFAULT_ENDPOINT = "http://localhost:4318"
_Variables = tuple[tuple[str, str], ...]


_log = logging.getLogger(__name__)
_all: dict[Any, BackgroundFlusher] = {}
_last_deadline = 0.0


def provider_from_environment(
    environment: Mapping[str, str] = os.environ,
) -> tuple[trace.TracerProvider, bool] | None:
    """Return the provider for spans and whether it is ours to flush; None where nobody asks for spans."""
    if _disabled(environment):
        return None
    known = trace.get_tracer_provider()
    if not isinstance(known, trace.ProxyTracerProvider):
        return None if isinstance(known, trace.NoOpTracerProvider) else (known, False)
    if endpoint_of("TRACES", environment) is None:
        return None
    return _tracer_provider(_variables(environment)), True


def meter_provider_from_environment(
    environment: Mapping[str, str] = os.environ,
) -> tuple[metrics.MeterProvider, bool] | None:
    """Return the provider for metrics in the same way."""
    if _disabled(environment):
        return None
    known = metrics.get_meter_provider()
    # The API has no public name for "none was set".
    if type(known).__name__ != "_ProxyMeterProvider":
        return None if isinstance(known, metrics.NoOpMeterProvider) else (known, False)
    if endpoint_of("METRICS", environment) is None:
        return None
    return _meter_provider(_variables(environment)), True


def endpoint_of(signal: Literal["TRACES", "METRICS"], environment: Mapping[str, str]) -> str | None:
    """Return the URL a signal is sent to; None where it is not asked for."""
    wanted = environment.get(f"OTEL_{signal}_EXPORTER", "").strip().lower()
    if wanted and "otlp" not in (part.strip() for part in wanted.split(",")):
        return None
    if own := environment.get(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT"):
        return own
    shared = environment.get("OTEL_EXPORTER_OTLP_ENDPOINT") or (_DEFAULT_ENDPOINT if wanted else None)
    return None if shared is None else f"{shared.rstrip('/')}/v1/{signal.lower()}"


def _disabled(environment: Mapping[str, str]) -> bool:
    return environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def _variables(environment: Mapping[str, str]) -> _Variables:
    return tuple(sorted((name, value) for name, value in environment.items() if name.startswith("OTEL_")))


@functools.cache  # one for each choice of variables, so runs share its thread and what it knows of the collector
def _tracer_provider(variables: _Variables) -> OwnTracerProvider:
    environment = dict(variables)
    endpoint = endpoint_of("TRACES", environment)
    assert endpoint is not None
    exporter = CircuitBreakerSpanExporter(OTLPSpanExporter(endpoint=endpoint), endpoint)
    chosen: dict[str, Any] = {
        "max_queue_size": None if "OTEL_BSP_MAX_QUEUE_SIZE" in environment else QUEUE,
        "max_export_batch_size": None if "OTEL_BSP_MAX_EXPORT_BATCH_SIZE" in environment else BATCH,
        "schedule_delay_millis": None if "OTEL_BSP_SCHEDULE_DELAY" in environment else DELAY_MS,
    }
    provider = OwnTracerProvider(resource=resource(environment), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter, **chosen))
    return provider


@functools.cache  # cumulative counts of one process must not start anew with each run
def _meter_provider(variables: _Variables) -> OwnMeterProvider:
    environment = dict(variables)
    endpoint = endpoint_of("METRICS", environment)
    assert endpoint is not None
    reader = PeriodicExportingMetricReader(
        CircuitBreakerMetricExporter(OTLPMetricExporter(endpoint=endpoint), endpoint)
    )
    return OwnMeterProvider([reader], resource=resource(environment), shutdown_on_exit=False)


def resource(environment: Mapping[str, str]) -> Resource:
    """Return who speaks: what the environment says, and `rlm_ray` where it says no name."""
    named = "OTEL_SERVICE_NAME" in environment or "service.name=" in environment.get(
        "OTEL_RESOURCE_ATTRIBUTES", ""
    )
    return Resource.create({} if named else {"service.name": SERVICE})


class BackgroundFlusher:
    """Flushes one provider in a thread of its own, which ends with the work; asked meanwhile, once more."""

    def __init__(self, provider: Any) -> None:
        self._provider = provider
        self._changed = threading.Condition()
        self._wanted = self._done = 0
        self._runs = False

    def ask(self) -> None:
        """Send what it holds now, soon."""
        with self._changed:
            self._wanted += 1
            if not self._runs:
                self._runs = True
                threading.Thread(target=self._work, name="rlm_ray telemetry flush", daemon=True).start()

    def wait(self, deadline: float) -> bool:
        """Wait until all that was asked for is done; return False where the time is over before."""
        with self._changed:
            wanted = self._wanted
            left = max(0.0, deadline - time.monotonic())
            return self._changed.wait_for(lambda: self._done >= wanted, left)

    def _work(self) -> None:
        while True:
            with self._changed:
                wanted = self._wanted
                if self._done == wanted:
                    self._runs = False
                    return
            try:
                self._provider.force_flush()
            except Exception:  # noqa: BLE001 - the SDK's trouble is not the run's
                _log.debug("flush failed", exc_info=True)
            with self._changed:
                self._done = wanted
                self._changed.notify_all()


def flush_async(flush_timeout_s: float, *providers: Any) -> None:
    """Have providers send what they hold, without waiting; the end of the process waits until `flush_timeout_s` from now."""
    global _last_deadline  # noqa: PLW0603 - the process has one end
    _last_deadline = max(_last_deadline, time.monotonic() + flush_timeout_s)
    for provider in providers:
        _all.setdefault(provider, BackgroundFlusher(provider)).ask()


def flush(flush_timeout_s: float, *providers: Any) -> bool:
    """Have providers send what they hold (none named: wait for all asked before); False when not done in time."""
    flush_async(0.0, *providers)
    deadline = time.monotonic() + flush_timeout_s
    waited = [_all[provider] for provider in providers] or list(_all.values())
    in_time = all(sending.wait(deadline) for sending in waited)
    if not in_time:
        _log.info("the collector did not take everything within %g s", flush_timeout_s)
    return in_time


@atexit.register
def flush_at_exit() -> None:
    """Wait for what is being sent, as long as the settings of the last runs allow."""
    for sending in _all.values():
        sending.wait(_last_deadline)
