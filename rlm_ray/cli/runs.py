"""`rlm-ray runs`: the runs on record, newest first; `runs prune`, `runs delete` and `cache prune` delete old runs and replies."""

from __future__ import annotations

import json
import re
import shutil
import sys
import time
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from rlm_ray.cli import console, options
from rlm_ray.cli.completion import complete_run
from rlm_ray.errors import InputError, JournalError, RLMError
from rlm_ray.events.records import RunFinished, RunStarted
from rlm_ray.journal.run_store import RunStore, find_run, list_runs
from rlm_ray.progress.live_state import one_line

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


OlderThan = Annotated[
    str | None, typer.Option(metavar="AGE", help="Only what is older: 30d, 12h, 2w ...", show_default=False)
]
Keep = Annotated[
    int | None, typer.Option(min=0, metavar="N", help="Keep the N newest, however old.", show_default=False)
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be dropped.")]
Names = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN...",
        help="Run ids or their beginnings, `last`, or run folders.",
        show_default=False,
        autocompletion=complete_run,
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="Delete without asking.")]
Folder = Annotated[
    str, typer.Argument(metavar="FOLDER", help="The folder given as cache=.", show_default=False)
]

_STARTED = re.compile(r"(\d{8}-\d{6})")


_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_AGE = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
MAX_DIGITS = 9


def prune_runs(
    older_than: OlderThan = None,
    keep: Keep = None,
    *,
    dry_run: DryRun = False,
    sets: options.SetOption = None,
) -> None:
    """Delete the folders of old runs: their records, answers and kept inputs. A run under way stays."""
    with console.handle_errors():
        if older_than is None and keep is None:
            raise InputError(
                "runs prune", "wants --older-than AGE, --keep N or both: it deletes runs for good"
            )
        before = time.time() - (seconds_of(older_than, "--older-than") if older_than is not None else 0.0)
        run_dir = options.run_dir_of(sets)
        old = [run for run in (list_runs(run_dir) if run_dir else [])[keep or 0 :] if _last_at(run) <= before]
        dropped = [run for run in old if _is_dropped(run, dry_run=dry_run)]
    console.print_status(
        f"{'would delete' if dry_run else 'deleted'} {len(dropped)} of {len(old)} old runs in {run_dir}"
    )
    raise typer.Exit(console.OK if len(dropped) == len(old) else console.FAILED)


def delete_runs(names: Names, *, yes: Yes = False, sets: options.SetOption = None) -> None:
    """Delete runs for good: their records, answers and kept inputs. At a terminal it asks first. A run under way stays."""
    with console.handle_errors():
        run_dir = options.run_dir_of(sets)
        found = {run.address: run for run in (find_run(name, run_dir) for name in names)}
        for run in found.values():
            console.print_status(f"{run.run_id}: {one_line(str(facts_of(run)['question']))}")
        if not yes and not console.confirm(f"Delete {len(found)} run(s)?", default=False):
            console.print_status("nothing is deleted; --yes deletes without asking")
            raise typer.Exit(console.INTERRUPTED)
        deleted = [run for run in found.values() if _is_dropped(run, dry_run=False)]
    raise typer.Exit(console.OK if len(deleted) == len(found) else console.FAILED)


def prune_cache(folder: Folder, older_than: OlderThan = None, *, dry_run: DryRun = False) -> None:
    """Drop the old replies of a response cache."""
    from rlm_ray.llm.response_cache import prune_replies

    with console.handle_errors():
        if older_than is None:
            raise InputError("cache prune", "wants --older-than AGE, such as 30d; 0s for all replies")
        count = prune_replies(folder, seconds_of(older_than, "--older-than"), dry_run=dry_run)
    console.print_status(f"{'would drop' if dry_run else 'dropped'} {count} replies of {folder}")
    raise typer.Exit(console.OK)


def _is_dropped(run: RunStore, *, dry_run: bool) -> bool:
    """Delete one; what cannot be deleted is said, and the others go on."""
    try:
        if (holder := run.current_writer()) is not None:
            raise JournalError(run.run_id, f"is under way ({holder} writes it); it stays")
        if not dry_run:
            run.delete()
    except (RLMError, OSError) as error:
        console.print_status(f"{run.run_id}: not deleted: {error}")
        return False
    console.write(run.run_id)
    return True


def _last_at(run: RunStore) -> float:
    """Return when it was last begun or ended, Unix time; by its name where the record cannot be read."""
    try:
        known = [record.at for record in (run.first_record(), run.last_end()) if record is not None]
    except RLMError:
        known = []
    if known:
        return max(known)
    found = _STARTED.match(run.run_id)
    try:
        return datetime.strptime(found[1], "%Y%m%d-%H%M%S").replace(tzinfo=UTC).timestamp() if found else 0.0
    except ValueError:
        return time.time()  # no date after all: nothing is known of its age, so it stays


def seconds_of(age: str, option: str) -> float:
    """Return the seconds of an age. Raises `InputError` in the name of the option."""
    found = _AGE.fullmatch(age.strip().lower())
    if found is None or len(found[1]) > MAX_DIGITS:
        raise InputError(option, f"must be a number with s, m, h, d or w, such as 30d; got {age!r}")
    return float(found[1]) * _UNITS_S[found[2]]
