"""`rlm-ray ask`: one question over files, folders, globs or stdin."""

from __future__ import annotations

import asyncio
import glob
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from rlm_ray.cli import console, options, run_display
from rlm_ray.config import Settings
from rlm_ray.errors import InputError
from rlm_ray.progress import Progress
from rlm_ray.rlm import RLM
from rlm_ray.runs.context_loader import decode_utf8
from rlm_ray.runs.run import Result, Run

Question = Annotated[
    str, typer.Argument(metavar="QUESTION", help="What you want to know.", show_default=False)
]
Paths = Annotated[
    list[str] | None, typer.Argument(metavar="PATH|-", help="Files, folders, globs, or - for stdin.")
]


@options.settings_options()
def ask(
    question: Question,
    paths: Paths = None,
    *,
    given: options.Overrides,
    as_json: options.Json = False,
) -> None:
    """Ask one question about text of any size.

    The answer is all that goes to stdout.
    """
    with console.handle_errors():
        settings = options.settings_of(given)
        result = asyncio.run(_ask(settings, question, context_of(paths or [])))
    run_display.print_result(result, as_json=as_json)
    raise typer.Exit(run_display.exit_code_for(result))


async def _ask(settings: Settings, question: str, context: Any) -> Result:
    async def start(progress: Progress) -> Run:
        return await RLM(settings).astart(question, context, observers=[progress])

    return await run_display.run_with_display(start, settings.limits)


def context_of(paths: list[str]) -> Any:
    """Stdin for `-`, or for nothing where something is piped in; else the files the paths and globs name."""
    if paths == ["-"] or (not paths and not _at_a_terminal()):
        return _stdin()
    if not paths:
        raise InputError(
            "input", "is missing; name files, folders or globs after the question, or pipe text in"
        )
    if "-" in paths:
        raise InputError("-", "stands alone: stdin cannot be mixed with files")
    return [path for pattern in paths for path in _expanded(pattern)]


def _at_a_terminal() -> bool:
    """Nobody pipes anything in; so it is where stdin is closed, too."""
    return sys.stdin is None or sys.stdin.isatty()


def _stdin() -> str:
    data = sys.stdin.buffer.read() if sys.stdin is not None else b""
    if not data:
        raise InputError(
            "stdin", "is empty; pipe text in, or name files, folders or globs after the question"
        )
    return decode_utf8(data, "stdin")


def _expanded(pattern: str) -> list[Path]:
    if _exists(pattern) or not glob.has_magic(pattern):
        return [Path(pattern)]
    found = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 - Path.glob takes no absolute patterns
    if not found:
        raise InputError(pattern, "matches no file; check the pattern (the question comes first, then paths)")
    return [Path(name) for name in found]


def _exists(name: str) -> bool:
    try:
        return Path(name).exists()
    except OSError as error:  # the question in a path's place is often too long for one
        why = f"cannot be a path: {(error.strerror or str(error)).lower()} (the question comes first, then paths)"
        raise InputError(f"{name[:40]}…", why) from error
