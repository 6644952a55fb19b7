"""The time in a REPL: that at which the cell began, and a microsecond more with each look at it.

So a cell that is run again sees the same times, and a loop that waits for time to pass still ends, at about the
pace of the real one. What a cell waits for its sub-calls does not show. Local time is UTC (`sandbox/host/sandbox.py`).

`time` and `datetime` offer the same names as ever. The classes `date` and `datetime` are subclasses, for nothing can
be changed in those written in C; whatever is an instance of the original counts as one of theirs.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
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
