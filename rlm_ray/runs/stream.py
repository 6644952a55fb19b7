"""Streams a run: its records as they are written, its answer while a model writes it, and its result at the end.

`RecordBroadcast` passes records from the engine's thread to an event loop, for any number of those who follow; `AnswerBroadcast` the
answer as well. What is streamed of an answer is what it is, when the result comes (`core/answer_preview.py`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from typing import TypeAlias, TypeVar

from rlm_ray.core.answer_preview import AnswerDelta, AnswerNews, AnswerRestarted, ShownAnswer
from rlm_ray.events.records import Record, RunFinished, SessionOpened
from rlm_ray.runs.run import Result, Run

Event: TypeAlias = "Record | AnswerNews | Result"
T = TypeVar("T")


class RecordBroadcast:
    """An observer of a run, made in the event loop of those who follow."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._inbox: deque[Record | AnswerNews] = deque()
        self._is_called = False
        self._records: list[Record | AnswerNews] = []
        self._grown = asyncio.Event()
        self.started = asyncio.Event()
        """A session is on its way, or the run is over."""
        self._is_closed = False
        self._end: RunFinished | None = None

    def add(self, record: Record) -> None:
        """Add a record, from any thread."""
        self._add(record)

    def _add(self, record: Record | AnswerNews) -> None:
        self._inbox.append(record)
        if not self._is_called:  # a call to another thread costs more than all else here
            self._is_called = True
            self._loop.call_soon_threadsafe(self._drain)

    def close(self, end: RunFinished | None = None) -> None:
        """End the stream: those who follow get all that is known, and last this end, or else the recorded one."""
        self._drain()
        self._end = end or self._end
        self._is_closed = True
        self.started.set()
        self._notify()

    async def follow(self) -> AsyncGenerator[Sequence[Record | AnswerNews]]:
        """Yield records from the first to the end: whenever there are new ones, all of them."""
        place = 0
        while True:
            grown = self._grown
            if unseen := self._records[place:]:
                place += len(unseen)
                yield unseen
            elif self._is_closed:
                if self._end is not None:
                    yield [self._end]
                return
            else:
                await grown.wait()

    def _drain(self) -> None:
        self._is_called = False  # first: what comes from now on calls again
        while self._inbox:
            record = self._inbox.popleft()
            if isinstance(record, SessionOpened):
                self.started.set()
            if isinstance(record, RunFinished):
                self._end = record  # the last of all, once the stream is closed
            else:
                self._records.append(record)
        self._notify()

    def _notify(self) -> None:
        self._grown.set()
        self._grown = asyncio.Event()


class AnswerBroadcast(RecordBroadcast):
    """The same with the answer while it is written."""

    def hear_answer(self, news: AnswerNews) -> None:
        """Add news of the answer, from any thread."""
        self._add(news)


async def stream_records(start: Callable[[RecordBroadcast], Awaitable[Run]]) -> AsyncGenerator[Event]:
    """Yield each record of the run that `start` begins and its answer in pieces, then its result. Leaving early cancels the run."""
    records, shown = AnswerBroadcast(), ShownAnswer()
    run = await start(records)
    ended = asyncio.create_task(run.result())
    ended.add_done_callback(lambda _: records.close())
    try:
        async for batch in records.follow():
            for record in batch:
                if not isinstance(record, AnswerDelta | AnswerRestarted):
                    yield record
                elif (news := shown.take(record)) is not None:
                    yield news
        try:
            result = await ended
        except Exception:
            for news in shown.complete(None):
                yield news
            raise
        for news in shown.complete(result.answer):
            yield news
        yield result
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
