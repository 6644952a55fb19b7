"""Reading ahead: blocking rows handed to an event loop, a few at a time, and never far before they are wanted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

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
