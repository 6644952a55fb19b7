"""An exporter that a dead collector cannot make loud or slow.

The first failure is one warning; while the collector is given a rest, batches are dropped at once, so the queue
never fills; then it is tried again. A port nobody listens on is found out without the exporter's many retries. What the exporter itself logs of our batches goes to the debug level.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

COOLDOWN_S = 30.0
PROBE_S = 1.0
_LOUD = (
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.exporter.otlp.proto.http.metric_exporter",
)

_log = logging.getLogger(__name__)
_ours = threading.local()
_Result = TypeVar("_Result")


class _SuppressExporterLogs(logging.Filter):
    """Keeps what is logged while a batch of ours is sent; others' exporters speak as before."""

    def filter(self, record: logging.LogRecord) -> bool:
        if not getattr(_ours, "sending", False):
            return True
        _log.debug("%s", record.getMessage())
        return False


_HUSH = _SuppressExporterLogs()


class Breaker:
    """Decides whether a collector is worth trying, and warns once that it is not."""

    def __init__(self, what: str, endpoint: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._what = what
        self._endpoint = endpoint
        self._clock = clock
        self._rest_until = 0.0
        self._warned = False
        self._trusted = False
        """The last batch was taken."""
        for name in _LOUD:
            logging.getLogger(name).addFilter(_HUSH)  # the same one again changes nothing

    def call(self, work: Callable[[], _Result], good: _Result, bad: _Result) -> _Result:
        """Do the work unless the circuit is open; return `bad` without trying then."""
        if self._clock() < self._rest_until:
            return bad
        if not self._trusted and not port_is_open(self._endpoint):
            return self._failed(bad, "nobody listens there")
        _ours.sending = True
        try:
            found = work()
        except Exception as error:  # noqa: BLE001 - whatever an exporter does, a run goes on
            return self._failed(bad, repr(error))
        finally:
            _ours.sending = False
        if found != good:
            return self._failed(bad, "it does not answer, or refuses them")
        self._trusted, self._warned = True, False
        return found

    def _failed(self, bad: _Result, why: str) -> _Result:
        self._trusted = False
        self._rest_until = self._clock() + COOLDOWN_S
        if not self._warned:
            self._warned = True
            _log.warning("%s cannot be sent to %s: %s; runs go on without", self._what, self._endpoint, why)
        return bad


def port_is_open(endpoint: str) -> bool:
    """Return False where a connection is refused; True where that cannot be known, as behind a proxy."""
    parts = urlsplit(endpoint)
    if parts.hostname is None or requests.utils.get_environ_proxies(endpoint):
        return True
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((parts.hostname, port), timeout=PROBE_S).close()
    except ConnectionRefusedError:
        return False
    except (OSError, ValueError):
        return True
    return True


class CircuitBreakerSpanExporter(SpanExporter):
    """Exports spans through a breaker."""

    def __init__(self, inner: SpanExporter, endpoint: str) -> None:
        self._inner = inner
        self._breaker = Breaker("spans", endpoint)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        good, bad = SpanExportResult.SUCCESS, SpanExportResult.FAILURE
        return self._breaker.call(lambda: self._inner.export(spans), good, bad)

    def shutdown(self) -> None:
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._inner.force_flush(timeout_millis)


class CircuitBreakerMetricExporter(MetricExporter):
    """Exports metrics through a breaker."""

    def __init__(self, inner: MetricExporter, endpoint: str) -> None:
        super().__init__(
            preferred_temporality=inner._preferred_temporality,  # noqa: SLF001 - how a reader asks for it, too
            preferred_aggregation=inner._preferred_aggregation,  # noqa: SLF001
        )
        self._inner = inner
        self._breaker = Breaker("metrics", endpoint)

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any
    ) -> MetricExportResult:
        good, bad = MetricExportResult.SUCCESS, MetricExportResult.FAILURE
        return self._breaker.call(
            lambda: self._inner.export(metrics_data, timeout_millis, **kwargs), good, bad
        )

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        self._inner.shutdown(timeout_millis, **kwargs)

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return self._inner.force_flush(timeout_millis)
