"""Which of a map's plain calls get spans of their own, in memory that does not grow with the map.

At most `bound`: errors first, then the slowest, the costliest, and an even sample of the others. The choice does
not depend on the order the calls end in.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable
from typing import TypeAlias

from rlm_ray.events.records import CallEnded

_Key: TypeAlias = "tuple[int, int, float]"
"""A leaf that was sent again after its actor died has two ends."""


class CallSampler:
    """The leaves worth a span, of `count` with ordinals from `first`."""

    def __init__(self, first: int, count: int, bound: int) -> None:
        self._first = first
        self._bound = bound
        self._stride = max(1, math.ceil(count / bound)) if bound else 0
        self._errors = TopK(bound)
        self._slowest = TopK(bound // 4)
        self._costliest = TopK(bound // 4)
        self._even = TopK(bound)

    def add(self, call: CallEnded) -> None:
        ordinal = call.path[-1]
        if call.error_kind:
            self._errors.add((-ordinal,), call)
        self._slowest.add((call.at - call.started, -ordinal), call)
        if call.cost_usd:
            self._costliest.add((call.cost_usd, -ordinal), call)
        if self._stride and (ordinal - self._first) % self._stride == 0:
            self._even.add((-ordinal,), call)

    def selected(self) -> list[CallEnded]:
        """Return the chosen calls by ordinal."""
        kept: dict[_Key, CallEnded] = {}
        for group in (self._errors, self._slowest, self._costliest):
            self._keep(kept, group.items())
        others = [call for call in self._even.items() if _key(call) not in kept]
        self._keep(kept, _evenly(others, self._bound - len(kept)))
        return sorted(kept.values(), key=_key)

    def _keep(self, kept: dict[_Key, CallEnded], calls: Iterable[CallEnded]) -> None:
        for call in calls:
            if len(kept) >= self._bound:
                return
            kept.setdefault(_key(call), call)


class TopK:
    """The few with the largest keys."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._heap: list[tuple[tuple[float, ...], int, CallEnded]] = []
        self._count = 0

    def add(self, key: tuple[float, ...], call: CallEnded) -> None:
        self._count += 1  # so that equal keys never compare calls
        if len(self._heap) < self._most:
            heapq.heappush(self._heap, (key, self._count, call))
        elif self._heap and key > self._heap[0][0]:
            heapq.heapreplace(self._heap, (key, self._count, call))

    def items(self) -> list[CallEnded]:
        """Return the calls, the largest first."""
        return [call for _, _, call in sorted(self._heap, key=lambda entry: entry[0], reverse=True)]


def _key(call: CallEnded) -> _Key:
    return call.path[-1], call.call, call.at


def _evenly(calls: list[CallEnded], count: int) -> list[CallEnded]:
    if count <= 0:
        return []
    if len(calls) <= count:
        return calls
    return [calls[place * len(calls) // count] for place in range(count)]
