"""The journals of all runs that a process works on: one `JournalRecorder` for each."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count

from rlm_ray.config import Settings
from rlm_ray.core.secrets import secret_values
from rlm_ray.events.records import Record
from rlm_ray.journal.protocol import JournalRef
from rlm_ray.journal.recorder import JournalRecorder, JournalTransport, NullRecorder

MAX_IDLE_RECORDERS = 8
"""How many recorders of finished runs are kept: what they have read of their journals may be needed again."""


class JournalClient:
    """Creates and keeps the recorders of one process. `writer` is the process's name, unique for ever."""

    def __init__(
        self,
        writer: str,
        transport: JournalTransport,
        *,
        observer: Callable[[], Callable[[Record], None]] = lambda: lambda _: None,
    ) -> None:
        """`observer` makes a callback for each run, called with every record that this process writes."""
        self._writer, self._transport, self._observer = writer, transport, observer
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
        secrets = secret_values(settings.params) | secret_values(dict(os.environ))
        return JournalRecorder(
            ref,
            self._transport,
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
