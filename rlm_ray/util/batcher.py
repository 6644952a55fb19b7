"""What is asked one by one within a few milliseconds, sent together.

- The first after a pause leaves after `WAIT_S`, with what came meanwhile; where there is no room, more collects.
- Whoever is cancelled is forgotten; a sending that nobody waits for any more is cancelled.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Generic, Self, TypeVar

Asked = TypeVar("Asked")
Told = TypeVar("Told")

WAIT_S = 0.005
MOST_SIZE = 8_000_000


class Together(Generic[Asked, Told]):
    """Inside a `with` block; its end cancels what is under way and whoever waits."""

    def __init__(
        self,
        send: Callable[[Sequence[Asked]], Awaitable[Sequence[Told | Exception]]],
        *,
        most: int,
        room: Callable[[], int],
        size: Callable[[Asked], int],
    ) -> None:
        """`send` takes up to `most` of them, and answers in order; `room` is how many may be under way."""
        self._send, self._most, self._room, self._size = send, most, room, size
        self._waiting: deque[tuple[Asked, asyncio.Future[Told]]] = deque()
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

    async def ask(self, asked: Asked) -> Told:
        """What it is told; raises the exception that stands in the place of an answer."""
        future: asyncio.Future[Told] = asyncio.get_running_loop().create_future()
        self._waiting.append((asked, future))
        self._leave_soon()
        return await future

    def _leave_soon(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(WAIT_S, self._leave)

    def _leave(self) -> None:
        self._timer = None
        while batch := self._next():
            self._under_way += len(batch)
            task = asyncio.create_task(self._carry(batch))
            self._tasks.add(task)
            task.add_done_callback(partial(self._over, batch))
            for _, future in batch:
                future.add_done_callback(partial(_forget, batch, task))

    def _next(self) -> list[tuple[Asked, asyncio.Future[Told]]]:
        batch: list[tuple[Asked, asyncio.Future[Told]]] = []
        room, size = min(self._most, self._room() - self._under_way), 0
        while self._waiting and len(batch) < room and size < MOST_SIZE:
            asked, future = self._waiting.popleft()
            if not future.done():
                batch.append((asked, future))
                size += self._size(asked)
        return batch

    async def _carry(self, batch: list[tuple[Asked, asyncio.Future[Told]]]) -> None:
        told: Sequence[Told | Exception]
        try:
            told = await self._send([asked for asked, _ in batch])
        except Exception as error:  # noqa: BLE001 - whoever waits hears of it
            told = [error] * len(batch)
        # Answers first: whoever hears of a failure may end the others.
        pairs = zip(batch, told, strict=True)
        for (_, future), each in sorted(pairs, key=lambda pair: isinstance(pair[1], Exception)):
            if future.done():
                continue
            if isinstance(each, Exception):
                future.set_exception(each)
            else:
                future.set_result(each)

    def _over(self, batch: Sequence[tuple[Asked, asyncio.Future[Told]]], task: asyncio.Task[None]) -> None:
        """Whatever became of it; it may have been cancelled before it began."""
        self._tasks.discard(task)
        self._under_way -= len(batch)
        for _, future in batch:
            future.cancel()
        if self._waiting:
            self._leave_soon()


def _forget(
    batch: Sequence[tuple[object, asyncio.Future[Told]]], task: asyncio.Task[None], _: asyncio.Future[Told]
) -> None:
    if all(future.cancelled() for _, future in batch):
        task.cancel()
