"""Outcomes on their way to the output: gathered into parts that are neither many nor late.

A part is written at 1,000 rows, at 16 MB, or when its first row has waited 5 s, later in a long job a hundredth of its
time: so a kill costs no more than that, and a slow job does not leave ten thousand small files.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from rlm_ray.corpus.outcome import Outcome
from rlm_ray.corpus.output import Output

PART_ROWS, PART_BYTES = 1_000, 16_000_000
WAIT_S, WAIT_SHARE = 5.0, 0.01
LOOK_S = 0.5
_FULL = 4
"""Above so many parts on their way, rows wait for the storage."""


class Saver:
    """Takes outcomes and writes them in the background."""

    def __init__(self, output: Output, clock: Callable[[], float]) -> None:
        self._output, self._clock = output, clock
        self._began = clock()
        self._rows: list[Outcome] = []
        self._nbytes = 0
        self._first_at = 0.0
        self._due = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    def put(self, outcome: Outcome) -> None:
        if not self._rows:
            self._first_at = self._clock()
        self._rows.append(outcome)
        self._nbytes += 300 + len(outcome.answer or "")
        fullness = max(len(self._rows) / PART_ROWS, self._nbytes / PART_BYTES)
        if fullness >= 1:
            self._due.set()
        if fullness >= _FULL:
            self._room.clear()

    async def room(self) -> None:
        """Wait while more rows come than the storage takes."""
        await self._room.wait()

    async def keep_saving(self) -> None:
        """Until cancelled; a part under way is then finished first."""
        while True:
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._due.wait()
            except TimeoutError:
                if not self._late():
                    continue
            await self.save()

    async def save(self) -> None:
        """Write what there is as one part."""
        rows, self._rows, self._nbytes = self._rows, [], 0
        self._due.clear()
        self._room.set()
        if rows:
            await _to_the_end(asyncio.to_thread(self._output.write, [row.as_dict() for row in rows]))

    def _late(self) -> bool:
        now = self._clock()
        return bool(self._rows) and now - self._first_at >= max(WAIT_S, WAIT_SHARE * (now - self._began))


async def _to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Do it, also where this is cancelled meanwhile."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise
