"""What each row of a job has used, from the records as they come."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rlm_ray.core.records import CallEnded, Record, SessionEnded
from rlm_ray.core.tallies import tally_of
from rlm_ray.core.usage import RunUsage, Tallies

PATIENCE_S = 10.0


@dataclass(slots=True)
class _Row:
    sums: Tallies = field(default_factory=Tallies)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    sessions: int = 0


class RowUsage:
    """An observer. Nothing is kept of rows that nobody watches."""

    def __init__(self) -> None:
        self._rows: dict[int, _Row] = {}

    @contextmanager
    def watching(self, rows: Iterable[int]) -> Iterator[None]:
        """These rows are asked inside of the block."""
        watched = {row: _Row() for row in rows}
        self._rows |= watched
        try:
            yield
        finally:
            for row in watched:
                self._rows.pop(row, None)

    def add(self, record: Record) -> None:
        """Take a record in. A row ends with its session, or with the one plain call that it is."""
        if not isinstance(record, CallEnded | SessionEnded) or not record.path:
            return
        row = self._rows.get(record.path[0])
        if row is None:
            return
        depth = len(record.path) - 1
        if isinstance(record, SessionEnded):
            row.sessions += not depth
        elif not record.cache_hit:
            row.sums.add(record.model, depth, tally_of(record))
        if not depth and (isinstance(record, SessionEnded) or record.role == "leaf"):
            row.ended.set()

    async def of(self, row: int) -> RunUsage:
        """Of a watched row that has ended; waits until its last record has come."""
        watched = self._rows[row]
        try:
            async with asyncio.timeout(PATIENCE_S):
                await watched.ended.wait()
        except TimeoutError:
            pass  # what has come so far
        return RunUsage(watched.sums.rows(), int(watched.sessions > 0))
