"""A batch while it goes on: two lines that are drawn over and over on a terminal, a line now and then in a log."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from rlm_ray.admission.protocol import RunStatus
from rlm_ray.batch.results import BatchStats
from rlm_ray.events.records import Record
from rlm_ray.progress.live import RefreshThread
from rlm_ray.progress.render import format_count, format_duration, format_usd
from rlm_ray.progress.waiting import WaitTracker

DRAW_S = 0.25
FIRST_S, EVERY_S = 2.0, 5.0
"""A log gets its first line after so long, and then so often if anything has changed."""
_RATE_S = 20.0
"""Speed is that of the last seconds."""


class Speed:
    """Measures rows and tokens a second over the last seconds."""

    def __init__(self) -> None:
        self._seen: list[tuple[float, int, int]] = []

    def look(self, stats: BatchStats, now: float) -> tuple[float, float]:
        self._seen.append((now, stats.done, stats.tokens))
        while len(self._seen) > 1 and self._seen[1][0] <= now - _RATE_S:
            self._seen.pop(0)
        then, rows, tokens = self._seen[0]
        passed = max(now - then, 1e-9)
        return (stats.done - rows) / passed, (stats.tokens - tokens) / passed


def format_status(stats: BatchStats, rows_per_s: float, tokens_per_s: float, elapsed_s: float) -> str:
    """Return how far it is, in one line."""
    expected = stats.expected
    done = stats.done + stats.previously_completed
    parts = [f"{format_count(done)}{_of_all(stats, done)}"]
    if failed := stats.failed + stats.failed_earlier:
        parts.append(f"{format_count(failed)} failed")
    if stats.under_way:
        parts.append(f"{format_count(stats.under_way)} under way")
    if rows_per_s:
        parts.append(f"{rows_per_s:,.1f} rows/s")
    if tokens_per_s >= 1:
        parts.append(f"{format_count(tokens_per_s)} tokens/s")
    if stats.cost_usd:
        parts.append(format_usd(stats.cost_usd) + (" and more" if stats.unpriced else ""))
    parts.append(format_duration(elapsed_s))
    if expected and rows_per_s and expected > done:
        parts.append(f"about {format_duration((expected - done) / rows_per_s)} left")
    return " · ".join(parts)


def _of_all(stats: BatchStats, done: int) -> str:
    """Say how many rows there are in all, or that nobody knows: what has been read so far is no total."""
    if stats.expected is None:
        return f" rows done, {format_count(stats.read)} read so far, in all not known yet"
    about = "" if stats.read_all else "at most " if stats.expected == stats.limit else "about "
    return f" of {about}{format_count(max(stats.expected, done))} rows"


class BatchProgress:
    """Shows the progress of a batch inside a `with` block, from a thread of its own: how far it is, and what is waited for.

    It is an observer of the batch's run; `stats` are those of its runner, once there is one.
    """

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.time) -> None:
        self.stats: BatchStats | None = None
        self._clock = clock
        self._console = console or Console(stderr=True)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._speed = Speed()
        self._waits = WaitTracker()
        self._lock = threading.Lock()
        self._began = clock()
        self._next_at = self._began + FIRST_S
        self._last_line = ""
        self._refresh = RefreshThread("rlm_ray batch progress", DRAW_S, self.draw)

    def add(self, record: Record) -> None:
        """Add a record of the run."""
        with self._lock:
            self._waits.add(record)

    def status(self, status: RunStatus) -> None:
        """Take the status that the admission gives of the run."""
        with self._lock:
            self._waits.status(status, self._clock())

    def waits_for(self, what: str) -> None:
        """Take what keeps rows from beginning."""
        with self._lock:
            self._waits.waits_for(what)

    def draw(self) -> None:
        """Show how it stands now; in a log only when it is time."""
        now = self._clock()
        with self._lock:
            lines = [self._waits.text(now)]
        if self.stats is not None:
            speed = self._speed.look(self.stats, now)
            lines.insert(0, format_status(self.stats, *speed, now - self._began))
        shown = [line for line in lines if line]
        if self._console.is_interactive:
            self._live.update(Text("\n".join(shown), no_wrap=True, overflow="ellipsis"), refresh=True)
        elif now >= self._next_at and " · ".join(shown) != self._last_line:
            self._last_line, self._next_at = " · ".join(shown), now + EVERY_S
            clock = time.strftime("%H:%M:%S")
            self._console.print(f"{clock} {self._last_line}", markup=False, highlight=False, soft_wrap=True)

    def __enter__(self) -> Self:
        self._refresh.begin(*([self._live.start] if self._console.is_interactive else []))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._refresh.end(self._live.stop)
