"""A `JournalRecorder` writes the records of one run for one process, and reads what earlier attempts of the run wrote. A
`JournalClient` has those of all runs that a process works on.

`append` only queues a record; `flush` returns once all that was appended is in the run's folder. What a model answered
is used after that only, so nothing that was used can be lost.

Records of a few milliseconds are sent together, with the first for which somebody waits or that tells of a request: a turn
is two messages.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from itertools import count

from rlm_ray.config import Settings
from rlm_ray.core.secrets import Scrubber, secret_values
from rlm_ray.errors import JournalError
from rlm_ray.events.records import CallSent, Record, to_line, without_content
from rlm_ray.journal.replay import ReplayIndex
from rlm_ray.journal.server import JournalRef, JournalServer
from rlm_ray.util.batcher import Batcher

COALESCE_S = 0.004
"""The shortest time between two messages."""
LINGER_S = 0.01
"""How long a record waits for others where nobody waits for it: after a cell, until the next call has its permit."""
MAX_IDLE_RECORDERS = 8
"""How many recorders of finished runs are kept: what they have read of their journals may be needed again."""

_log = logging.getLogger(__name__)


class NullRecorder:
    """Records nothing: for a run that keeps no record."""

    replay = ReplayIndex()
    """What is on record; empty."""

    def append(self, record: Record) -> None:
        """Queue a record."""

    @property
    def is_kept(self) -> bool:
        """Tell whether what is appended comes on record, as far as is known."""
        return False

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
        journal: JournalServer,
        writer: str,
        *,
        secrets: Iterable[str] = (),
        content: bool = True,
        go_on: bool = False,
        observe: Callable[[Record], None] = lambda _: None,
    ) -> None:
        self.replay = ReplayIndex(content=content)
        self._ref, self._journal, self._writer = ref, journal, writer
        self._scrub = _scrubber(frozenset(secrets))
        self._content = content
        self._go_on = go_on
        self._observe = observe
        self._count = 0
        self._batcher: Batcher[bytes, None] = Batcher(
            self._send, linger_s=LINGER_S, interval_s=COALESCE_S, max_batches=1
        )
        self._failed: JournalError | None = None
        self._recalling = asyncio.Lock()

    @property
    def idle(self) -> bool:
        return self._batcher.is_idle

    @property
    def is_kept(self) -> bool:
        return self._failed is None

    def append(self, record: Record) -> None:
        self._observe(record)
        if self._failed is not None:
            return
        self._count += 1
        line = to_line(record if self._content else without_content(record), f"{self._writer}:{self._count}")
        # What is known to be under way when a process dies is counted as paid twice: a request is told at once.
        self._batcher.add(self._scrub(line), linger_s=0.0 if isinstance(record, CallSent) else None)

    async def flush(self) -> None:
        if self._failed is None:
            await self._batcher.flush()
        self.raise_if_failed()

    def raise_if_failed(self) -> None:
        if self._failed is not None and not self._go_on:
            raise self._failed

    async def load_history(self) -> bool:
        await self.flush()
        async with self._recalling:
            while self._failed is None:
                data = await self._journal.read(self._ref, self.replay.offset, 0.0)
                if not data:
                    return self._content
                self.replay.ingest(data)
        return False

    async def _send(self, lines: Sequence[bytes]) -> None:
        if self._failed is not None:
            return
        try:
            await self._journal.append(self._ref, b"".join(lines))
        except JournalError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 - whatever it was, nobody may wait for ever
            self._fail(JournalError(self._ref.run_id, f"cannot be recorded: {error!r}"))

    def _fail(self, error: JournalError) -> None:
        _log.warning("%s", error)
        self._failed = error


class JournalClient:
    """Creates and keeps the recorders of one process. `writer` is the process's name, unique for ever; `journal` is most often a
    stub."""

    def __init__(
        self,
        writer: str,
        journal: JournalServer,
        *,
        observer: Callable[[], Callable[[Record], None]] = lambda: lambda _: None,
    ) -> None:
        """Take with `observer` what makes a callback for each run; it is called with every record that this process writes."""
        self._writer, self._journal, self._observer = writer, journal, observer
        self._recorders: dict[JournalRef, JournalRecorder] = {}
        self._users: dict[JournalRef, int] = {}
        self._null_recorder = NullRecorder()
        self._serial = count(1)

    @asynccontextmanager
    async def recorder(self, ref: JournalRef | None, settings: Settings) -> AsyncIterator[NullRecorder]:
        """Yield the recorder of a run; with `ref` None, one that records nothing."""
        if ref is None:
            yield self._null_recorder
            return
        recorder = self._recorders.pop(ref, None) or self._create(ref, settings)
        self._recorders[ref] = recorder
        self._users[ref] = self._users.get(ref, 0) + 1
        try:
            yield recorder
        finally:
            self._users[ref] -= 1
            self._evict()

    def _create(self, ref: JournalRef, settings: Settings) -> JournalRecorder:
        secrets = secret_values(settings.params) | _secrets_of_environment(frozenset(os.environ.items()))
        return JournalRecorder(
            ref,
            self._journal,
            f"{self._writer}.{next(self._serial)}",  # one made anew for a run counts its records anew
            secrets=secrets,
            content=settings.record_content,
            go_on=settings.on_journal_error == "continue",
            observe=self._observer(),
        )

    def _evict(self) -> None:
        unused = [ref for ref, recorder in self._recorders.items() if not self._users[ref] and recorder.idle]
        for ref in unused[:-MAX_IDLE_RECORDERS]:
            del self._users[ref], self._recorders[ref]


_scrubber = lru_cache(maxsize=16)(Scrubber)
"""Remembered, for the runs of a process have the same secrets."""


@lru_cache(maxsize=4)
def _secrets_of_environment(variables: frozenset[tuple[str, str]]) -> set[str]:
    """Return the secrets among these variables; remembered, for each run asks for those of the same environment."""
    return secret_values(dict(variables))
