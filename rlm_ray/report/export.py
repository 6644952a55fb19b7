"""A run in the formats of other tools, made from its records at any time after it.

otlp    OTLP JSON: an OpenTelemetry collector's file format; all spans, by the tracer of the run, with the original times
chrome  trace events for ui.perfetto.dev and chrome://tracing, laid out in lanes of nested slices
jsonl   the records themselves, a line each

In one lane slices are either one after the other or inside each other. A child lies in its parent's lane where that
has room for it, so a run without parallel work is one lane; what runs beside it gets the first lane that is free.
"""

from __future__ import annotations

import base64
import heapq
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

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
from rlm_ray.events.records import Record, RunStarted, to_line
from rlm_ray.tracing import conventions as names
from rlm_ray.tracing.exporters import BATCH, SERVICE
from rlm_ray.tracing.tracer import Tracer


@dataclass(eq=False, slots=True)
class TraceSlice:
    """Something that took time; times in nanoseconds."""

    name: str
    start: int
    end: int
    parent: TraceSlice | None
    failed: bool = False
    attributes: Mapping[str, Any] = field(default_factory=dict)
    lane: int = 0

    @property
    def depth(self) -> int:
        return 0 if self.parent is None else 1 + self.parent.depth


def layout_spans(spans: Sequence[ReadableSpan]) -> list[TraceSlice]:
    """Lay out the spans with the waits of model calls as slices of their own, in lanes, by start."""
    made: dict[int, TraceSlice] = {}
    parents: dict[int, int] = {}
    for span in spans:
        identity = span.get_span_context()
        assert identity is not None
        assert span.start_time is not None
        assert span.end_time is not None
        failed = not span.status.is_unset and not span.status.is_ok
        made[identity.span_id] = TraceSlice(
            span.name, span.start_time, span.end_time, None, failed, dict(span.attributes or {})
        )
        if span.parent is not None:
            parents[identity.span_id] = span.parent.span_id
    for child, parent in parents.items():
        made[child].parent = made.get(parent)
    waits = [wait for call in made.values() for wait in _waits(call)]
    return _assign_lanes([*made.values(), *waits])


def _waits(call: TraceSlice) -> list[TraceSlice]:
    """Return what a model call waited for, one after the other, at its beginning."""
    found, at = [], call.start
    for name, attribute in (("wait: queue", names.QUEUE_WAIT_S), ("wait: rate", names.RATE_WAIT_S)):
        end = min(call.end, at + int(call.attributes.get(attribute, 0.0) * 1e9))
        if end > at:
            found.append(TraceSlice(name, at, end, call))
            at = end
    return found


def _assign_lanes(slices: list[TraceSlice]) -> list[TraceSlice]:
    """Put each slice in a lane, in linear-logarithmic time however many lanes there are."""
    slices.sort(key=lambda one: (one.start, -one.end, one.depth))
    open_: list[list[TraceSlice]] = []
    busy: list[tuple[int, int]] = []
    free: list[int] = []
    for one in slices:
        while busy and busy[0][0] <= one.start:
            heapq.heappush(free, heapq.heappop(busy)[1])
        if one.parent is not None and _fits_into_parent(one, open_[one.parent.lane]):
            one.lane = one.parent.lane
        else:
            if free:
                one.lane = heapq.heappop(free)
            else:
                one.lane = len(open_)
                open_.append([])
            open_[one.lane].clear()
            heapq.heappush(busy, (one.end, one.lane))
        open_[one.lane].append(one)
    return slices


def _fits_into_parent(one: TraceSlice, opened: list[TraceSlice]) -> bool:
    """Tell whether a slice lies inside its parent, which is the innermost that is open in its lane."""
    while opened and opened[-1] is not one.parent and opened[-1].end <= one.start:
        opened.pop()
    return bool(opened) and opened[-1] is one.parent and opened[-1].end >= one.end


_PROCESS = 1


def chrome_json(slices: Sequence[TraceSlice]) -> bytes:
    """Write complete events, one row for each lane; times in microseconds from the run's start."""
    first = min((one.start for one in slices), default=0)
    events = [_row(lane) for lane in sorted({one.lane for one in slices})]
    events += [_event(one, first) for one in slices]
    whole = {
        "traceEvents": events,
        "displayTimeUnit": "ms",
        "otherData": {"start_unix_s": first / 1e9, "made_by": "rlm_ray"},
    }
    return json.dumps(whole, ensure_ascii=False).encode() + b"\n"


def _row(lane: int) -> dict[str, Any]:
    return {
        "ph": "M",
        "name": "thread_name",
        "pid": _PROCESS,
        "tid": lane + 1,
        "args": {"name": f"lane {lane + 1}"},
    }


def _event(one: TraceSlice, first: int) -> dict[str, Any]:
    event = {
        "ph": "X",
        "name": one.name,
        "cat": "error" if one.failed else one.name.partition(" ")[0].rstrip(":"),
        "pid": _PROCESS,
        "tid": one.lane + 1,
        "ts": (one.start - first) / 1000,
        "dur": (one.end - one.start) / 1000,
        "args": dict(one.attributes),
    }
    if one.failed:
        event["cname"] = "terrible"
    return event


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


Format: TypeAlias = Literal["otlp", "chrome", "jsonl"]
FORMATS: tuple[str, ...] = get_args(Format)


def export(records: Iterable[Record], to: str, *, content: bool = False) -> bytes:
    """Write the run in this format; `content` adds questions, replies and code to spans. `jsonl` has what was
    recorded.
    """
    known = list(records)
    match to:
        case "jsonl":
            return b"".join(map(to_line, known))
        case "otlp":
            return otlp_json(spans_of(known, content=content))
        case "chrome":
            return chrome_json(layout_spans(spans_of(known, content=content)))
        case _:
            raise InputError("format", f"must be one of {', '.join(FORMATS)}; got {to!r}")


__all__ = ["FORMATS", "Format", "export", "send_otlp"]
