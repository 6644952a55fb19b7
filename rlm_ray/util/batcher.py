"""Sends requests together that are made one by one within a few milliseconds.

- The first after a pause is sent after `LINGER_S`, with what came meanwhile; while as many batches as allowed are under
  way, more collects.
- A cancelled request is dropped; a batch that nobody waits for any more is cancelled.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Generic, Self, TypeVar

RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")

LINGER_S = 0.005
MAX_BATCH_BYTES = 8_000_000


class Batcher(Generic[RequestT, ResponseT]):
    """Batches requests inside an `async with` block; its end cancels what is under way and those who wait."""

    def __init__(
        self,
        send: Callable[[Sequence[RequestT]], Awaitable[Sequence[ResponseT | Exception]]],
        *,
        max_items: int,
        capacity: Callable[[], int],
        size_of: Callable[[RequestT], int],
    ) -> None:
        """`send` gets up to `max_items` requests and returns their responses in order; `capacity` tells how many may be under
        way, `size_of` the bytes of a request."""
        self._send, self._max_items = send, max_items
        self._capacity, self._size_of = capacity, size_of
        self._waiting: deque[tuple[RequestT, asyncio.Future[ResponseT]]] = deque()
        self._under_way = 0
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for _, future in self._waiting:
            future.cancel()
        self._waiting.clear()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def submit(self, asked: RequestT) -> ResponseT:
        """Return the response; raises it where it is an exception."""
        future: asyncio.Future[ResponseT] = asyncio.get_running_loop().create_future()
        self._waiting.append((asked, future))
        self._schedule_flush()
        return await future

    def _schedule_flush(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LINGER_S, self._flush)

    def _flush(self) -> None:
        self._timer = None
        while batch := self._take_batch():
            self._under_way += len(batch)
            task = asyncio.create_task(self._send_batch(batch))
            self._tasks.add(task)
            task.add_done_callback(partial(self._on_done, batch))
            for _, future in batch:
                future.add_done_callback(partial(_cancel_if_abandoned, batch, task))

    def _take_batch(self) -> list[tuple[RequestT, asyncio.Future[ResponseT]]]:
        batch: list[tuple[RequestT, asyncio.Future[ResponseT]]] = []
        max_items, size = min(self._max_items, self._capacity() - self._under_way), 0
        while self._waiting and len(batch) < max_items and size < MAX_BATCH_BYTES:
            asked, future = self._waiting.popleft()
            if not future.done():
                batch.append((asked, future))
                size += self._size_of(asked)
        return batch

    async def _send_batch(self, batch: list[tuple[RequestT, asyncio.Future[ResponseT]]]) -> None:
        responses: Sequence[ResponseT | Exception]
        try:
            responses = await self._send([asked for asked, _ in batch])
        except Exception as error:  # noqa: BLE001 - whoever waits hears of it
            responses = [error] * len(batch)
        # Answers first: whoever hears of a failure may end the others.
        pairs = zip(batch, responses, strict=True)
        for (_, future), each in sorted(pairs, key=lambda pair: isinstance(pair[1], Exception)):
            if future.done():
                continue
            if isinstance(each, Exception):
                future.set_exception(each)
            else:
                future.set_result(each)

    def _on_done(
        self, batch: Sequence[tuple[RequestT, asyncio.Future[ResponseT]]], task: asyncio.Task[None]
    ) -> None:
        """Deliver the end of a batch; it may have been cancelled before it began."""
        self._tasks.discard(task)
        self._under_way -= len(batch)
        for _, future in batch:
            future.cancel()
        if self._waiting:
            self._schedule_flush()


def _cancel_if_abandoned(
    batch: Sequence[tuple[object, asyncio.Future[ResponseT]]],
    task: asyncio.Task[None],
    _: asyncio.Future[ResponseT],
) -> None:
    if all(future.cancelled() for _, future in batch):
        task.cancel()
