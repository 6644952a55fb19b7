"""`Progress` shows a run while it goes on: hand it records and statuses from any thread, inside a `with` block."""

from __future__ import annotations

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
from rlm_ray.progress.drawer import Drawer
from rlm_ray.progress.faces import Face, face_of


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
        self._drawer = Drawer("rlm_ray progress", self._face.every_s, self.draw)

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
        self._drawer.begin(self._face.start)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._drawer.end(self.draw, self._face.stop)
