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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import NoReturn

import typer
from rich.console import Console

from rlm_ray.core.display import printable
from rlm_ray.errors import AuthenticationError, ConfigError, InputError, LimitReached, RLMError

OK, FAILED, USAGE, SOME_FAILED, LIMIT, CONFIGURATION, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130
EXIT_CODES: Mapping[int, str] = MappingProxyType(
    {
        OK: "done, or answered",
        FAILED: "failed",
        USAGE: "usage, or an input that cannot be read",
        SOME_FAILED: "some rows or pieces failed",
        LIMIT: "a limit was reached, and what is known is printed",
        CONFIGURATION: "configuration, key or price",
        INTERRUPTED: "interrupted",
    }
)
"""What every command means by its exit codes; `docs/cli.md` shows the same table."""
_WORDS = MappingProxyType({"query": "question", "query column": "--question-column"})
"""What the Python API calls by another word than the command line."""

_said = logging.getLogger("rlm_ray.cli.said")
"""What was printed for people: for a log file, and not for the terminal a second time."""
_said.propagate = False
_said.setLevel(logging.INFO)
_said.addHandler(logging.NullHandler())
stderr = Console(stderr=True, highlight=False, emoji=False)


@contextmanager
def handle_errors() -> Iterator[None]:
    """Print an error of ours as one sentence and leave with its code."""
    try:
        yield
    except RLMError as error:
        print_error(f"error: {_sentence(error)}")
        raise typer.Exit(code_of(error)) from error


def _sentence(error: RLMError) -> str:
    """Return an error in the words of the command line."""
    if isinstance(error, InputError) and error.what in _WORDS:
        return f"{_WORDS[error.what]}: {error.why}"
    return str(error)


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
    """Print one line for people, on stderr; nothing with -q. A log file gets it in any case."""
    _said.info("%s", printable(text))
    stderr.print(printable(text), markup=False, soft_wrap=True)


def print_log(text: str) -> None:
    """Print one line of a log, on stderr: the file of a log has it already."""
    was_quiet, stderr.quiet = stderr.quiet, False
    try:
        stderr.print(printable(text), markup=False, soft_wrap=True)
    finally:
        stderr.quiet = was_quiet


def print_error(text: str) -> None:
    """Print one line for people, on stderr, also with -q."""
    _said.info("%s", printable(text))
    print_log(text)


def confirm(question: str, *, default: bool) -> bool:
    """Ask a person; Ctrl-C and the end of the input are a no."""
    try:
        return typer.confirm(question, default=default, err=True)
    except typer.Abort:
        stderr.print()  # the line of the question ends
        return False


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
