"""The metrics of a run, made from its records through the public OpenTelemetry API."""

from __future__ import annotations

from opentelemetry.metrics import Counter, Histogram, Meter, MeterProvider, UpDownCounter

from rlm_ray.core.measures import INSTRUMENTS, Instrument, Measures
from rlm_ray.core.records import Record
from rlm_ray.tracing import conventions as names


class Metrics:
    """Takes the records of one run and counts what they measure."""

    def __init__(self, provider: MeterProvider) -> None:
        meter = provider.get_meter(names.SCOPE, schema_url=names.SCHEMA_URL)
        self._instruments = {name: _create(meter, name, kind) for name, kind in INSTRUMENTS.items()}
        self._measures = Measures()
        self._ids: set[str] = set()

    def add(self, record: Record) -> None:
        """Count a record; one that was heard before is not counted again."""
        if record.id:
            if record.id in self._ids:
                return
            self._ids.add(record.id)
        for found in self._measures.add(record):
            instrument = self._instruments[found.name]
            count = instrument.record if isinstance(instrument, Histogram) else instrument.add
            count(found.value, dict(found.attributes))


def _create(meter: Meter, name: str, instrument: Instrument) -> Counter | Histogram | UpDownCounter:
    match instrument.kind:
        case "histogram":
            return meter.create_histogram(
                name,
                instrument.unit,
                instrument.description,
                explicit_bucket_boundaries_advisory=instrument.buckets,
            )
        case "counter":
            return meter.create_counter(name, instrument.unit, instrument.description)
        case "up_down_counter":
            return meter.create_up_down_counter(name, instrument.unit, instrument.description)
