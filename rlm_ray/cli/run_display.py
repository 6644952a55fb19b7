"""A run at the terminal: shown while it goes on, stopped by Ctrl-C, and printed at its end, with the command that goes
on with it where it has no answer.
"""

from __future__ import annotations

import asyncio
import json
import shlex
from collections.abc import Awaitable, Callable, Mapping
from textwrap import shorten
from typing import Any

from rlm_ray.cli import console, options
from rlm_ray.config.trust import destinations, without
from rlm_ray.core.limits import Limits
from rlm_ray.core.secrets import REDACTED
from rlm_ray.core.state_machine import MISFIT
from rlm_ray.errors import ClusterError, InputError, JournalError, ModelUnavailableError, QuotaError
from rlm_ray.journal.run_store import RunStore, find_run
from rlm_ray.progress import Progress
from rlm_ray.runs.context_loader import noted_paths
from rlm_ray.runs.run import Result, Run
from rlm_ray.runs.run_history import load_command, load_run_history

_CITATIONS, _QUOTE_CHARS = 10, 200


async def run_with_display(start: Callable[[Progress], Awaitable[Run]], limits: Limits) -> Result:
    """Show the run until it ends; the first Ctrl-C makes it end."""
    with Progress(limits, console=console.stderr) as progress:
        run = await start(progress)
        stopping = console.StopOnSignal(lambda: asyncio.ensure_future(run.stop()), "stopping the run")
        try:
            return await run.result()
        except asyncio.CancelledError:
            if not stopping.called:
                raise
            return run.interrupted_result()
        except (ClusterError, JournalError, ModelUnavailableError, QuotaError):
            if run.is_resumable and (command := resume_hint(run.settings.run_dir, run.run_id)):
                console.print_error(f"what was done is on record; go on later with: {command}")
            raise


def print_result(result: Result, *, as_json: bool) -> None:
    """Print the answer on stdout; why there is none, or not the whole one, on stderr."""
    if as_json:
        console.write(json.dumps(result.as_dict(), ensure_ascii=False))
    elif result.answer is not None and result.stop_reason != MISFIT:
        console.write(result.answer)
    if not as_json:
        _print_citations(result)
    if result.stop_reason == MISFIT:
        console.print_error(f"error: {result.why}; the last answer was: {result.answer}")
    elif not result.answered:
        known = "nothing was known by then" if result.answer is None else "what is printed was known by then"
        console.print_error(f"{result.why} (stop reason: {result.stop_reason}); {known}")
        command = resume_hint(result.run_dir, result.run_id, result.stop_reason) if result.run_dir else ""
        if command:
            console.print_error(f"go on with: {command}")


def _print_citations(result: Result) -> None:
    """Print the words that the answer rests on, and where they stand, on stderr."""
    for cited in result.citations[:_CITATIONS]:
        console.print_status(
            f"cited: {shorten(cited.quote, _QUOTE_CHARS, placeholder=' …')!r} ({cited.place})"
        )
    if (more := len(result.citations) - _CITATIONS) > 0:
        console.print_status(f"cited: {more:,} more (--json has all)")


def exit_code_for(result: Result) -> int:
    """Return the exit code that tells how a run ended."""
    if result.stop_reason == "interrupted":
        return console.INTERRUPTED
    if result.stop_reason == MISFIT:
        return console.FAILED
    return console.OK if result.answered else console.LIMIT


_HIGHER = {name: f"limits.{name}" for name in ("cost_usd", "tokens", "calls", "sessions")} | {
    "max_iterations": "max_iterations"
}
"""By why a run was stopped, the limit that would stop the next attempt at once."""


def resume_hint(run_dir: str, run_id: str, stop_reason: str = "") -> str:
    """Return the command that goes on with a run of this user's own, and what must be given with it; empty where nothing can.

    It trusts the record where that says where questions go, or which files were read. Keys are on no record.
    """
    folder = RunStore(run_dir, run_id)
    try:
        recorded, paths = load_run_history(folder).settings, noted_paths(folder)
    except JournalError:  # there is no question on record
        return ""
    command = f"rlm-ray resume {shlex.quote(_name(folder))}"
    if paths or load_command(folder) or destinations(without(recorded, {"run_dir": 1})):
        command += " --trust-record"
    own = {item.name for item in options.own_destinations()}
    missing = [f"{name} again" for name in _hidden_params(recorded) if name not in own]
    missing += [f"a higher {_HIGHER[stop_reason]}"] if stop_reason in _HIGHER else []
    return f"{command} (give {', '.join(missing)})" if missing else command


def _name(folder: RunStore) -> str:
    """Return its id, where the command finds it by that; else its address."""
    try:
        found = find_run(folder.run_id, options.settings_of([]).run_dir)
    except (InputError, JournalError):
        return folder.address
    return folder.run_id if found.address == folder.address else folder.address


def _hidden_params(recorded: Mapping[str, Any]) -> list[str]:
    params = recorded.get("params") or {}
    return [f"params.{name}" for name, value in params.items() if REDACTED in repr(value)]
