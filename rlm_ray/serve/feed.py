"""The records of a run that this replica has, for any number of those who follow it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from rlm_ray.core.records import Record, RunEnded


class Feed:
    """An observer of a run. Records come from the engine's thread and are handed over to this loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._records: list[Record] = []
        self._grown = asyncio.Event()
        self.end: RunEnded | None = None
        """The last record, once the run is over."""

    def add(self, record: Record) -> None:
        """From any thread."""
        self._loop.call_soon_threadsafe(self._take, record)

    def close(self, end: RunEnded) -> None:
        """The run is over; those who follow get all that is known, and then its end."""
        self.end = end
        self._grow()

    async def follow(self) -> AsyncGenerator[Record]:
        """From the first record to the end, as they come."""
        place = 0
        while True:
            grown = self._grown
            while place < len(self._records):
                yield self._records[place]
                place += 1
            if self.end is not None:
                yield self.end
                return
            await grown.wait()

    def _take(self, record: Record) -> None:
        if not isinstance(record, RunEnded):  # its end is told by `close`, when what it cost is accounted for
            self._records.append(record)
            self._grow()

    def _grow(self) -> None:
        self._grown.set()
        self._grown = asyncio.Event()
