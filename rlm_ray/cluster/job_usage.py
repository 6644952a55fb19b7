"""What each row of a job has used, from the records as they come."""

from __future__ import annotations

import asyncio

from rlm_ray.core.records import CallEnded, Record, SessionEnded
from rlm_ray.core.tallies import tally_of
from rlm_ray.core.usage import RunUsage, Tallies

PATIENCE_S = 10.0


class RowUsage:
    """An observer; rows are forgotten once they were asked for."""

    def __init__(self) -> None:
        self._sums: dict[int, Tallies] = {}
        self._ended: dict[int, asyncio.Event] = {}

    def add(self, record: Record) -> None:
        """Take a record in."""
        match record:
            case CallEnded(path=(row, *_)) if not record.cache_hit:
                self._sums.setdefault(row, Tallies()).add(
                    record.model, len(record.path) - 1, tally_of(record)
                )
            case SessionEnded(path=(row,)):
                self._ended.setdefault(row, asyncio.Event()).set()

    async def of(self, row: int) -> RunUsage:
        """Of a row that has ended; waits until its last record has come."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._ended.setdefault(row, asyncio.Event()).wait()
        except TimeoutError:
            pass  # what has come so far
        self._ended.pop(row, None)
        sums = self._sums.pop(row, None)
        return RunUsage(sums.rows() if sums is not None else {}, 1)
