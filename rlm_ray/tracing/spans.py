"""Spans with times of our own, through the public OpenTelemetry API only.

The span a run belongs to: the caller's own, or one of another process, named by the W3C `traceparent`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from opentelemetry.context import Context, get_current
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TracerProvider,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from rlm_ray.tracing import conventions as names
from rlm_ray.tracing.attributes import Attributes, Failure, truncate_all, truncate_utf8

LONGEST_NAME = 256


class ActiveSpan:
    """A span that was started; once ended only its place in the tree is kept."""

    __slots__ = ("_span", "context", "ended", "started")

    def __init__(self, span: Span, started: float) -> None:
        self._span = span
        self.context = set_span_in_context(span, Context())
        """For spans below it."""
        self.started = started
        self.ended: float | None = None
        """Unix time; None while it goes on."""

    @property
    def span_context(self) -> SpanContext:
        return self._span.get_span_context()

    def event(self, name: str, at: float, attributes: Attributes) -> None:
        self._span.add_event(name, attributes, nanoseconds(at))

    def end(self, at: float, attributes: Attributes | None = None, failure: Failure | None = None) -> None:
        """End it, as an error where there is a failure; a second end changes nothing."""
        if self.ended is not None:
            return
        if attributes:
            self._span.set_attributes(attributes)
        if failure is not None:
            self._span.set_attributes(truncate_all({names.ERROR_TYPE: failure.kind}))
            message = f"{failure.kind}: {failure.why}" if failure.why else failure.kind
            self._span.set_status(Status(StatusCode.ERROR, truncate_utf8(message)))
        self.ended = max(at, self.started)
        self._span.end(nanoseconds(self.ended))
        self._span = NonRecordingSpan(self.span_context)  # the other one would keep all it said in memory
        self.context = set_span_in_context(self._span, Context())


class Spans:
    """Starts spans of one provider."""

    def __init__(self, provider: TracerProvider) -> None:
        self._tracer = provider.get_tracer(names.SCOPE, schema_url=names.SCHEMA_URL)

    def start(  # noqa: PLR0913 - what a span is
        self,
        name: str,
        at: float,
        attributes: Attributes,
        parent: Context,
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        links: Sequence[SpanContext] = (),
    ) -> ActiveSpan:
        span = self._tracer.start_span(
            truncate_utf8(name, LONGEST_NAME),
            context=parent,
            kind=kind,
            attributes=attributes,
            links=[Link(to) for to in links],
            start_time=nanoseconds(at),
        )
        return ActiveSpan(span, at)


def nanoseconds(at: float) -> int:
    """Return nanoseconds of a Unix time in seconds."""
    return int(at * 1e9)


def parent_context(traceparent: str | None = None, environment: Mapping[str, str] | None = None) -> Context:
    """Return the context of a run's parent: `traceparent`, else `TRACEPARENT` of the environment, else what is
    current here.

    What is not valid is ignored, as the W3C says; so is a `tracestate` without its parent.
    """
    environment = environment or {}
    for parent, state in (
        (traceparent, None),
        (environment.get("TRACEPARENT"), environment.get("TRACESTATE")),
    ):
        carrier = {"traceparent": (parent or "").strip()} | ({"tracestate": state} if state else {})
        found = TraceContextTextMapPropagator().extract(carrier, context=Context())
        if get_current_span(found).get_span_context().is_valid:
            return found
    return get_current()


def parse_traceparent(traceparent: str) -> SpanContext | None:
    """Return the span a W3C `traceparent` names; None where it is not valid."""
    context = TraceContextTextMapPropagator().extract({"traceparent": traceparent.strip()}, context=Context())
    found = get_current_span(context).get_span_context()
    return found if found.is_valid else None


def traceparent_of(context: Context) -> str:
    """Return the span of a context as a W3C `traceparent`; empty where there is none."""
    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier, context=context)
    return carrier.get("traceparent", "")
