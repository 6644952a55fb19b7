"""A run for speedscope.app: where the time went, and what happened when.

The first profile adds up the time of all that ran, parallel or not, by its place in the tree; then one profile for
each lane tells what happened in it, in order.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from rlm_ray.report.export.trace_layout import TraceSlice

_SCHEMA = "https://www.speedscope.app/file-format-schema.json"


class _Frames:
    """Numbers for names."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def __getitem__(self, one: TraceSlice) -> int:
        return self._numbers.setdefault(
            f"{one.name} (failed)" if one.failed else one.name, len(self._numbers)
        )

    def listed(self) -> list[dict[str, str]]:
        return [{"name": name} for name in self._numbers]


def speedscope_json(slices: Sequence[TraceSlice], name: str) -> bytes:
    """Write a file of speedscope's own format."""
    frames = _Frames()
    first = min((one.start for one in slices), default=0)
    lanes: dict[int, list[TraceSlice]] = defaultdict(list)
    for one in slices:
        lanes[one.lane].append(one)
    profiles = [
        _aggregate_profile(slices, frames),
        *(_lane(number, lanes[number], frames, first) for number in sorted(lanes)),
    ]
    whole = {
        "$schema": _SCHEMA,
        "name": name,
        "exporter": "rlm_ray",
        "activeProfileIndex": 0,
        "shared": {"frames": frames.listed()},
        "profiles": profiles,
    }
    return json.dumps(whole, ensure_ascii=False).encode() + b"\n"


def _aggregate_profile(slices: Sequence[TraceSlice], frames: _Frames) -> dict[str, Any]:
    """Make one sample for each place in the tree, weighed by the time that nothing below it ran."""
    below: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for one in slices:
        if one.parent is not None:
            below[id(one.parent)].append((max(one.start, one.parent.start), min(one.end, one.parent.end)))
    weights: dict[tuple[int, ...], int] = defaultdict(int)
    for one in slices:
        weights[_stack(one, frames)] += one.end - one.start - _covered(below[id(one)])
    return {
        "type": "sampled",
        "name": "all time, added up",
        "unit": "nanoseconds",
        "startValue": 0,
        "endValue": sum(weights.values()),
        "samples": [list(stack) for stack in weights],
        "weights": list(weights.values()),
    }


def _lane(number: int, slices: Iterable[TraceSlice], frames: _Frames, first: int) -> dict[str, Any]:
    events: list[dict[str, Any]] = []
    opened: list[TraceSlice] = []

    def close(until: int) -> None:
        while opened and opened[-1].end <= until:
            last = opened.pop()
            events.append({"type": "C", "frame": frames[last], "at": last.end - first})

    for one in slices:
        close(one.start)
        opened.append(one)
        events.append({"type": "O", "frame": frames[one], "at": one.start - first})
    close(max(one.end for one in opened))
    return {
        "type": "evented",
        "name": f"lane {number + 1}",
        "unit": "nanoseconds",
        "startValue": events[0]["at"],
        "endValue": events[-1]["at"],
        "events": events,
    }


def _stack(one: TraceSlice, frames: _Frames) -> tuple[int, ...]:
    found = []
    at: TraceSlice | None = one
    while at is not None:
        found.append(frames[at])
        at = at.parent
    return tuple(reversed(found))


def _covered(intervals: list[tuple[int, int]]) -> int:
    """Return how long at least one of the intervals lasts."""
    total, reached = 0, None
    for start, end in sorted(intervals):
        begin = start if reached is None else max(start, reached)
        total += max(0, end - begin)
        reached = end if reached is None else max(reached, end)
    return total
