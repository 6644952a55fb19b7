"""Spans and metrics of one run attempt, where the environment or the application wants them."""

from __future__ import annotations

import os
from typing import Any

from rlm_ray.config import Tracing
from rlm_ray.events.records import Record
from rlm_ray.tracing import conventions
from rlm_ray.tracing.exporters import flush_async, meter_provider_from_environment, provider_from_environment
from rlm_ray.tracing.metrics import Metrics
from rlm_ray.tracing.spans import parent_context, traceparent_of
from rlm_ray.tracing.tracer import Tracer


class RunTelemetry:
    """Makes spans and metrics of the records it is given, where they are wanted."""

    def __init__(
        self,
        tracer: Tracer | None,
        metrics: Metrics | None,
        to_flush: list[Any],
        options: Tracing,
        parent: str,
    ) -> None:
        self.traceparent = parent
        """The span that the run belongs to; empty where there is none."""
        self._tracer, self._metrics = tracer, metrics
        self._to_flush, self._options = to_flush, options

    @property
    def trace_id(self) -> str:
        """Return the trace id in hexadecimal; empty where no spans are made, and before the first record."""
        return self._tracer.trace_id if self._tracer is not None else ""

    def add(self, record: Record) -> None:
        """Add a record of the run."""
        if self._tracer is not None:
            self._tracer.add(record)
        if self._metrics is not None:
            self._metrics.add(record)

    def close(self) -> None:
        """End the spans; no more records come. What is left is sent behind the run."""
        if self._tracer is not None:
            self._tracer.finish()
        flush_async(self._options.flush_timeout_s, *self._to_flush)


def start_run_telemetry(run_id: str, options: Tracing, traceparent: str = "") -> RunTelemetry | None:
    """Start spans and metrics of a run; None where nobody asks for them."""
    spans, meters = provider_from_environment(), meter_provider_from_environment()
    if spans is None and meters is None:
        return None
    parent = parent_context(traceparent, os.environ)
    ours = [provider for provider, is_ours in filter(None, (spans, meters)) if is_ours]
    tracer = None
    if spans is not None:
        tracer = Tracer(
            spans[0],
            run_id,
            options=options,
            parent=parent,
            capture_content=conventions.asks_for_content(os.environ.get(conventions.CAPTURE_VARIABLE)),
        )
    metrics = Metrics(meters[0]) if meters is not None else None
    return RunTelemetry(tracer, metrics, ours, options, traceparent_of(parent))
