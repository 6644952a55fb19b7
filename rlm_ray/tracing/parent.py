"""The span a run belongs to: the caller's own, or one of another process, named by the W3C `traceparent`."""

from __future__ import annotations

from collections.abc import Mapping

from opentelemetry.context import Context, get_current
from opentelemetry.trace import SpanContext, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator


def parent_context(traceparent: str | None = None, environment: Mapping[str, str] | None = None) -> Context:
    """The context of a run's parent: `traceparent`, else `TRACEPARENT` of the environment, else what is current here.

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


def span_named(traceparent: str) -> SpanContext | None:
    """The span a W3C `traceparent` names; None where it is not valid."""
    context = TraceContextTextMapPropagator().extract({"traceparent": traceparent.strip()}, context=Context())
    found = get_current_span(context).get_span_context()
    return found if found.is_valid else None


def traceparent_of(context: Context) -> str:
    """The span of a context as a W3C `traceparent`; empty where there is none."""
    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier, context=context)
    return carrier.get("traceparent", "")
