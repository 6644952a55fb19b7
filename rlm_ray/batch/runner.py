"""A batch: the same question to each row of a corpus.

Rows flow: one is read when there is a slot for it, asked, and written; nothing is kept of it but a bit.

- A row that cannot be read, asked or checked is a result with an error; the others go on.
- What no other row could mend (a refused key, an empty account, no cluster, no storage) ends the batch.
- Ended early, whatever the reason, rows under way are left undone and what is done is saved: the next batch over the
  same output goes on from there.

`prefetch` passes rows of a blocking reader to the event loop, a few at a time, and never far ahead.
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

from rlm_ray.batch.results import BatchStats, CompletedRows, RowResult
from rlm_ray.batch.row_processor import RowBackend, RowProcessor, RowTask, make_task
from rlm_ray.batch.source import RowSource
from rlm_ray.batch.template import QueryTemplate
from rlm_ray.batch.writer import BatchOutput, PartWriter
from rlm_ray.errors import InputError, LimitReached
from rlm_ray.structured.schema import AnswerSchema

_LOOK_S = 1.0
_MOST_CHARS = 200_000_000
"""Above so much text, fewer rows are under way than there is room for: it all is in this process."""

OnLimit = Literal["pause", "stop"]


T = TypeVar("T")
CHUNK_ROWS, CHUNK_SIZE = 64, 1_000_000


@dataclass(frozen=True, slots=True)
class BatchSpec:
    """What to ask about each row, and how far to go."""

    question: QueryTemplate
    schema: AnswerSchema | None = None
    limit: int | None = None
    """Only so many rows, from the first."""
    on_limit: OnLimit = "pause"
    """When the budget is used up: leave the rest for later, or write it down as failed."""


@dataclass(frozen=True, slots=True)
class StopCause:
    """Why a batch ended before its last row."""

    reason: str
    """A limit, `interrupted` or `error`."""
    why: str
    error: Exception | None = None


@dataclass
class BatchRunner:
    """Runs one attempt of a batch: `run` it; `stop` it meanwhile."""

    corpus: RowSource
    spec: BatchSpec
    backend: RowBackend
    output: BatchOutput
    done: CompletedRows = field(default_factory=CompletedRows)
    stats: BatchStats = field(default_factory=BatchStats)
    clock: Callable[[], float] = time.monotonic

    stop_cause: StopCause | None = field(default=None, init=False)
    limit: LimitReached | None = field(default=None, init=False)
    """What was used up while the batch went on without it."""
    _producer: asyncio.Task[None] | None = field(default=None, init=False)
    _rows: set[asyncio.Task[None]] = field(default_factory=set, init=False)
    _chars: int = field(default=0, init=False)
    """Of their texts."""

    async def run(self) -> BatchStats:
        """Process all rows, or until it is stopped. Raises what ended it; all that is done is saved in any case."""
        self._parts = PartWriter(self.output, self.clock)
        self._processor = RowProcessor(self.backend, self.spec.schema, self.clock)
        self._slot_freed = asyncio.Event()
        saving = asyncio.create_task(self._guard(self._parts.keep_saving))
        self._producer = asyncio.create_task(self._guard(self._produce))
        try:
            await asyncio.wait([self._producer])
            while self._rows:
                await asyncio.wait(self._rows)
        except asyncio.CancelledError:
            await self._end(StopCause("interrupted", "it was cancelled"))
            raise
        finally:
            saving.cancel()
            await asyncio.wait([saving])
            await self._parts.save()
        if self.stop_cause is not None and self.stop_cause.error is not None:
            raise self.stop_cause.error
        return self.stats

    def stop(self) -> None:
        """Take no more rows, and leave undone what is under way."""
        self._stop_for(StopCause("interrupted", "the batch was interrupted"))

    async def _end(self, cause: StopCause) -> None:
        self._stop_for(cause)
        await asyncio.wait([task for task in (self._producer, *self._rows) if task is not None])

    def _stop_for(self, cause: StopCause) -> None:
        if self.stop_cause is None:
            self.stop_cause = cause
            for task in (self._producer, *self._rows):
                if task is not None:
                    task.cancel()

    async def _guard(self, work: Callable[[], Awaitable[None]]) -> None:
        """Let an error end the batch, not only this task."""
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - raised again by `run`
            self._stop_for(StopCause("error", str(error), error))

    async def _produce(self) -> None:
        async with aclosing(prefetch(self._todo(), lambda row_task: len(row_task.row.text))) as row_tasks:
            async for row_task in row_tasks:
                await self._parts.wait_for_capacity()
                while self._rows and self._at_capacity(row_task):
                    await self._wait_for_slot()
                self._submit(row_task)

    def _at_capacity(self, row_task: RowTask) -> bool:
        many = len(self._rows) >= self.backend.concurrency
        return many or self._chars + len(row_task.row.text) > _MOST_CHARS

    def _submit(self, row_task: RowTask) -> None:
        task = asyncio.create_task(self._guard(partial(self._process_row, row_task)))
        self._rows.add(task)
        self._chars += len(row_task.row.text)
        task.add_done_callback(partial(self._on_row_done, len(row_task.row.text)))
        self.stats.under_way = len(self._rows)

    async def _wait_for_slot(self) -> None:
        """Wait until a row is over; or a moment, for a cluster may grow."""
        self._slot_freed.clear()
        try:
            async with asyncio.timeout(_LOOK_S):
                await self._slot_freed.wait()
        except TimeoutError:
            pass

    def _on_row_done(self, chars: int, task: asyncio.Task[None]) -> None:
        self._rows.discard(task)
        self._chars -= chars
        self.stats.under_way = len(self._rows)
        self._slot_freed.set()

    def _todo(self) -> Iterator[RowTask]:
        """Yield the rows that are not done. Reads, so it blocks."""
        for row in self.corpus:
            if self.spec.limit is not None and row.number >= self.spec.limit:
                break
            self.stats.read = row.number + 1
            self.stats.share = self.corpus.share()
            row_task = make_task(row, self.spec.question)
            if row.number not in self.done:
                yield row_task
            elif self.done.key_mismatch(row.number, row_task.key):
                why = (
                    f"row {row.number} ({row.id}) is not what it was when it was answered; give another --out, or start "
                    "anew with --restart"
                )
                raise InputError(self.corpus.name, why)
        self.stats.read_all = True

    async def _process_row(self, row_task: RowTask) -> None:
        outcome = await self._outcome(row_task)
        if outcome is not None:
            self.stats.add(outcome)
            self._parts.put(outcome)

    async def _outcome(self, row_task: RowTask) -> RowResult | None:
        """Return the result of a row; None where it is left undone: nothing is left to spend, and the rest is for
        later.
        """
        if self.limit is None or row_task.error:
            try:
                return await self._processor.process(row_task)
            except LimitReached as limit:
                self.limit = self.limit or limit
                if self.spec.on_limit == "pause":
                    self._stop_for(StopCause(limit.reason, limit.why))
                    return None
                return self._processor.failed(row_task, limit.why, limit.reason, limit.partial)
        return self._processor.failed(row_task, self.limit.why, self.limit.reason)


async def prefetch(
    items: Iterator[T], size: Callable[[T], int], *, rows: int = CHUNK_ROWS, max_size: int = CHUNK_SIZE
) -> AsyncGenerator[T, None]:
    """Yield all items; a thread reads one chunk while the one before is handed out."""

    def chunk() -> list[T]:
        taken: list[T] = []
        weight = 0
        while len(taken) < rows and weight < max_size and (item := next(items, None)) is not None:
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
