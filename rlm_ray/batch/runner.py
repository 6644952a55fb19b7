"""A batch: the same question to each row of a corpus.

Rows flow: one is read when there is a place for it, asked, and written; nothing is kept of it but a bit.

- A row that cannot be read, asked or checked is an outcome with an error; the others go on.
- What no other row could mend (a refused key, an empty account, no cluster, no storage) ends the batch.
- Ended early, whatever the reason, rows under way are left undone and what is done is saved: the next batch over the
  same output goes on from there.

Reading ahead: blocking rows handed to an event loop, a few at a time, and never far before they are wanted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, TypeVar

from rlm_ray.batch.results import Figures, Marks, Outcome
from rlm_ray.batch.row_processor import Asking, Asks, Todo, todo_of
from rlm_ray.batch.source import Corpus
from rlm_ray.batch.template import Question
from rlm_ray.batch.writer import Output, Saver
from rlm_ray.errors import InputError, LimitReached
from rlm_ray.structured.schema import Schema

_LOOK_S = 1.0
_MOST_CHARS = 200_000_000
"""Above so much text, fewer rows are under way than there is room for: it all is in this process."""

OnLimit = Literal["pause", "stop"]


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be done with each row."""

    question: Question
    schema: Schema | None = None
    limit: int | None = None
    """Only so many rows, from the first."""
    on_limit: OnLimit = "pause"
    """When the budget is used up: leave the rest for later, or write it down as failed."""


@dataclass(frozen=True, slots=True)
class Halt:
    """Why a batch ended before its last row."""

    reason: str
    """A limit, `interrupted` or `error`."""
    why: str
    error: Exception | None = None


@dataclass
class Batch:
    """One life of a batch: `run` it; `stop` it meanwhile."""

    corpus: Corpus
    work: Work
    asks: Asks
    output: Output
    done: Marks = field(default_factory=Marks)
    figures: Figures = field(default_factory=Figures)
    clock: Callable[[], float] = time.monotonic

    halted: Halt | None = field(default=None, init=False)
    limit: LimitReached | None = field(default=None, init=False)
    """What was used up while the batch went on without it."""
    _feeding: asyncio.Task[None] | None = field(default=None, init=False)
    _rows: set[asyncio.Task[None]] = field(default_factory=set, init=False)
    _chars: int = field(default=0, init=False)
    """Of their texts."""

    async def run(self) -> Figures:
        """To the last row, or until it is halted. Raises what ended it; all that is done is saved in any case."""
        self._saver = Saver(self.output, self.clock)
        self._asking = Asking(self.asks, self.work.schema, self.clock)
        self._place = asyncio.Event()
        saving = asyncio.create_task(self._insist(self._saver.keep_saving))
        self._feeding = asyncio.create_task(self._insist(self._feed))
        try:
            await asyncio.wait([self._feeding])
            while self._rows:
                await asyncio.wait(self._rows)
        except asyncio.CancelledError:
            await self._end(Halt("interrupted", "it was cancelled"))
            raise
        finally:
            saving.cancel()
            await asyncio.wait([saving])
            await self._saver.save()
        if self.halted is not None and self.halted.error is not None:
            raise self.halted.error
        return self.figures

    def stop(self) -> None:
        """Take no more rows, and leave undone what is under way."""
        self._halt(Halt("interrupted", "the batch was interrupted"))

    async def _end(self, halt: Halt) -> None:
        self._halt(halt)
        under_way = [task for task in (self._feeding, *self._rows) if task is not None and not task.done()]
        if under_way:
            await asyncio.wait(under_way)

    def _halt(self, halt: Halt) -> None:
        if self.halted is None:
            self.halted = halt
            for task in (self._feeding, *self._rows):
                if task is not None:
                    task.cancel()

    async def _insist(self, work: Callable[[], Awaitable[None]]) -> None:
        """What goes wrong ends the batch, not only this task."""
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - raised again by `run`
            self._halt(Halt("error", str(error), error))

    async def _feed(self) -> None:
        async with aclosing(ahead(self._todo(), lambda todo: len(todo.row.text))) as todos:
            async for todo in todos:
                await self._saver.room()
                while self._rows and self._is_full(todo):
                    await self._a_place()
                self._begin(todo)

    def _is_full(self, todo: Todo) -> bool:
        many = len(self._rows) >= self.asks.concurrency
        return many or self._chars + len(todo.row.text) > _MOST_CHARS

    def _begin(self, todo: Todo) -> None:
        task = asyncio.create_task(self._insist(partial(self._one, todo)))
        self._rows.add(task)
        self._chars += len(todo.row.text)
        task.add_done_callback(partial(self._over, len(todo.row.text)))
        self.figures.under_way = len(self._rows)

    async def _a_place(self) -> None:
        """Until a row is over; or a moment, for a cluster may grow."""
        self._place.clear()
        try:
            async with asyncio.timeout(_LOOK_S):
                await self._place.wait()
        except TimeoutError:
            pass

    def _over(self, chars: int, task: asyncio.Task[None]) -> None:
        self._rows.discard(task)
        self._chars -= chars
        self.figures.under_way = len(self._rows)
        self._place.set()

    def _todo(self) -> Iterator[Todo]:
        """The rows that are not done. Reads, so it blocks."""
        for row in self.corpus:
            if self.work.limit is not None and row.number >= self.work.limit:
                return
            self.figures.read = row.number + 1
            self.figures.share = self.corpus.share()
            todo = todo_of(row, self.work.question)
            if row.number not in self.done:
                yield todo
            elif self.done.differs(row.number, todo.key):
                why = (
                    f"row {row.number} ({row.id}) is not what it was when it was answered; give another --out, or start "
                    "anew with --restart"
                )
                raise InputError(self.corpus.name, why)

    async def _one(self, todo: Todo) -> None:
        outcome = await self._outcome(todo)
        if outcome is not None:
            self.figures.add(outcome)
            self._saver.put(outcome)

    async def _outcome(self, todo: Todo) -> Outcome | None:
        """None where the row is left undone: nothing is left to spend, and the rest is for later."""
        if self.limit is None or todo.error:
            try:
                return await self._asking.outcome(todo)
            except LimitReached as limit:
                self.limit = self.limit or limit
                if self.work.on_limit == "pause":
                    self._halt(Halt(limit.reason, limit.why))
                    return None
                return self._asking.failed(todo, limit.why, limit.reason, limit.partial)
        return self._asking.failed(todo, self.limit.why, self.limit.reason)


T = TypeVar("T")

CHUNK_ROWS, CHUNK_SIZE = 64, 1_000_000


async def ahead(
    items: Iterator[T], size: Callable[[T], int], *, rows: int = CHUNK_ROWS, most: int = CHUNK_SIZE
) -> AsyncGenerator[T, None]:
    """All items; one chunk is read while the one before is handed out. A thread of its own does the reading."""

    def chunk() -> list[T]:
        taken: list[T] = []
        weight = 0
        while len(taken) < rows and weight < most and (item := next(items, None)) is not None:
            taken.append(item)
            weight += size(item)
        return taken

    loop = asyncio.get_running_loop()
    executor = ThreadPoolExecutor(1, "rlm_ray reading")
    try:
        reading = loop.run_in_executor(executor, chunk)
        while taken := await reading:
            reading = loop.run_in_executor(executor, chunk)
            while taken:
                yield taken.pop(0)
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
