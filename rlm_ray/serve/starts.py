"""Runs begin a few at a time, behind the requests that wait for their first byte.

A run costs CPU from its beginning to its end. Two hundred that begin at once share it and all end late; those that take
turns end one after the other, half of them in half the time, and who has just asked hears at once that he is admitted.
A place is given back when the run's root is on its way, so nobody waits here for a model or for a slow context.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from contextlib import contextmanager

PLACES = 4
PLACE_S = 0.5
"""The longest a run keeps its place: what is slow for another reason than the CPU stops nobody."""
POLITE_S = 1.0
"""The longest a run lets requests go first."""


class Starts:
    """The places of one replica."""

    def __init__(self, places: int = PLACES) -> None:
        self._places = asyncio.Semaphore(places)
        self._asking = 0
        self._none_asks = asyncio.Event()
        self._none_asks.set()
        self._leaving: set[asyncio.Task[None]] = set()

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Somebody waits for a first byte."""
        self._asking += 1
        self._none_asks.clear()
        try:
            yield
        finally:
            self._asking -= 1
            if not self._asking:
                self._none_asks.set()

    async def turn(self, begun: asyncio.Event) -> None:
        """Wait for a place, and keep it until the run has `begun`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(POLITE_S):
                await self._none_asks.wait()
        await self._places.acquire()
        leaving = asyncio.create_task(self._leave(begun))
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)

    async def _leave(self, begun: asyncio.Event) -> None:
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PLACE_S):
                    await begun.wait()
        finally:
            self._places.release()
