"""Where a run is shown: `TerminalDisplay`, `LogDisplay` or `NotebookDisplay`, and `RunLog`, whose lines are read afterwards.

None of the displays keeps time. `RunLog` writes records as lines of a log (`rlm-ray -v`, `--log-file`).
"""

from __future__ import annotations

import io
import logging
import math
import re
import sys
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any, Protocol

from rich.console import Console
from rich.control import Control
from rich.live import Live
from rich.segment import ControlType
from rich.text import Text

from rlm_ray.events.records import (
    CallEnded,
    CellEnded,
    NodePath,
    Record,
    RunFinished,
    RunStarted,
    SessionEnded,
    SessionOpened,
)
from rlm_ray.progress.live_state import ROWS, Snapshot, one_line
from rlm_ray.progress.render import ASCII, Glyphs, format_line, format_usd, lines

FIRST_LINE_S, CHANGE_INTERVAL_S, QUIET_INTERVAL_S = 10.0, 3.0, 15.0
"""A log gets its first line after so long; then at most so often when there is something to tell, and when only the
figures have grown."""
NOTEBOOK_WIDTH = 100
_NUMBERS = re.compile(r"\d+")
_HTML = '<pre style="white-space:pre;line-height:1.2;font-family:monospace">{code}</pre>'


class DisplayTarget(Protocol):
    """Shows views, one after the other, from `start` to `stop`."""

    @property
    def every_s(self) -> float:
        """Return how often it wants to be shown a view."""

    @property
    def rows(self) -> int:
        """Return how many rows it has room for."""

    def start(self) -> None: ...

    def show(self, view: Snapshot, now: float) -> None: ...

    def stop(self) -> None: ...


def select_target(console: Console) -> DisplayTarget:
    """Return the display that suits this console."""
    if console.is_jupyter:
        # it is there, for we are in it
        return NotebookDisplay(import_module("IPython.display").display)
    return TerminalDisplay(console) if console.is_interactive else LogDisplay(console)


class TerminalDisplay:
    """A display that is drawn over and over at the bottom of a terminal, and is gone in the end."""

    every_s = 0.25

    def __init__(self, console: Console) -> None:
        self._console = console
        self._glyphs = Glyphs() if console.encoding.startswith("utf") else ASCII
        self._width = console.width
        self._lines: list[Text] = []
        self._live = Live(
            console=console,
            auto_refresh=False,
            transient=True,
            # what is printed meanwhile appears above; but a stdout that goes elsewhere stays there
            redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),
        )

    @property
    def rows(self) -> int:
        return max(min(self._console.height - 8, ROWS), 1)

    def start(self) -> None:
        self._live.start()

    def show(self, view: Snapshot, now: float) -> None:
        self._clear_wrapped_lines()
        self._lines = lines(view, self._width, now, self._glyphs)
        self._live.update(_joined(self._lines), refresh=True)

    def stop(self) -> None:
        self._clear_wrapped_lines()
        self._live.stop()

    def _clear_wrapped_lines(self) -> None:
        """Clear lines that a terminal folded when it was made narrower; rich does not know of them."""
        before, self._width = self._width, self._console.width
        if self._width < before:
            folded = sum((line.cell_len - 1) // self._width for line in self._lines if line)
            self._console.control(
                Control(*[(ControlType.ERASE_IN_LINE, 2), (ControlType.CURSOR_UP, 1)] * folded)
            )


class LogDisplay:
    """A line with the time of day now and then. A run that is over soon says nothing."""

    every_s = 0.5
    rows = 1

    def __init__(self, console: Console) -> None:
        self._console = console
        self._view = Snapshot()
        self._now = 0.0
        self._last_line = ""
        self._last_line_at = -math.inf
        self._first_at: float | None = None
        self._last_change: object = None

    def start(self) -> None:
        pass

    def show(self, view: Snapshot, now: float) -> None:
        self._view, self._now = view, now
        if self._first_at is None:
            self._first_at = now + FIRST_LINE_S
        since_s, change = now - self._last_line_at, _change_key(view)
        is_due = since_s >= QUIET_INTERVAL_S or (since_s >= CHANGE_INTERVAL_S and change != self._last_change)
        if is_due and now >= self._first_at:
            self._last_change, self._last_line_at = change, now
            self._print_line()

    def stop(self) -> None:
        if self._last_line:
            self._print_line()

    def _print_line(self) -> None:
        line = format_line(self._view)
        if line != self._last_line:
            self._last_line = line
            clock = time.strftime("%H:%M:%S", time.localtime(self._now))
            self._console.print(f"{clock} {line}", markup=False, highlight=False, soft_wrap=True)


def _change_key(view: Snapshot) -> object:
    """Return what makes a line worth writing before its time."""
    root = view.root
    at = (root.turn, root.sub_calls, root.failed) if root is not None else ()
    return at, view.ended, frozenset(view.waiting), "" if view.has_begun else _NUMBERS.sub("", view.waits_for)


class NotebookDisplay:
    """An output of a cell that is replaced, and stays as it was last. `display` is IPython's."""

    every_s = 1.0
    rows = ROWS

    def __init__(self, display: Callable[..., Any]) -> None:
        self._display = display
        self._handle: Any = None

    def start(self) -> None:
        # from the caller's thread, so that it belongs to the caller's cell
        self._handle = self._display({"text/plain": ""}, raw=True, display_id=True)

    def show(self, view: Snapshot, now: float) -> None:
        self._handle.update({"text/plain": format_line(view), "text/html": html(view, now)}, raw=True)

    def stop(self) -> None:
        pass


def html(view: Snapshot, now: float) -> str:
    """Return what a terminal of a usual width would show."""
    console = Console(file=io.StringIO(), record=True, width=NOTEBOOK_WIDTH, force_jupyter=False)
    console.print(_joined(lines(view, NOTEBOOK_WIDTH, now, Glyphs())))
    return console.export_html(code_format=_HTML, inline_styles=True)


def _joined(drawn: list[Text]) -> Text:
    return Text("\n", no_wrap=True, overflow="crop").join(drawn)


_log = logging.getLogger(__name__)


class RunLog:
    """An observer that logs what a run does: calls and ends as INFO, sessions and code as DEBUG."""

    def add(self, record: Record) -> None:
        """Log a record."""
        if not _log.isEnabledFor(logging.INFO):
            return
        match record:
            case RunStarted():
                _log.info("run %s begins (attempt %d)", record.run_id, record.life)
            case SessionOpened():
                _log.debug("session %s with %s: %s", _name(record.path), record.model, one_line(record.query))
            case CallEnded(error_kind=""):
                used = f"{record.usage.input_tokens:,} tokens in, {record.usage.output_tokens:,} out"
                cost = "" if record.cost_usd is None else f", {format_usd(record.cost_usd)}"
                hit = " from the cache" if record.cache_hit else ""
                seconds = record.at - record.started
                what = f"{record.role} {record.call} of {_name(record.path)}"
                _log.info("%s: %s answered%s, %s%s, %.1f s", what, record.model, hit, used, cost, seconds)
            case CallEnded():
                what = f"{record.role} {record.call} of {_name(record.path)}"
                _log.info("%s: %s failed: %s", what, record.model, one_line(record.why or record.error_kind))
            case CellEnded():
                how = one_line(record.error) if record.error else "ran"
                _log.debug("code of turn %d of %s: %s", record.turn, _name(record.path), how)
            case SessionEnded():
                how = one_line(record.why) or record.stop_reason
                _log.debug("session %s ended: %s", _name(record.path), how)
            case RunFinished():
                why = f": {one_line(record.why)}" if record.why else ""
                _log.info("the run ended after %.1f s: %s%s", record.seconds, record.stop_reason, why)
            case _:
                pass


def _name(path: NodePath) -> str:
    return ".".join(map(str, path)) or "the root"
