"""How much a command says, and where: -q, -v and --log-file, which every command has."""

from __future__ import annotations

import inspect
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from rlm_ray.cli import console
from rlm_ray.errors import InputError
from rlm_ray.util.log_format import JsonFormatter

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print the answer and errors, and nothing else.")]
Verbose = Annotated[
    int, typer.Option("--verbose", "-v", count=True, help="Say on stderr what is done; -vv: all of it.")
]
LogFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Write what is said and done to the end of this file, too."),
]
_LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)
_LINES = "%(asctime)s %(levelname)s %(message)s"
_OPTIONS = {"quiet": (Quiet, False), "verbose": (Verbose, 0), "log_file": (LogFile, None)}


def use_format(log_format: str) -> None:
    """Write log lines of the command in this format from here on, as the settings say: `text`, or `json`."""
    if log_format != "json":
        return
    for handler in logging.getLogger("rlm_ray").handlers:
        if isinstance(handler, _StatusHandler | logging.FileHandler):
            handler.setFormatter(JsonFormatter())


def with_output_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options, and carry it out under them."""

    @wraps(command)
    def run(**values: Any) -> None:
        given = {name: values.pop(name) for name in _OPTIONS}
        with console.handle_errors(), output(**given):
            command(**values)

    own = inspect.signature(command, eval_str=True).parameters.values()
    keyword = inspect.Parameter.KEYWORD_ONLY
    added = [
        inspect.Parameter(name, keyword, default=default, annotation=annotation)
        for name, (annotation, default) in _OPTIONS.items()
    ]
    found = [*(parameter.replace(kind=keyword) for parameter in own), *added]
    vars(run).pop("__wrapped__")  # typer is to see these parameters, not the command's
    vars(run)["__signature__"] = inspect.Signature(found)
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in found}
    return run


@contextmanager
def output(*, quiet: bool, verbose: int, log_file: Path | None) -> Iterator[None]:
    """Say so much on stderr inside of the block, and write it to a file. Raises `InputError` where that cannot be written."""
    if quiet and verbose:
        raise InputError("--quiet", "says the opposite of --verbose; give one of them")
    on_stderr = logging.ERROR if quiet else _LEVELS[min(verbose, 2)]
    handlers: list[logging.Handler] = [_StatusHandler(on_stderr)]
    if log_file is not None:
        handlers.append(_file_handler(log_file, logging.DEBUG if verbose else logging.INFO))
    logger, said = logging.getLogger("rlm_ray"), logging.getLogger("rlm_ray.cli.said")
    before = logger.level, console.stderr.quiet
    logger.setLevel(min(handler.level for handler in handlers))
    console.stderr.quiet = quiet
    for handler in handlers:
        logger.addHandler(handler)
    for handler in handlers[1:]:
        said.addHandler(handler)
    try:
        yield
    finally:
        for handler in handlers:
            logger.removeHandler(handler)
            said.removeHandler(handler)
            handler.close()
        logger.level, console.stderr.quiet = before


class _StatusHandler(logging.Handler):
    """Log lines on stderr, above what is drawn there."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.setFormatter(console.PrintableFormatter(_LINES, "%H:%M:%S"))

    def emit(self, record: logging.LogRecord) -> None:
        is_plain = record.levelno >= logging.WARNING and not isinstance(self.formatter, JsonFormatter)
        text = record.getMessage() if is_plain else self.format(record)
        console.print_log(text)


def _file_handler(path: Path, level: int) -> logging.Handler:
    try:
        os.close(os.open(path.expanduser(), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        handler = logging.FileHandler(path.expanduser(), encoding="utf-8", errors="replace")
    except OSError as error:
        why = f"{path} cannot be written: {(error.strerror or str(error)).lower()}; name another file"
        raise InputError("--log-file", why) from error
    handler.setLevel(level)
    handler.setFormatter(console.PrintableFormatter(_LINES))
    return handler
