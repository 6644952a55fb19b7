"""One thread that lives as long as the process, for starting Ray.

The kernel kills what Ray starts when the *thread* that started it ends (Ray asks for that, so that nothing outlives
a crashed driver). A thread of a pool may end at any time; this one does not.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")

_work: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
_starting = threading.Lock()
_thread: threading.Thread | None = None


def in_lasting_thread(function: Callable[[], T]) -> Future[T]:
    """Run a function in the lasting thread; one at a time, in order."""
    future: Future[T] = Future()

    def job() -> None:
        try:
            future.set_result(function())
        except BaseException as error:  # noqa: BLE001 - carried over to whoever waits
            future.set_exception(error)

    _start()
    _work.put(job)
    return future


def _start() -> None:
    global _thread  # noqa: PLW0603 - one for the process is the point
    with _starting:
        if _thread is None or not _thread.is_alive():  # a fork leaves a dead one behind
            _thread = threading.Thread(target=_serve, name="rlm_ray-connector", daemon=True)
            _thread.start()


def _serve() -> None:
    while True:
        _work.get()()
