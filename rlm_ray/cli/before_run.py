"""What is said and asked before a question goes out: what it would cost, and whether that is meant.

The estimate is an order of magnitude. A session looks at its context by code that costs nothing, and asks models about the pieces
that it chooses. So a run costs between a few turns (`least`) and all of the context read once by sub-calls, with as many turns as
are allowed (`most`).
"""

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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import typer

from rlm_ray.cli import console
from rlm_ray.config import Settings
from rlm_ray.core.context import Context
from rlm_ray.core.limits import Limits
from rlm_ray.core.llm import BYTES_PER_TOKEN, Usage
from rlm_ray.errors import ConfigError, InputError
from rlm_ray.llm.model_check import price_of
from rlm_ray.progress.render import format_count, format_usd
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


_PROMPT_TOKENS = 2_500
"""The instructions and the head of the context, which every turn begins with."""
_TURN_TOKENS, _ANSWER_TOKENS = 800, 300
"""What a turn adds to the messages: code and what it printed; and what a sub-call answers."""
_LEAST_TURNS, _MOST_TURNS = 2, 10


@dataclass(frozen=True, slots=True)
class RunEstimate:
    """What a run would use."""

    documents: int
    chars: int
    context_tokens: int
    least_tokens: int
    most_tokens: int
    least_usd: float | None
    """None where the price is not known."""
    most_usd: float | None
    limit_usd: float | None
    """`limits.cost_usd`, which ends the run before it costs more."""

    @property
    def risk_usd(self) -> float | None:
        """Return the most that can be lost: what it would take, or its limit."""
        known = [usd for usd in (self.most_usd, self.limit_usd) if usd is not None]
        return min(known, default=None)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def estimate_run(settings: Settings, question: str, context: Context) -> RunEstimate:
    """Estimate a run by the sizes of its question and its context; asks nobody."""
    question_tokens = len(question.encode("utf-8", "replace")) // BYTES_PER_TOKEN
    tokens = context.nbytes // BYTES_PER_TOKEN
    if settings.answers_directly(context.info):
        once = Usage(tokens + question_tokens + _ANSWER_TOKENS, _ANSWER_TOKENS)
        root, most_root, leaves = once, once, Usage()
    else:
        turns = min(_MOST_TURNS, settings.max_iterations)
        root = _turns(min(_LEAST_TURNS, turns), question_tokens)
        most_root = _turns(turns, question_tokens)
        piece_bytes = max(settings.max_leaf_chars, 1)
        pieces = -(-context.nbytes // piece_bytes)
        leaves = Usage(tokens + pieces * (question_tokens + _ANSWER_TOKENS), pieces * _ANSWER_TOKENS)
    prices = [price_of(settings.model_at(depth)[0], settings) for depth in (0, 1)]
    leaf_usd = 0.0 if leaves == Usage() else None if prices[1] is None else prices[1].cost(leaves)
    most_usd = None if prices[0] is None or leaf_usd is None else prices[0].cost(most_root) + leaf_usd
    return RunEstimate(
        context.info.documents,
        context.info.chars,
        tokens,
        _total(root),
        _total(most_root) + _total(leaves),
        None if prices[0] is None else prices[0].cost(root),
        most_usd,
        settings.limits.cost_usd,
    )


def _turns(count: int, question_tokens: int) -> Usage:
    """Return the usage of so many turns, each of which reads all that were before."""
    read = sum(_PROMPT_TOKENS + question_tokens + turn * _TURN_TOKENS for turn in range(count))
    return Usage(read, count * _TURN_TOKENS // 2)


def _total(usage: Usage) -> int:
    return usage.input_tokens + usage.output_tokens
