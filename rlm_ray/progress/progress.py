"""`Progress` shows a run while it goes on: hand it records and statuses from any thread, inside a `with` block."""

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
from rlm_ray.core.records import Record
from rlm_ray.progress.board import Board
from rlm_ray.progress.faces import Face, face_of

logger = logging.getLogger(__name__)


class Progress:
    """One display for one run. Taking a record in never draws; a thread of its own does, a few times a second."""

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        console: Console | None = None,
        face: Face | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._board = Board(limits, began=clock())
        self._face = face or face_of(console or Console(stderr=True))
        self._clock = clock
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._draw_on, name="rlm_ray progress", daemon=True)

    def add(self, record: Record) -> None:
        """A fact of the run."""
        with self._lock:
            self._board.add(record)

    def status(self, status: RunStatus) -> None:
        """What the admission says of the run."""
        with self._lock:
            self._board.status(status)

    def draw(self) -> None:
        """Show how it stands now."""
        now = self._clock()
        with self._lock:
            view = self._board.view(now, self._face.rows)
        self._face.show(view, now)

    def __enter__(self) -> Self:
        self._safely(self._face.start)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self._safely(self.draw)
        self._safely(self._face.stop)

    def _draw_on(self) -> None:
        while not self._over.wait(self._face.every_s) and self._safely(self.draw):
            pass

    def _safely(self, action: Callable[[], None]) -> bool:
        """A display that cannot be written to is no reason to disturb the run."""
        try:
            action()
        except Exception:
            logger.debug("the live view cannot be shown", exc_info=True)
            return False
        return True
