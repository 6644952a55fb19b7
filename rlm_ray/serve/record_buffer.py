"""The records of a run that this replica has, for any number of those who follow it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence

from rlm_ray.events.records import Record, RunFinished, SessionOpened


class RecordBroadcast:
    """An observer of a run. Records come from the engine's thread and are handed over to this loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._inbox: deque[Record] = deque()
        self._is_called = False
        self._records: list[Record] = []
        self._grown = asyncio.Event()
        self.started = asyncio.Event()
        """A session is on its way, or the run is over."""
        self.end: RunFinished | None = None
        """The last record, once the run is over."""

    def add(self, record: Record) -> None:
        """From any thread."""
        self._inbox.append(record)
        if not self._is_called:  # a call to another thread costs more than all else here
            self._is_called = True
            self._loop.call_soon_threadsafe(self._drain)

    def close(self, end: RunFinished) -> None:
        """The run is over; those who follow get all that is known, and then its end."""
        self._drain()
        self.end = end
        self.started.set()
        self._notify()

    async def follow(self) -> AsyncGenerator[Sequence[Record]]:
        """From the first record to the end: whenever there are new ones, all of them."""
        place = 0
        while True:
            grown = self._grown
            if unseen := self._records[place:]:
                place += len(unseen)
                yield unseen
            elif self.end is not None:
                yield [self.end]
                return
            else:
                await grown.wait()

    def _drain(self) -> None:
        self._is_called = False  # first: what comes from now on calls again
        while self._inbox:
            record = self._inbox.popleft()
            if isinstance(record, SessionOpened):
                self.started.set()
            if not isinstance(
                record, RunFinished
            ):  # its end is told by `close`, when what it cost is accounted for
                self._records.append(record)
        self._notify()

    def _notify(self) -> None:
        self._grown.set()
        self._grown = asyncio.Event()
