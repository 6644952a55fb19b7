"""Exit codes, errors as one sentence on stderr, and all that commands print.

`say` and `write` are the one place where text of models and files goes to a terminal: without control characters.

The processes below this one, for a quick end: Ray's own goodbye takes more than a second.

Only a Ray that this process started is below it; a cluster it merely uses is not.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import typer
from rich.console import Console

from rlm_ray.core.printable import printable
from rlm_ray.errors import AuthenticationError, ConfigError, InputError, LimitReached, RLMError

OK = 0
FAILED = 1
USAGE = 2
LIMIT = 4
CONFIGURATION = 5
INTERRUPTED = 130

stderr = Console(stderr=True, highlight=False, emoji=False)


@contextmanager
def handle_errors() -> Iterator[None]:
    """Print an error of ours as one sentence and leave with its code."""
    try:
        yield
    except RLMError as error:
        print_status(f"error: {error}")
        raise typer.Exit(code_of(error)) from error


def code_of(error: RLMError) -> int:
    match error:
        case InputError():
            return USAGE
        case ConfigError() | AuthenticationError():
            return CONFIGURATION
        case LimitReached():
            return LIMIT
        case _:
            return FAILED


def exit_process(code: object) -> NoReturn:
    """End this process now, and a Ray that it started with it."""
    with contextlib.suppress(OSError):  # whoever read the answer may be gone: `rlm-ray ask ... | head -1`
        sys.stdout.flush()
        sys.stderr.flush()
    kill_descendants()
    if (tracing := sys.modules.get("rlm_ray.tracing.exporters")) is not None:
        tracing.flush_at_exit()
    os._exit(code if isinstance(code, int) else OK if code is None else FAILED)


def leave_at_once() -> NoReturn:
    """End this process on a second Ctrl-C: without waiting for anything, and without a traceback."""
    with contextlib.suppress(Exception):
        stderr.show_cursor()
    exit_process(INTERRUPTED)


class StopOnSignal:
    """Call `stop` at the first Ctrl-C or SIGTERM; the second ends this process. Make it inside the event loop."""

    def __init__(self, stop: Callable[[], object], doing: str) -> None:
        self.stop = stop
        self.called = False
        self._doing = doing
        self._stopping: object = None
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal)

    def _on_signal(self) -> None:
        """Begin to stop in order at the first signal; leave at once at the second."""
        if self.called:
            leave_at_once()
        self.called = True
        print_status(f"interrupted: {self._doing} (once more to leave at once)")
        self._stopping = self.stop()  # a task lives only while somebody holds it


def print_status(text: str) -> None:
    """Print one line for people, on stderr."""
    stderr.print(printable(text), markup=False, soft_wrap=True)


def write(text: str) -> None:
    """Print one text on stdout: as it is where a program or file reads it, without control characters at a terminal."""
    print(printable(text) if sys.stdout is not None and sys.stdout.isatty() else text)


class PrintableFormatter(logging.Formatter):
    """Log lines without control characters: they tell of files and models."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def kill_descendants() -> None:
    """Send SIGKILL to every process below this one."""
    for pid in descendants(os.getpid(), _parents()):
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def descendants(pid: int, parents: dict[int, int]) -> set[int]:
    """Return all processes whose parents lead to `pid`; itself not among them."""
    found = {pid}
    size = 0
    while len(found) > size:
        size = len(found)
        found |= {child for child, parent in parents.items() if parent in found}
    return found - {pid}


def _parents() -> dict[int, int]:
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):  # it may end while we look
                parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
    return parents
