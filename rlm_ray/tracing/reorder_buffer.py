"""Records in the order of their times, although they arrive from many actors.

A record is held until another one that is `REORDER_WINDOW_S` later has come: what arrives less late than that is in its
place, so the same records give the same spans in whatever order they come.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from rlm_ray.events.records import (
    CallEnded,
    CallSent,
    CellEnded,
    MapEnded,
    MapOpened,
    Record,
    RunFinished,
    RunStarted,
    SessionEnded,
    SessionOpened,
    ToolEnded,
)

REORDER_WINDOW_S = 5.0

_RANK = {
    kind: place
    for place, kind in enumerate(
        (
            RunStarted,
            SessionOpened,
            MapOpened,
            CallSent,
            CallEnded,
            ToolEnded,
            CellEnded,
            MapEnded,
            SessionEnded,
            RunFinished,
        )
    )
}
"""Beginnings before ends where the times are the same."""


class ReorderBuffer:
    """Holds records back for a little, and gives them out in order."""

    def __init__(self, hold_s: float = REORDER_WINDOW_S) -> None:
        self._hold_s = hold_s
        self._heap: list[tuple[tuple[object, ...], Record]] = []
        self._latest = 0.0
        self._count = 0

    def add(self, record: Record) -> Iterator[Record]:
        """Take one in; those that need not wait longer come out."""
        self._count += 1
        path, number = getattr(record, "path", ()), _number(record)
        key = (record.at, _RANK[type(record)], path, number, self._count)
        heapq.heappush(self._heap, (key, record))
        self._latest = max(self._latest, record.at)
        while self._heap and self._heap[0][1].at <= self._latest - self._hold_s:
            yield heapq.heappop(self._heap)[1]

    def flush(self) -> Iterator[Record]:
        """Yield all that is still held."""
        while self._heap:
            yield heapq.heappop(self._heap)[1]


def _number(record: Record) -> int:
    """Return what tells apart what one node did at one time."""
    match record:
        case CallSent() | CallEnded():
            return record.call
        case CellEnded():
            return record.turn
        case ToolEnded():
            return record.number
        case MapOpened() | MapEnded():
            return record.first
        case SessionOpened() | SessionEnded():
            return record.attempt
        case _:
            return 0
