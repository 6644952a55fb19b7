"""An OpenTelemetry collector on loopback for tests: takes OTLP over HTTP and keeps what it was sent as plain values.

    with OtlpReceiver() as collector:
        os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = collector.url
        ...
        assert [span.name for span in collector.spans] == [...]

It can be told to hang, or to refuse everything with a status.
"""

from __future__ import annotations

import gzip
import threading
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

_CODES = {Status.STATUS_CODE_UNSET: "unset", Status.STATUS_CODE_OK: "ok", Status.STATUS_CODE_ERROR: "error"}


@dataclass(frozen=True, slots=True)
class ReceivedEvent:
    """Something that happened in a span."""

    name: str
    at: int
    attributes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ReceivedLink:
    """Another span this one points to."""

    trace_id: str
    span_id: str


@dataclass(frozen=True, slots=True)
class ReceivedSpan:
    """A span as it came over the wire; ids in hexadecimal, times in nanoseconds."""

    trace_id: str
    span_id: str
    parent_id: str
    """Empty for the root of a trace."""
    name: str
    kind: str
    """`internal`, `client` ..."""
    start: int
    end: int
    status: str
    """`unset`, `ok` or `error`."""
    message: str
    attributes: Mapping[str, Any]
    events: tuple[ReceivedEvent, ...] = ()
    links: tuple[ReceivedLink, ...] = ()
    resource: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ReceivedPoint:
    """A data point of a metric: a sum, or a histogram's sum and count."""

    name: str
    unit: str
    attributes: Mapping[str, Any]
    value: float
    count: int | None = None
    """Of a histogram."""
    bounds: tuple[float, ...] = ()


class OtlpReceiver:
    """Listens while the `with` block lasts."""

    def __init__(self, *, hang: bool = False, status: int = 200) -> None:
        self.status = status
        """What every request is answered with; other than 200 it is not kept."""
        self.requests = 0
        self._spans: list[ReceivedSpan] = []
        self._points: list[ReceivedPoint] = []
        self._lock = threading.Lock()
        self._go = threading.Event()
        if not hang:
            self._go.set()
        self._server = _Server(self)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.resume()
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        """Return the address for `OTEL_EXPORTER_OTLP_ENDPOINT`."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def spans(self) -> tuple[ReceivedSpan, ...]:
        with self._lock:
            return tuple(self._spans)

    @property
    def points(self) -> tuple[ReceivedPoint, ...]:
        with self._lock:
            return tuple(self._points)

    def hang(self) -> None:
        """Accept requests and answer none."""
        self._go.clear()

    def resume(self) -> None:
        """Answer those that hang, and all that come."""
        self._go.set()

    def clear(self) -> None:
        with self._lock:
            self._spans.clear()
            self._points.clear()
            self.requests = 0

    def take(self, path: str, body: bytes) -> bytes:
        """Keep what a request brought; the body of its answer."""
        with self._lock:
            self.requests += 1
        self._go.wait()
        if self.status != 200:
            return b""
        if path.endswith("/v1/metrics"):
            points = list(_points(ExportMetricsServiceRequest.FromString(body)))
            with self._lock:
                self._points += points
            return bytes(ExportMetricsServiceResponse().SerializeToString())
        spans = list(decode_spans(body))
        with self._lock:
            self._spans += spans
        return bytes(ExportTraceServiceResponse().SerializeToString())


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, receiver: OtlpReceiver) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.receiver = receiver


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        answer = self.server.receiver.take(self.path, _plain(body, self.headers.get("content-encoding", "")))
        try:
            self.send_response(self.server.receiver.status)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)
        except OSError:
            self.close_connection = True  # the client has gone, as it does when it was made to wait

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
        """Log nothing."""


def decode_spans(body: bytes) -> Iterable[ReceivedSpan]:
    """Yield the spans of a serialized `ExportTraceServiceRequest`."""
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        who = _attributes(resource.resource.attributes)
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield _span(span, who)


def _span(span: Span, resource: Mapping[str, Any]) -> ReceivedSpan:
    return ReceivedSpan(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        name=span.name,
        kind=Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
        start=span.start_time_unix_nano,
        end=span.end_time_unix_nano,
        status=_CODES[span.status.code],
        message=span.status.message,
        attributes=_attributes(span.attributes),
        events=tuple(ReceivedEvent(e.name, e.time_unix_nano, _attributes(e.attributes)) for e in span.events),
        links=tuple(ReceivedLink(link.trace_id.hex(), link.span_id.hex()) for link in span.links),
        resource=resource,
    )


def _points(request: ExportMetricsServiceRequest) -> Iterable[ReceivedPoint]:
    for resource in request.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                yield from _points_of(metric)


def _points_of(metric: Metric) -> Iterable[ReceivedPoint]:
    for bucketed in metric.histogram.data_points:
        yield ReceivedPoint(
            metric.name,
            metric.unit,
            _attributes(bucketed.attributes),
            bucketed.sum,
            bucketed.count,
            tuple(bucketed.explicit_bounds),
        )
    for number in (*metric.sum.data_points, *metric.gauge.data_points):
        value = number.as_int if number.WhichOneof("value") == "as_int" else number.as_double
        yield ReceivedPoint(metric.name, metric.unit, _attributes(number.attributes), value)


def _attributes(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return tuple(_value(item) for item in value.array_value.values)
    return None if kind is None else getattr(value, kind)


def _plain(body: bytes, encoding: str) -> bytes:
    match encoding:
        case "gzip":
            return gzip.decompress(body)
        case "deflate":
            return zlib.decompress(body)
        case _:
            return body
