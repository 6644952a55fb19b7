"""Streams a run: its records as they are written, and its result at the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from typing import TypeAlias, TypeVar

from rlm_ray.events.records import Record
from rlm_ray.runs.run import Result, Run

Event: TypeAlias = "Record | Result"
T = TypeVar("T")


class RecordQueue:
    """An observer that passes records to the event loop it was made in."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.records: asyncio.Queue[Record | None] = asyncio.Queue()

    def add(self, record: Record) -> None:
        """Add a record, from any thread."""
        self._loop.call_soon_threadsafe(self.records.put_nowait, record)


async def stream_records(start: Callable[[RecordQueue], Awaitable[Run]]) -> AsyncGenerator[Event]:
    """Yield each record of the run that `start` begins, then its result. Leaving early cancels the run."""
    queue = RecordQueue()
    run = await start(queue)
    ended = asyncio.create_task(run.result())
    ended.add_done_callback(lambda _: queue.records.put_nowait(None))
    try:
        while (record := await queue.records.get()) is not None:
            yield record
        yield await ended
    finally:
        ended.cancel()
        await asyncio.wait([ended])


def iterate_blocking(stream: AsyncGenerator[Event]) -> Iterator[Event]:
    """Iterate over a stream without an event loop of the caller's."""
    with asyncio.Runner() as runner:
        try:
            while True:
                try:
                    yield runner.run(_awaited(anext(stream)))
                except StopAsyncIteration:
                    return
        finally:
            runner.run(_awaited(stream.aclose()))


async def _awaited(step: Awaitable[T]) -> T:
    return await step
