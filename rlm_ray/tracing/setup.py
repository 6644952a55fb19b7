"""Spans and metrics of one run attempt, made from its records, where the environment or the application wants them."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from opentelemetry.metrics import CallbackOptions, Histogram, Meter, MeterProvider, Observation

from rlm_ray.config import Tracing
from rlm_ray.events.metrics import INSTRUMENTS, Instrument, Measurement, MetricsReducer
from rlm_ray.events.records import Record
from rlm_ray.events.tree import SeenRecords
from rlm_ray.tracing import conventions
from rlm_ray.tracing import conventions as names
from rlm_ray.tracing.exporters import flush_async, meter_provider_from_environment, provider_from_environment
from rlm_ray.tracing.spans import parent_context, traceparent_of
from rlm_ray.tracing.tracer import Tracer


class Metrics:
    """Takes the records of one run and counts what they measure."""

    def __init__(self, provider: MeterProvider) -> None:
        self._counts = _counts_of(provider)
        self._measures = MetricsReducer()
        self._seen = SeenRecords()

    def add(self, record: Record) -> None:
        """Count a record; one that was counted before is not counted again."""
        if not self._seen.is_new(record):
            return
        for found in self._measures.add(record):
            self._counts.add(found)


class _Counts:
    """The instruments of one provider, for all runs. Sums are kept here and observed: adding one up costs the SDK 15 us."""

    def __init__(self, meter: Meter) -> None:
        self._histograms: dict[str, Histogram] = {}
        self._sums: dict[str, dict[frozenset[tuple[str, object]], Measurement]] = defaultdict(dict)
        for name, kind in INSTRUMENTS.items():
            self._create(meter, name, kind)

    def add(self, found: Measurement) -> None:
        if found.name in self._histograms:
            self._histograms[found.name].record(found.value, found.attributes)
            return
        sums, key = self._sums[found.name], frozenset(found.attributes.items())
        before = sums[key].value if key in sums else 0.0
        sums[key] = Measurement(found.name, before + found.value, found.attributes)

    def _create(self, meter: Meter, name: str, instrument: Instrument) -> None:
        unit, description = instrument.unit, instrument.description
        observed = [partial(self._observed, name)]
        match instrument.kind:
            case "histogram":
                self._histograms[name] = meter.create_histogram(
                    name, unit, description, explicit_bucket_boundaries_advisory=instrument.buckets
                )
            case "counter":
                meter.create_observable_counter(name, observed, unit, description)
            case "up_down_counter":
                meter.create_observable_up_down_counter(name, observed, unit, description)

    def _observed(self, name: str, _: CallbackOptions) -> Iterable[Observation]:
        """Return what the thread that exports asks for."""
        return [Observation(found.value, found.attributes) for found in tuple(self._sums[name].values())]


_known: WeakKeyDictionary[MeterProvider, _Counts] = WeakKeyDictionary()


def _counts_of(provider: MeterProvider) -> _Counts:
    if provider not in _known:
        _known[provider] = _Counts(provider.get_meter(names.SCOPE, schema_url=names.SCHEMA_URL))
    return _known[provider]


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
