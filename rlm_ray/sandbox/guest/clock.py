"""The time in a REPL, and the time limits of a cell.

The time that code sees is that at which the cell began, and a microsecond more with each look at it. So a cell that is run again
sees the same times, and a loop that waits for time to pass still ends, at about the pace of the real one. What a cell waits for its
sub-calls does not show. Local time is UTC (`sandbox/host/sandbox.py`). `time` and `datetime` offer the same names as ever. The
classes `date` and `datetime` are subclasses, for nothing can be changed in those written in C; whatever is an instance of the
original counts as one of theirs.

The limits are held by signals (`CellTimer`): the cell is interrupted where it is, and its variables stay.
Python looks at signals between two instructions and inside `re`, so a loop and a regular expression are interrupted.
Two things are not: one long call in C, and code that swallows the interruption again and again in `finally`. For them
the kernel's own timer ends the process a grace later by processor time, the host by the wall clock (SIGKILL).

Rules: nothing is raised outside `interruptible`, nor while a frame is under way on the channel (`uninterrupted`); a
handler of the model's that would catch it raises it again (`check`, put there by `language/policy.py`).
"""

from __future__ import annotations

import datetime as dt
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

_TICK_S = 1e-6


class Clock:
    """Tells the time of the cell that runs."""

    def __init__(self) -> None:
        self._now = 0.0
        self._reads = 0

    def start(self, now: float) -> None:
        """Begin a cell at this Unix time."""
        self._now = now
        self._reads = 0

    def process_time(self) -> float:
        """Return the seconds since the cell began."""
        self._reads += 1
        return (self._reads - 1) * _TICK_S

    def time(self) -> float:
        return self._now + self.process_time()

    def time_ns(self) -> int:
        return round(self.time() * 1e6) * 1_000


def time_names(clock: Clock) -> dict[str, Any]:
    """Return what `time` has instead of the real clock."""

    def now_unless_given(native: Callable[[float], Any]) -> Callable[..., Any]:
        return lambda seconds=None, /: native(clock.time() if seconds is None else seconds)

    def asctime(*given: Any) -> str:
        return time.asctime(*given or (time.gmtime(clock.time()),))

    def strftime(layout: str, *given: Any) -> str:
        return time.strftime(layout, *given or (time.gmtime(clock.time()),))

    return {
        **dict.fromkeys(("time", "monotonic", "perf_counter"), clock.time),
        **dict.fromkeys(("time_ns", "monotonic_ns", "perf_counter_ns"), clock.time_ns),
        "process_time": clock.process_time,
        "gmtime": now_unless_given(time.gmtime),
        "localtime": now_unless_given(time.localtime),
        "ctime": now_unless_given(time.ctime),
        "asctime": asctime,
        "strftime": strftime,
    }


class _SubstituteMeta(type):
    """Makes a class answer for the original: C code makes instances of that."""

    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, _originals[cls]) if cls in _originals else super().__instancecheck__(value)

    def __subclasscheck__(cls, other: type) -> bool:
        return issubclass(other, _originals[cls]) if cls in _originals else super().__subclasscheck__(other)


_originals: dict[type, type] = {}


def datetime_names(clock: Clock) -> dict[str, Any]:
    """Return what `datetime` has instead of the classes that look at the real clock."""

    class Date(dt.date, metaclass=_SubstituteMeta):
        @classmethod
        def today(cls) -> Self:
            return cls.fromtimestamp(clock.time())

        def __repr__(self) -> str:
            return _repr(self, super().__repr__())

    class Datetime(dt.datetime, metaclass=_SubstituteMeta):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> Self:
            return cls.fromtimestamp(clock.time(), tz)

        @classmethod
        def today(cls) -> Self:
            return cls.fromtimestamp(clock.time())

        @classmethod
        def utcnow(cls) -> Self:
            return cls.fromtimestamp(clock.time(), dt.UTC).replace(tzinfo=None)

        def date(self) -> dt.date:
            return Date(self.year, self.month, self.day)

        def __repr__(self) -> str:
            return _repr(self, super().__repr__())

    return {"date": _disguise(Date, dt.date), "datetime": _disguise(Datetime, dt.datetime)}


def _disguise(stand_in: Any, original: Any) -> type:
    """Make a class look like the original, in what it is called and what it holds."""
    stand_in.__name__ = stand_in.__qualname__ = original.__name__
    stand_in.__module__ = original.__module__
    for name in ("min", "max"):
        setattr(stand_in, name, stand_in.fromisoformat(str(getattr(original, name))))
    _originals[stand_in] = original
    return stand_in  # type: ignore[no-any-return]


def _repr(value: object, text: str) -> str:
    return f"datetime.{text}" if type(value) in _originals else text


_REPEAT_S = 0.1
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
        signal.setitimer(signal.ITIMER_PROF, self._cpu_s, _REPEAT_S)
        signal.setitimer(signal.ITIMER_REAL, self._wall_s, _REPEAT_S)

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
        """Raise nothing within: what is begun here has to be finished."""
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
            signal.setitimer(signal.ITIMER_REAL, max(left_s, 0.001), _REPEAT_S)

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
