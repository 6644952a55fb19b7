"""A `JournalRecorder` writes the records of one run for one process, and reads what earlier attempts of the run wrote.

`append` only queues a record; `flush` returns once all that was appended is in the run's folder. What a model answered
is used after that only, so nothing that was used can be lost.

Records of a few milliseconds are sent together; the first after a pause goes at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Protocol

from rlm_ray.core.secrets import Scrubber
from rlm_ray.errors import JournalError
from rlm_ray.events.records import Record, to_line, without_content
from rlm_ray.journal.protocol import JournalRef
from rlm_ray.journal.replay import ReplayIndex

COALESCE_S = 0.004

_log = logging.getLogger(__name__)


class JournalTransport(Protocol):
    """Calls a run's `JournalServer`, again where it died. Raises `JournalError`, also for errors that it returns."""

    async def append(self, ref: JournalRef, data: bytes) -> int: ...

    async def read(self, ref: JournalRef, offset: int, wait_s: float) -> bytes: ...


class NullRecorder:
    """Records nothing: for a run that keeps no record."""

    replay = ReplayIndex()
    """What is on record; empty."""

    def append(self, record: Record) -> None:
        """Queue a record."""

    def raise_if_failed(self) -> None:
        """Raise `JournalError` where it is known that what is appended now cannot be kept."""

    async def flush(self) -> None:
        """Return when all that was appended is safe. Raises `JournalError` where it cannot be."""

    async def load_history(self) -> bool:
        """Read all that was written so far into `replay`; False where no answer in it can be used again."""
        return False


class JournalRecorder(NullRecorder):
    """Writes to the run's journal, in batches."""

    def __init__(  # noqa: PLR0913 - what to write, where, and what not
        self,
        ref: JournalRef,
        transport: JournalTransport,
        writer: str,
        *,
        secrets: Iterable[str] = (),
        content: bool = True,
        go_on: bool = False,
        observe: Callable[[Record], None] = lambda _: None,
    ) -> None:
        self.replay = ReplayIndex(content=content)
        self._ref, self._transport, self._writer = ref, transport, writer
        self._scrub = Scrubber(secrets)
        self._content = content
        self._go_on = go_on
        self._observe = observe
        self._count = 0
        self._lines: list[bytes] = []
        self._acked = 0
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._sending: asyncio.Task[None] | None = None
        self._sent_at = -1.0
        self._failed: JournalError | None = None
        self._recalling = asyncio.Lock()

    @property
    def idle(self) -> bool:
        return self._sending is None or self._sending.done()

    def append(self, record: Record) -> None:
        self._observe(record)
        if self._failed is not None:
            return
        self._count += 1
        line = to_line(record if self._content else without_content(record), f"{self._writer}:{self._count}")
        self._lines.append(self._scrub(line))
        if self.idle:
            self._sending = asyncio.create_task(self._send())

    async def flush(self) -> None:
        if self._failed is None and self._acked < self._count:
            done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((self._count, done))
            await done
        self.raise_if_failed()

    def raise_if_failed(self) -> None:
        if self._failed is not None and not self._go_on:
            raise self._failed

    async def load_history(self) -> bool:
        await self.flush()
        async with self._recalling:
            while self._failed is None:
                data = await self._transport.read(self._ref, self.replay.offset, 0.0)
                if not data:
                    return self._content
                self.replay.ingest(data)
        return False

    async def _send(self) -> None:
        loop = asyncio.get_running_loop()
        while self._lines:
            pause = self._sent_at + COALESCE_S - loop.time()
            if pause > 0:
                await asyncio.sleep(pause)
            lines, self._lines = self._lines, []
            self._sent_at = loop.time()
            try:
                await self._transport.append(self._ref, b"".join(lines))
            except JournalError as error:
                self._fail(error)
                return
            except Exception as error:  # noqa: BLE001 - whatever it was, nobody may wait for ever
                self._fail(JournalError(self._ref.run_id, f"cannot be recorded: {error!r}"))
                return
            self._acked += len(lines)
            self._wake()

    def _wake(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._acked:
            _, done = self._waiting.pop(0)
            if not done.done():
                done.set_result(None)

    def _fail(self, error: JournalError) -> None:
        _log.warning("%s", error)
        self._failed = error
        self._lines.clear()
        self._acked = self._count
        self._wake()
