"""A run in the trace event format, which Perfetto (ui.perfetto.dev) and chrome://tracing open."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from rlm_ray.report.export.trace_layout import TraceSlice

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
