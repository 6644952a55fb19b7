"""The measurements of a run's records, for Ray: its dashboard and its Prometheus endpoint show them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from ray.util import metrics

from rlm_ray.events.metrics import INSTRUMENTS, Instrument, Measurement, MetricsReducer
from rlm_ray.events.records import Record

TAGS = ("model", "error")
"""Few, and of few values: each combination is a series of its own."""
GAUGE_INTERVAL_S = 0.5


class RayMetrics:
    """Feeds `ray.util.metrics` with what one process writes down."""

    def __init__(self) -> None:
        self._instruments = {name: _instrument(name, kind) for name, kind in INSTRUMENTS.items()}
        self._gauges: dict[tuple[str, str], float] = {}
        self._showing: asyncio.TimerHandle | None = None

    def observer(self) -> Callable[[Record], None]:
        """Return what takes the measurements of one run's records."""
        measures = MetricsReducer()

        def observe(record: Record) -> None:
            for found in measures.add(record):
                self._count(found)

        return observe

    def _count(self, found: Measurement) -> None:
        instrument = self._instruments[found.name]
        tags = {
            "model": str(found.attributes.get("gen_ai.request.model", "")),
            "error": str(found.attributes.get("error.type", "")),
        }
        match instrument:
            case metrics.Histogram():
                instrument.observe(found.value, tags)
            case metrics.Counter():
                if found.value > 0:  # Ray refuses a zero
                    instrument.inc(found.value, tags)
            case _:
                key = (found.name, tags["model"])
                self._gauges[key] = self._gauges.get(key, 0.0) + found.value
                self._show_soon()

    def _show_soon(self) -> None:
        """Set the gauges a little later: a level changes twice with every call, and is looked at every few seconds."""
        if self._showing is None:
            self._showing = asyncio.get_running_loop().call_later(GAUGE_INTERVAL_S, self._show)

    def _show(self) -> None:
        self._showing = None
        for (name, model), level in self._gauges.items():
            self._instruments[name].set(level, {"model": model, "error": ""})


def _instrument(name: str, instrument: Instrument) -> Any:
    plain = name.replace(".", "_")
    match instrument.kind:
        case "histogram":
            buckets = [bucket for bucket in instrument.buckets if bucket > 0] or [0.01, 0.1, 1, 10, 100, 1000]
            return metrics.Histogram(plain, instrument.description, boundaries=buckets, tag_keys=TAGS)
        case "counter":
            return metrics.Counter(plain, instrument.description, tag_keys=TAGS)
        case "up_down_counter":
            return metrics.Gauge(plain, instrument.description, tag_keys=TAGS)
