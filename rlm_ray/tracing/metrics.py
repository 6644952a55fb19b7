"""The metrics of a run, made from its records through the public OpenTelemetry API."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from functools import partial
from weakref import WeakKeyDictionary

from opentelemetry.metrics import CallbackOptions, Histogram, Meter, MeterProvider, Observation

from rlm_ray.events.metrics import INSTRUMENTS, Instrument, Measurement, MetricsReducer
from rlm_ray.events.records import Record
from rlm_ray.tracing import conventions as names


class Metrics:
    """Takes the records of one run and counts what they measure."""

    def __init__(self, provider: MeterProvider) -> None:
        self._counts = _counts_of(provider)
        self._measures = MetricsReducer()
        self._ids: set[str] = set()

    def add(self, record: Record) -> None:
        """Count a record; one that was counted before is not counted again."""
        if record.id:
            if record.id in self._ids:
                return
            self._ids.add(record.id)
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
