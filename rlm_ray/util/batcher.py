"""Collects items that come one by one within a few milliseconds, and sends them together.

- A batch goes `linger_s` after its first item, and `interval_s` (which may be changed) after the batch before at the earliest:
  without a linger the first after a pause goes at once. While as many batches or items as allowed are under way, more collects.
- `add` queues an item, `submit` waits for its response, `flush` until all that was added is sent.
- A request whose caller is cancelled is dropped; a batch that nobody waits for any more is cancelled.
- The items of a `StreamingBatcher` are answered one by one, long before the slowest of their batch.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from functools import partial
from types import TracebackType
from typing import Generic, Self, TypeAlias, TypeVar

ItemT = TypeVar("ItemT")
ResponseT = TypeVar("ResponseT")

MAX_BATCH_BYTES = 8_000_000
MAX_RTT_S = 0.05
"""A batch that took longer was held by the peer, which says nothing about the connection."""

_log = logging.getLogger(__name__)


class _Entry(Generic[ItemT, ResponseT]):
    """One item, and who waits for it."""

    __slots__ = ("flushes", "has_ended", "item", "response")

    def __init__(self, item: ItemT, response: asyncio.Future[ResponseT] | None) -> None:
        self.item, self.response = item, response
        self.flushes: list[asyncio.Future[None]] = []
        self.has_ended = False

    def end(self, outcome: ResponseT | Exception | None) -> None:
        """Deliver the response, or the error; None: it was sent, or is given up."""
        self.has_ended = True
        for flush in self.flushes:
            if not flush.done():
                flush.set_result(None)
        if self.response is None or self.response.done():
            return
        if isinstance(outcome, Exception):
            self.response.set_exception(outcome)
        elif outcome is not None:
            self.response.set_result(outcome)
        else:
            self.response.cancel()


_Batch: TypeAlias = Sequence[_Entry[ItemT, ResponseT]]


class Batcher(Generic[ItemT, ResponseT]):
    """Sends batches in tasks of the running event loop; `aclose`, or the end of an `async with` block, cancels what is under
    way and those who wait."""

    def __init__(  # noqa: PLR0913 - the bounds of a batch
        self,
        send: Callable[[Sequence[ItemT]], Awaitable[Sequence[ResponseT | Exception] | None]],
        *,
        linger_s: float = 0.0,
        interval_s: float = 0.0,
        max_batches: int = sys.maxsize,
        max_items: int = sys.maxsize,
        capacity: Callable[[], int] = lambda: sys.maxsize,
        size_of: Callable[[ItemT], int] = lambda _: 0,
    ) -> None:
        """`send` gets up to `max_items` items and returns their responses in order, or None where nobody waits for any;
        `capacity` tells how many items may be under way, `size_of` the bytes of one."""
        self._send, self._max_items, self._max_batches = send, max_items, max_batches
        self._linger_s, self.interval_s = linger_s, interval_s
        self._capacity, self._size_of = capacity, size_of
        self._waiting: deque[_Entry[ItemT, ResponseT]] = deque()
        self._items_under_way = 0
        self._tasks: set[asyncio.Task[Sequence[ResponseT | Exception | None]]] = set()
        self._abandoned: set[asyncio.Task[object]] = set()
        self._timer: asyncio.Handle | None = None
        self._due = self._rtt_s = 0.0
        self._sent_at = -1.0
        self._sends_empty = self._is_paused = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Cancel what waits and what is under way."""
        self._is_paused = True
        self._stop_timer()
        while self._waiting:
            self._waiting.popleft().end(None)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def is_idle(self) -> bool:
        """Tell whether all that was added is sent."""
        return not self._waiting and not self._tasks

    @property
    def is_paused(self) -> bool:
        return self._is_paused

    def add(self, item: ItemT, *, linger_s: float | None = None) -> None:
        """Queue an item; nobody hears of its response."""
        self._waiting.append(_Entry(item, None))
        self._schedule(linger_s)

    async def submit(self, item: ItemT) -> ResponseT:
        """Return the response to an item; raises it where it is an exception."""
        response: asyncio.Future[ResponseT] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Entry(item, response))
        self._schedule(None)
        return await response

    def send_soon(self, *, linger_s: float | None = None) -> None:
        """Send a batch even if nothing is added until then."""
        self._sends_empty = True
        self._schedule(linger_s)

    async def flush(self) -> None:
        """Send all that was added so far without a linger; return once it is sent, where one batch is under way at a time."""
        if self._waiting:
            sent: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting[-1].flushes.append(sent)
            self._schedule(0.0)
            await sent
        elif self._tasks:
            await asyncio.wait(self._tasks)

    def record_rtt(self, took_s: float) -> None:
        """Note how long an exchange took: the longer, the longer the next batches collect."""
        if took_s <= MAX_RTT_S:
            self._rtt_s += 0.2 * (took_s - self._rtt_s)

    def pause(self) -> None:
        """Send nothing until `resume`."""
        self._is_paused = True
        self._stop_timer()

    def resume(self) -> None:
        """Send again, at once."""
        self._is_paused = False
        self.send_soon(linger_s=0.0)

    def _schedule(self, linger_s: float | None) -> None:
        if self._is_paused:
            return
        loop = asyncio.get_running_loop()
        now, linger_s = loop.time(), self._linger_s if linger_s is None else linger_s
        due = max(self._sent_at + max(self.interval_s, self._rtt_s), now + linger_s)
        if self._timer is not None and self._due <= due:
            return
        self._stop_timer()
        self._due = due
        self._timer = loop.call_at(due, self._flush) if due > now else loop.call_soon(self._flush)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _flush(self) -> None:
        self._timer = None
        while (batch := self._take_batch()) or self._sends_empty:
            self._sends_empty = False
            self._sent_at = asyncio.get_running_loop().time()
            self._items_under_way += len(batch)
            task = asyncio.get_running_loop().create_task(self._send_batch(batch), context=Context())
            self._tasks.add(task)
            task.add_done_callback(partial(self._on_done, batch))
            for entry in batch:
                if entry.response is not None:
                    entry.response.add_done_callback(partial(self._cancel_if_abandoned, batch, task))

    def _take_batch(self) -> list[_Entry[ItemT, ResponseT]]:
        batch: list[_Entry[ItemT, ResponseT]] = []
        if len(self._tasks) >= self._max_batches:
            return batch
        max_items, size = min(self._max_items, self._capacity() - self._items_under_way), 0
        while self._waiting and len(batch) < max_items and size < MAX_BATCH_BYTES:
            entry = self._waiting.popleft()
            if entry.response is None or not entry.response.done():
                batch.append(entry)
                size += self._size_of(entry.item)
            else:
                entry.end(None)
        return batch

    async def _send_batch(self, batch: _Batch[ItemT, ResponseT]) -> Sequence[ResponseT | Exception | None]:
        outcomes: Sequence[ResponseT | Exception | None]
        try:
            outcomes = await self._send([entry.item for entry in batch]) or [None] * len(batch)
            if len(outcomes) != len(batch):
                raise ValueError(f"{len(outcomes)} responses came for {len(batch)} items")  # noqa: TRY301
        except Exception as error:  # noqa: BLE001 - whoever waits hears of it
            if all(entry.response is None for entry in batch):
                _log.warning("a batch of %d could not be sent", len(batch), exc_info=True)
            return [error] * len(batch)
        return outcomes

    def _on_done(
        self, batch: _Batch[ItemT, ResponseT], task: asyncio.Task[Sequence[ResponseT | Exception | None]]
    ) -> None:
        """Deliver the end of a batch; it may have been cancelled before it began."""
        self._tasks.discard(task)
        self._items_under_way -= sum(not entry.has_ended for entry in batch)
        pairs = zip(batch, [None] * len(batch) if task.cancelled() else task.result(), strict=True)
        # Answers first: whoever hears of a failure may end the others.
        for entry, outcome in sorted(pairs, key=lambda pair: isinstance(pair[1], Exception)):
            entry.end(outcome)
        if (
            task.cancelled() and task not in self._abandoned
        ):  # by the end of the loop: nothing is sent any more
            self.pause()
        self._abandoned.discard(task)
        if self._waiting:
            self._schedule(None)

    def _cancel_if_abandoned(
        self, batch: _Batch[ItemT, ResponseT], task: asyncio.Task[object], _: asyncio.Future[ResponseT]
    ) -> None:
        rest = [entry.response for entry in batch if not entry.has_ended]
        if rest and all(response is not None and response.cancelled() for response in rest):
            self._abandoned.add(task)
            task.cancel()


Respond: TypeAlias = Callable[[int, ResponseT | Exception], None]
"""Answers the item at this place of a batch."""


class StreamingBatcher(Batcher[ItemT, ResponseT]):
    """Answers each item of a batch as soon as its response is there; what has no response in the end is given up.

    `capacity` counts items that are not answered yet. The other bounds are those of a `Batcher`.
    """

    def __init__(
        self,
        send: Callable[[Sequence[ItemT], Respond[ResponseT]], Awaitable[None]],
        *,
        linger_s: float = 0.0,
        max_items: int = sys.maxsize,
        capacity: Callable[[], int] = lambda: sys.maxsize,
        size_of: Callable[[ItemT], int] = lambda _: 0,
    ) -> None:
        """`send` gets up to `max_items` items, and what answers them on the running event loop."""
        super().__init__(
            self._send_nothing, linger_s=linger_s, max_items=max_items, capacity=capacity, size_of=size_of
        )
        self._stream = send

    async def _send_nothing(self, items: Sequence[ItemT]) -> None:
        raise NotImplementedError

    async def _send_batch(self, batch: _Batch[ItemT, ResponseT]) -> Sequence[ResponseT | Exception | None]:
        try:
            await self._stream([entry.item for entry in batch], partial(self._respond, batch))
        except Exception as error:  # noqa: BLE001 - whoever still waits hears of it
            return [error] * len(batch)
        return [None] * len(batch)

    def _respond(self, batch: _Batch[ItemT, ResponseT], place: int, response: ResponseT | Exception) -> None:
        entry = batch[place]
        if not entry.has_ended:
            self._items_under_way -= 1
            entry.end(response)
            if self._waiting:
                self._schedule(None)
