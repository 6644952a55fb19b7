"""`Progress` shows a run while it goes on: pass it records and statuses from any thread, inside a `with` block.

`RefreshThread` draws again and again from a thread of its own; errors of a display never disturb the run.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console

from rlm_ray.admission.protocol import RunStatus
from rlm_ray.core.limits import Limits
from rlm_ray.events.records import Record
from rlm_ray.progress.live_state import LiveRunState
from rlm_ray.progress.targets import DisplayTarget, select_target

logger = logging.getLogger(__name__)


class RefreshThread:
    """`begin` it, and `end` it; drawing stops at its first failure."""

    def __init__(self, name: str, every_s: float, draw: Callable[[], None]) -> None:
        self._every_s, self._draw = every_s, draw
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._go_on, name=name, daemon=True)

    def begin(self, *first: Callable[[], None]) -> None:
        """Do these actions, then draw from now on."""
        for action in first:
            _log_errors(action)
        self._thread.start()

    def end(self, *last: Callable[[], None]) -> None:
        """Draw no more, then do these."""
        self._over.set()
        self._thread.join()
        for action in last:
            _log_errors(action)

    def _go_on(self) -> None:
        while not self._over.wait(self._every_s) and _log_errors(self._draw):
            pass


def _log_errors(action: Callable[[], None]) -> bool:
    try:
        action()
    except Exception:
        logger.debug("the display cannot be shown", exc_info=True)
        return False
    return True


class Progress:
    """One display for one run. Taking a record in never draws; a thread of its own does, a few times a second."""

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        console: Console | None = None,
        target: DisplayTarget | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._state = LiveRunState(limits, began=clock())
        self._target = target or select_target(console or Console(stderr=True))
        self._clock = clock
        self._lock = threading.Lock()
        self._refresh = RefreshThread("rlm_ray progress", self._target.every_s, self.draw)

    def add(self, record: Record) -> None:
        """Add a record of the run."""
        with self._lock:
            self._state.add(record)

    def status(self, status: RunStatus) -> None:
        """Take the status that the admission gives of the run."""
        with self._lock:
            self._state.status(status, self._clock())

    def waits_for(self, what: str) -> None:
        """Take what keeps the run from beginning."""
        with self._lock:
            self._state.waits_for(what)

    def draw(self) -> None:
        """Show how it stands now."""
        now = self._clock()
        with self._lock:
            view = self._state.view(now, self._target.rows)
        self._target.show(view, now)

    def __enter__(self) -> Self:
        self._refresh.begin(self._target.start)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._refresh.end(self.draw, self._target.stop)
