"""The spans of a run laid out in lanes, for viewers that draw rows of nested slices.

In one lane slices are either one after the other or inside each other. A child lies in its parent's lane where that
has room for it, so a run without parallel work is one lane; what runs beside it gets the first lane that is free.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan

from rlm_ray.tracing import conventions as names


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
    return _laid_out([*made.values(), *waits])


def _waits(call: TraceSlice) -> list[TraceSlice]:
    """Return what a model call waited for, one after the other, at its beginning."""
    found, at = [], call.start
    for name, attribute in (("wait: queue", names.QUEUE_WAIT_S), ("wait: rate", names.RATE_WAIT_S)):
        end = min(call.end, at + int(call.attributes.get(attribute, 0.0) * 1e9))
        if end > at:
            found.append(TraceSlice(name, at, end, call))
            at = end
    return found


def _laid_out(slices: list[TraceSlice]) -> list[TraceSlice]:
    """Put each slice in a lane, in linear-logarithmic time however many lanes there are."""
    slices.sort(key=lambda one: (one.start, -one.end, one.depth))
    open_: list[list[TraceSlice]] = []
    busy: list[tuple[int, int]] = []
    free: list[int] = []
    for one in slices:
        while busy and busy[0][0] <= one.start:
            heapq.heappush(free, heapq.heappop(busy)[1])
        if one.parent is not None and _nests(one, open_[one.parent.lane]):
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


def _nests(one: TraceSlice, opened: list[TraceSlice]) -> bool:
    """Tell whether a slice lies inside its parent, which is the innermost that is open in its lane."""
    while opened and opened[-1] is not one.parent and opened[-1].end <= one.start:
        opened.pop()
    return bool(opened) and opened[-1] is one.parent and opened[-1].end >= one.end
