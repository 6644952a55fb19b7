"""The time limits of a cell, held by signals: the cell is interrupted where it is, and its variables stay.

Python looks at signals between two instructions and inside `re`, so a loop and a regular expression are interrupted.
Two things are not: one long call in C, and code that swallows the interruption again and again in `finally`. For them
the kernel's own timer ends the process a grace later by processor time, the host by the wall clock (SIGKILL).

Rules: nothing is raised outside `interruptible`, nor while a frame is under way on the channel (`uninterrupted`); a
handler of the model's that would catch it raises it again (`check`, put there by `language/policy.py`).
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_TICK_S = 0.1
"""How often it is raised again, where it was swallowed or came at a bad moment."""


class CellTimeout(BaseException):
    """The cell's time is up. `places` are file, function and line of each call, the outermost first."""

    def __init__(self, why: str, places: tuple[tuple[str, str, int], ...] = ()) -> None:
        super().__init__(why)
        self.places = places


class CellTimer:
    """Interrupts the cell that runs. One for each process: it owns the process's timers."""

    interruptible = False
    """Code of the model's is running. Set by whoever runs it: a store of an attribute is never interrupted itself."""

    def __init__(self, wall_s: float, cpu_s: float, cpu_grace_s: float) -> None:
        self._wall_s, self._cpu_s, self._cpu_grace_s = wall_s, cpu_s, cpu_grace_s
        self._uninterrupted = 0
        self._timeout: CellTimeout | None = None

    def install(self) -> None:
        """Take the signals. Before this, each of them ends the process."""
        signal.signal(signal.SIGALRM, self._on_wall_clock)
        signal.signal(signal.SIGPROF, self._on_processor_time)

    def start(self) -> None:
        """Begin a cell."""
        self._timeout = None
        # SIGVTALRM is left to the kernel, which ends the process: a loop inside one C call is stopped as well.
        signal.setitimer(signal.ITIMER_VIRTUAL, self._cpu_s + self._cpu_grace_s)
        signal.setitimer(signal.ITIMER_PROF, self._cpu_s, _TICK_S)
        signal.setitimer(signal.ITIMER_REAL, self._wall_s, _TICK_S)

    def stop(self) -> None:
        """End the cell: nothing is interrupted any more."""
        for timer in (signal.ITIMER_REAL, signal.ITIMER_PROF, signal.ITIMER_VIRTUAL):
            signal.setitimer(timer, 0)

    def check(self) -> None:
        """Raise what was raised before and swallowed."""
        if self._timeout is not None:
            raise self._timeout

    @contextmanager
    def uninterrupted(self) -> Iterator[None]:
        """Nothing is raised within: what is begun here has to be finished."""
        self._uninterrupted += 1
        try:
            yield
        finally:
            self._uninterrupted -= 1

    @contextmanager
    def stopped_clock(self) -> Iterator[None]:
        """Stop the wall clock meanwhile: the cell waits for others."""
        left_s, _ = signal.setitimer(signal.ITIMER_REAL, 0)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, max(left_s, 0.001), _TICK_S)

    def _on_wall_clock(self, _: int, frame: FrameType | None) -> None:
        self._interrupt(f"the cell ran longer than {self._wall_s:g} s (sub-calls not counted)", frame)

    def _on_processor_time(self, _: int, frame: FrameType | None) -> None:
        self._interrupt(f"the cell used more than {self._cpu_s:g} s of processor time", frame)

    def _interrupt(self, why: str, frame: FrameType | None) -> None:
        if not self.interruptible or self._uninterrupted:
            return
        if self._timeout is None:
            self._timeout = CellTimeout(why, _places(frame))
        raise self._timeout


def _places(frame: FrameType | None) -> tuple[tuple[str, str, int], ...]:
    found = []
    while frame is not None:
        found.append((frame.f_code.co_filename, frame.f_code.co_name, frame.f_lineno))
        frame = frame.f_back
    return tuple(reversed(found))
