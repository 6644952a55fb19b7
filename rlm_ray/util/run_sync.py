"""Runs async work for sync callers; nothing else in the package starts an event loop for them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")

STOP_S = 30.0
"""The longest that an interrupted caller waits for its work to end cleanly."""


def run_sync(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end on a loop of its own; inside a running loop (a notebook) on another thread.

    Ctrl-C cancels the work, so nothing goes on that somebody pays for.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    return _Beside(work).result()


class _Beside(Generic[T]):
    """Runs a coroutine on a thread of its own, and cancels it when the waiting thread is interrupted."""

    def __init__(self, work: Coroutine[Any, Any, T]) -> None:
        self._work = work
        self._outcome: list[T | BaseException] = []
        self._task: asyncio.Task[Any] | None = None
        self._is_under_way, self._is_over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="rlm_ray", daemon=True)

    def result(self) -> T:
        try:
            self._thread.start()  # it waits for the thread, and may be interrupted there, too
            self._is_over.wait()  # an interrupted `join` takes the thread for ended
        except BaseException:  # KeyboardInterrupt: whoever waits here does not want it any more
            self._cancel()
            self._is_over.wait(STOP_S)
            raise
        (outcome,) = self._outcome
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def _run(self) -> None:
        try:
            self._outcome.append(asyncio.run(self._main()))
        except BaseException as error:  # noqa: BLE001 - carried over to the caller's thread
            self._outcome.append(error)
        finally:
            self._is_over.set()

    async def _main(self) -> T:
        self._task = asyncio.current_task()
        self._is_under_way.set()
        return await self._work

    def _cancel(self) -> None:
        if self._is_under_way.wait(STOP_S) and self._task is not None and not self._is_over.is_set():
            self._task.get_loop().call_soon_threadsafe(self._task.cancel)
