"""What is said and asked before a question goes out: what it would cost, and whether that is meant."""

from __future__ import annotations

import sys

import typer

from rlm_ray.cli import console
from rlm_ray.core.limits import Limits
from rlm_ray.progress.formatting import format_count, format_usd
from rlm_ray.runs.estimate import RunEstimate

ASK_ABOVE_USD = 1.0
"""A run that may cost more is asked about at a terminal."""
ASK_ABOVE_TOKENS = 2_000_000
"""The same where no price is known."""


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
    if not typer.confirm("Begin?", default=True, err=True):
        console.print_status("not begun; --cost-usd limits what it may cost")
        raise typer.Exit(console.INTERRUPTED)
