"""`rlm-ray runs prune`, `cache prune` and `shutdown`: delete old runs and replies, end actors that stay on a cluster."""

from __future__ import annotations

import asyncio
import re
import time
from datetime import UTC, datetime
from typing import Annotated

import typer

from rlm_ray.cli import console, options
from rlm_ray.cli.completion import complete_run
from rlm_ray.cli.runs import facts_of
from rlm_ray.errors import InputError, JournalError, RLMError
from rlm_ray.journal.run_store import RunStore, find_run, list_runs
from rlm_ray.progress.live_state import one_line

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


Force = Annotated[
    bool, typer.Option("--force", help="Also while runs are under way; they fail or lose records.")
]
AllVersions = Annotated[
    bool,
    typer.Option(
        "--all-versions", help="Also those of other versions of rlm_ray, whose runs cannot be asked for."
    ),
]


def shutdown(
    *, force: Force = False, all_versions: AllVersions = False, sets: options.SetOption = None
) -> None:
    """End the admission, journals, caches and run registries that rlm_ray keeps on a running cluster.

    Refused while runs are under way. The next run starts them again.
    """
    with console.handle_errors():
        from rlm_ray.cluster.detached_actor import end_detached_actors

        address = options.settings_of(options.given_of(sets)).cluster.address
        ended = asyncio.run(end_detached_actors(address, force=force, all_versions=all_versions))
        for name in ended:
            console.write(name)
        console.print_status(
            f"ended {len(ended)} detached actors" if ended else "there are no detached actors to end"
        )
    raise typer.Exit(console.OK)
