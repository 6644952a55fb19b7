"""`rlm-ray runs`: the runs on record, newest first."""

from __future__ import annotations

import json
import shutil
import sys
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from rlm_ray.cli import console, options
from rlm_ray.errors import RLMError
from rlm_ray.events.records import RunFinished, RunStarted
from rlm_ray.journal.run_store import RunStore, list_runs

UNFINISHED = "unfinished"
HEADS = ("RUN", "STARTED", "STATE", "CALLS", "COST", "SECONDS", "QUESTION")
_ROW = "{:<{}}  {:<16}  {:<14}  {:>7}  {:>10}  {:>8}  {}"


Limit = Annotated[
    int | None,
    typer.Option(
        min=1, metavar="N", help="Only the N newest; default: 20 at a terminal, else all.", show_default=False
    ),
]
AT_A_TERMINAL = 20


def runs(
    context: typer.Context,
    limit: Limit = None,
    sets: options.SetOption = None,
    as_json: options.Json = False,
) -> None:
    """List the runs on record, newest first; `delete` deletes some, `prune` old ones."""
    if context.invoked_subcommand is not None:
        return
    with console.handle_errors():
        run_dir = options.run_dir_of(sets)
        every = list_runs(run_dir) if run_dir else []
        shown = limit or (AT_A_TERMINAL if _at_a_terminal() and not as_json else len(every))
        found = [facts_of(folder) for folder in every[:shown]]
    if as_json:
        console.write(json.dumps(found, ensure_ascii=False))
    elif found:
        console.write("\n".join(_lines(found)))
        if len(found) < len(every):
            console.print_status(f"{len(found):,} of {len(every):,} runs; --limit N shows more")
    else:
        console.print_status(f"no runs in {run_dir}" if run_dir else "no runs are kept: run_dir is empty")
    raise typer.Exit(console.OK)


def facts_of(folder: RunStore) -> dict[str, Any]:
    """Return what its first and its last record tell; None where there is none yet."""
    try:
        head, tail = folder.first_record(), folder.last_end()
    except RLMError:  # one broken journal must not hide the others; `rlm-ray view` says what is wrong with it
        return _facts(folder.run_id, "unreadable", None, None)
    state = UNFINISHED if tail is None else "error" if tail.error_kind else tail.stop_reason
    return _facts(folder.run_id, state, head, tail)


def _facts(run_id: str, state: str, head: RunStarted | None, tail: RunFinished | None) -> dict[str, Any]:
    total = tail.usage.get("total", {}) if tail else {}
    return {
        "run_id": run_id,
        "started": datetime.fromtimestamp(head.at, UTC).isoformat(timespec="seconds") if head else None,
        "state": state,
        "calls": total.get("calls"),
        "cost_usd": total.get("cost_usd"),
        "seconds": tail.seconds if tail else None,
        "question": head.query if head else "",
    }


def _lines(found: list[dict[str, Any]]) -> list[str]:
    wide = max(len(run["run_id"]) for run in found)
    lines = [_ROW.format(HEADS[0], wide, *HEADS[1:])]
    for run in found:
        started = (run["started"] or "-")[:16].replace("T", " ")
        cost = _figure(run["cost_usd"], "${:.4f}")
        figures = (_figure(run["calls"], "{:,}"), cost, _figure(run["seconds"], "{:.1f}"))
        lines.append(
            _ROW.format(run["run_id"], wide, started, run["state"], *figures, _one_line(run["question"]))
        )
    return [_cut(line) for line in lines]


def _figure(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def _one_line(text: str) -> str:
    """Return a text without line ends and without what a terminal would obey."""
    return "".join(letter for letter in " ".join(text.split()) if letter.isprintable())


def _cut(line: str) -> str:
    """Cut a line to the width of a terminal; what goes to a pipe or a file stays whole."""
    width = shutil.get_terminal_size().columns
    whole = line.rstrip()
    return whole if len(whole) <= width or not _at_a_terminal() else whole[: width - 1] + "…"


def _at_a_terminal() -> bool:
    return sys.stdout.isatty()
