"""A run as OpenTelemetry spans: all of them, made by the same tracer as when it ran, with the times it ran at."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Sequence
from typing import Any

from google.protobuf.json_format import MessageToDict  # type: ignore[import-untyped]  # protobuf has no stubs
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from rlm_ray.config import Tracing
from rlm_ray.errors import InputError
from rlm_ray.events.records import Record, RunStarted
from rlm_ray.tracing.exporters import BATCH, SERVICE
from rlm_ray.tracing.tracer import Tracer

EVERYTHING = Tracing(max_spans_per_map=10**9, max_sessions_per_trace=10**9)
_IDS = ("traceId", "spanId", "parentSpanId")


def spans_of(
    records: Iterable[Record], *, content: bool = False, options: Tracing = EVERYTHING
) -> tuple[ReadableSpan, ...]:
    """Make the spans of a run; `content` puts questions, replies and code on them, where they were recorded."""
    known = list(records)
    run_id = next((record.run_id for record in known if isinstance(record, RunStarted)), "")
    exporter = InMemorySpanExporter()
    provider = TracerProvider(ALWAYS_ON, Resource.create({"service.name": SERVICE}), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = Tracer(provider, run_id, options=options, capture_content=content)
    for record in known:
        tracer.add(record)
    tracer.finish()
    return exporter.get_finished_spans()


def otlp_json(spans: Sequence[ReadableSpan]) -> bytes:
    """Write one `ExportTraceServiceRequest` in the OTLP JSON encoding, as collectors' file receivers read it."""
    plain = MessageToDict(encode_spans(spans), use_integers_for_enums=True)
    return json.dumps(_with_hex_ids(plain), ensure_ascii=False).encode() + b"\n"


def send_otlp(
    records: Iterable[Record], endpoint: str, *, content: bool = False, options: Tracing = EVERYTHING
) -> int:
    """Send a run to an OTLP/HTTP endpoint; the number of spans. Raises `InputError` where it does not take them."""
    url = traces_url(endpoint)
    spans = spans_of(records, content=content, options=options)
    exporter = OTLPSpanExporter(endpoint=url)
    try:
        for start in range(0, len(spans), BATCH):
            if exporter.export(spans[start : start + BATCH]) is not SpanExportResult.SUCCESS:
                raise InputError(url, f"takes no OTLP over HTTP: {start:,} of {len(spans):,} spans were sent")
    finally:
        exporter.shutdown()  # type: ignore[no-untyped-call]  # as the SDK has it
    return len(spans)


def traces_url(endpoint: str) -> str:
    """Return the URL of traces for `http://host:4318`, or the whole URL as it is."""
    base = endpoint.rstrip("/")
    return base if base.endswith("/v1/traces") else f"{base}/v1/traces"


def _with_hex_ids(value: Any) -> Any:
    """Write ids in hexadecimal, as OTLP wants them; protobuf's JSON has bytes in base64."""
    match value:
        case dict():
            return {
                key: base64.b64decode(inner).hex() if key in _IDS else _with_hex_ids(inner)
                for key, inner in value.items()
            }
        case list():
            return [_with_hex_ids(inner) for inner in value]
        case _:
            return value
