"""Contexts are read in threads of their own, a few at a time for each key, each within a deadline.

A server or a storage that stalls costs the one who named it: its key's places, until the threads come back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from rlm_ray.errors import InputError

MAX_THREADS = 64

T = TypeVar("T")


class Loads:
    """Those of one replica."""

    def __init__(self, max_per_key: int, timeout_s: float, max_threads: int = MAX_THREADS) -> None:
        self._max_per_key, self._timeout_s = max_per_key, timeout_s
        self._pool = ThreadPoolExecutor(max_threads, "rlm_ray-load")
        self._places: dict[str, asyncio.Semaphore] = {}

    async def run(self, key: str, load: Callable[[float], T]) -> T:
        """The result of `load(until)` in a thread, where `until` is the deadline of `time.monotonic()`.

        Raises `InputError` at the deadline. The thread keeps its place until it returns."""
        until = time.monotonic() + self._timeout_s
        places = self._places.setdefault(key, asyncio.Semaphore(self._max_per_key))
        try:
            async with asyncio.timeout(self._timeout_s):
                await places.acquire()
                work = asyncio.get_running_loop().run_in_executor(self._pool, load, until)
                work.add_done_callback(lambda done: _give_back(places, done))
                return await asyncio.shield(work)
        except TimeoutError:
            why = f"was not read within {self._timeout_s:g} s; try again, or upload it as a file"
            raise InputError("context", why) from None


def _give_back(places: asyncio.Semaphore, done: asyncio.Future[T]) -> None:
    places.release()
    if not done.cancelled():
        done.exception()  # nobody may wait for it any more
