"""What is said and asked before a question goes out: what it would cost, and whether that is meant."""

from __future__ import annotations

import errno
import itertools
import os
import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import typer

from rlm_ray.cli import console
from rlm_ray.config import Settings
from rlm_ray.core.limits import Limits
from rlm_ray.errors import ConfigError, InputError
from rlm_ray.progress.formatting import format_count, format_usd
from rlm_ray.runs.estimate import RunEstimate
from rlm_ray.runs.run import validate_query
from rlm_ray.util.filesystem import local_path

_LITTLE_BYTES = 1_000_000
"""A disk with less than this is full for a run."""
ASK_ABOVE_USD = 1.0
"""A run that may cost more is asked about at a terminal."""
ASK_ABOVE_TOKENS = 2_000_000
"""The same where no price is known."""


def question_of(question: str) -> str:
    """Return the question. Raises `InputError` where it is none, or the name of a file: then the question was forgotten."""
    validate_query(question)
    with suppress(OSError, ValueError):  # too long for a path, or none
        if Path(question).exists():
            why = f"is missing: {question!r} is a file; ask first, then name files: 'QUESTION' {question}"
            raise InputError("question", why)
    return question


def check_quoted(question: str, paths: Sequence[str]) -> None:
    """Raise `InputError` where a question lacks its quotation marks, so that its words stand where paths do."""
    words = list(itertools.takewhile(_is_word, paths))
    if not words or any(letter.isspace() for letter in question):
        return
    asked = " ".join([question, *words])
    why = f"is only {question!r}, and {words[0]!r} is no file; put the whole question in quotation marks: {shlex.quote(asked)}"
    raise InputError("question", why)


def _is_word(path: str) -> bool:
    """Tell whether what stands in a path's place is a word of a question: no file, and not written like one."""
    if path == "-" or not re.fullmatch(r"[^/.*\\~]+[.?!]*", path):
        return False
    try:
        return not Path(path).exists()
    except OSError:
        return False


def check_run_dir(settings: Settings) -> None:
    """Raise `ConfigError` where runs cannot be recorded in a folder of this machine; makes the folder."""
    path = local_path(settings.run_dir) if settings.run_dir else None
    if path is None or settings.on_journal_error != "stop":
        return
    change = "choose another with --set run_dir=FOLDER, or keep no record: --set run_dir="
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        free = shutil.disk_usage(path).free
    except OSError as error:
        why = f"runs cannot be recorded in {path} ({(error.strerror or str(error)).lower()}); {change}"
        raise ConfigError("run_dir", why) from error
    if free < _LITTLE_BYTES:
        raise ConfigError("run_dir", f"the disk of {path} is full; make room, or {change}")


def cost_line(model: str, found: RunEstimate, limits: Limits) -> str:
    """Say what a run would use, and what it may use at most."""
    tokens = f"about {format_count(found.least_tokens)} to {format_count(found.most_tokens)} tokens"
    if found.least_usd is None or found.most_usd is None:
        cost = f"{tokens}, the price of {model} is not known"
    else:
        cost = f"{format_usd(found.least_usd)} to {format_usd(found.most_usd)} ({tokens})"
    where = f"{format_count(found.context_tokens)} tokens of context"
    return f"{where}; {model}: {cost}; limit: {_limit(limits)}"


def _limit(limits: Limits) -> str:
    said = [format_usd(limits.cost_usd)] if limits.cost_usd is not None else []
    said += [f"{format_count(limits.tokens)} tokens"] if limits.tokens is not None else []
    return " and ".join(said) or "none (--cost-usd sets one)"


def is_dear(found: RunEstimate) -> bool:
    """Tell whether a person should be asked before it begins."""
    if found.risk_usd is None:
        return found.most_tokens > ASK_ABOVE_TOKENS
    return found.risk_usd > ASK_ABOVE_USD


def confirm(found: RunEstimate, *, yes: bool) -> None:
    """Ask at a terminal about a dear run; scripts are not asked. Leave where the answer is no."""
    if yes or not is_dear(found) or sys.stdin is None or not sys.stdin.isatty():
        return
    if not console.confirm("Begin?", default=True):
        console.print_status("not begun; --cost-usd limits what it may cost")
        raise typer.Exit(console.INTERRUPTED)
