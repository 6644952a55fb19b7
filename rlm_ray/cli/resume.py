"""`rlm-ray resume`: go on with a run that was killed or stopped.

A command that is noted in the folder of its run is given again as it was, with --trust-record only.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from typing import Annotated, TypeVar

import typer

from rlm_ray.cli import console, options, run_display
from rlm_ray.cli.ask import Paths, context_of
from rlm_ray.cli.batch import BatchCommand, resume_batch
from rlm_ray.cli.completion import complete_run
from rlm_ray.cli.map_reduce import MapReduceCommand, carry_out
from rlm_ray.config import Settings, merge_settings, settings_from_dict
from rlm_ray.core.secrets import redact
from rlm_ray.errors import InputError, JournalError
from rlm_ray.journal.run_store import RunStore, find_run
from rlm_ray.progress import Progress, RunLog
from rlm_ray.runs.resume import prepare_resume
from rlm_ray.runs.run import Result, Run
from rlm_ray.runs.run_history import COMMAND_FILE, CommandRecord, how_to_go_on, load_command, load_run_history

RunName = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="A run id or its beginning, `last`, or a run folder.",
        show_default=False,
        autocompletion=complete_run,
    ),
]

TrustRecord = Annotated[
    bool,
    typer.Option(
        "--trust-record", help="Take addresses and paths from the record, too: only for a run of your own."
    ),
]


T = TypeVar("T")


def arguments_as(kind: type[T], note: CommandRecord, folder: RunStore) -> T:
    """Return the arguments of a command as it takes them. Raises `JournalError` where they are none."""
    try:
        return kind(**note.arguments)
    except TypeError as error:
        why = f"its {COMMAND_FILE} is not of this version; give the command again"
        raise JournalError(folder.run_id, why) from error


def settings_to_go_on(folder: RunStore, given: options.Overrides) -> Settings:
    """Return the settings of a recorded run with what is given now; keys are on no record."""
    recorded = settings_from_dict(load_run_history(folder).settings)
    return replace(merge_settings(recorded, given), run_dir=folder.address.rpartition("/")[0])


def enter_folder(note: CommandRecord, folder: RunStore) -> None:
    """Go where the command was given: names of files are relative to that."""
    try:
        os.chdir(note.folder)
    except OSError as error:
        why = f"was begun in {note.folder}, which cannot be entered: {(error.strerror or str(error)).lower()}"
        raise InputError(folder.run_id, f"{why}; give the command again from where its files are") from error


def check_trusted(note: CommandRecord, folder: RunStore, *, trust_record: bool) -> None:
    """Raise `InputError` where nobody said that the record is their own."""
    if not trust_record:
        what = f"the files that its record names are read and written ({note.command}), and anybody may have written that"
        raise InputError(
            folder.run_id, f"{what}; trust the record (--trust-record), or give the command again"
        )


@options.settings_options(
    "model", "recursive_model", "params.api_base", "params.api_key", "limits.cost_usd", "limits.time_s"
)
def resume(
    run: RunName,
    paths: Paths = None,
    *,
    given: options.Overrides,
    trust_record: TrustRecord = False,
    as_json: options.Json = False,
) -> None:
    """Go on with a run that was killed or stopped, from its record: of ask, batch or map-reduce.

    What is on record is not paid again. Settings are those of the run but for the options given here; paths replace
    its input.
    """
    with console.handle_errors():
        run_dir = options.settings_of([item for item in given if item.name == "run_dir"]).run_dir
        folder = find_run(run, run_dir)
        own = options.own_destinations()
        if trust_record:  # addresses are the record's, keys are on no record
            own = [item for item in own if redact(item.value, item.name) != item.value]
        if (note := load_command(folder)) is not None:
            if note.from_memory:
                raise InputError(folder.run_id, how_to_go_on(note, folder))
            check_trusted(note, folder, trust_record=trust_record)
            raise typer.Exit(_go_on_with(note, folder, [*own, *given], paths or [], as_json=as_json))
        context = context_of(paths) if paths else None
        taken = prepare_resume(
            folder,
            context,
            lambda recorded: merge_settings(recorded, [*own, *given]),
            trust_record=trust_record,
        )
        result = taken if isinstance(taken, Result) else asyncio.run(_go_on(taken))
    run_display.print_result(result, as_json=as_json)
    raise typer.Exit(run_display.exit_code_for(result))


def _go_on_with(
    note: CommandRecord, folder: RunStore, given: options.Overrides, paths: list[str], *, as_json: bool
) -> int:
    """Carry a command out again as the run that it began; what is on record is not paid again."""
    settings = settings_to_go_on(folder, given)
    if note.command == "batch":
        asked = arguments_as(BatchCommand, note, folder)
        if paths:
            why = (
                "is the run of a batch, whose rows have their places; give the command again for other files"
            )
            raise InputError(folder.run_id, why)
        enter_folder(note, folder)
        return resume_batch(settings, asked, folder.run_id, as_json=as_json)
    wanted = arguments_as(MapReduceCommand, note, folder)
    if paths:
        wanted = replace(wanted, paths=tuple(paths))
    elif wanted.is_piped:
        why = f"read its input from a pipe; give it again: rlm-ray resume {folder.run_id} --trust-record PATH, or -"
        raise InputError(folder.run_id, why)
    else:
        enter_folder(note, folder)
    return carry_out(settings, wanted, folder.run_id, yes=True, as_json=as_json)


async def _go_on(run: Run) -> Result:
    async def start(progress: Progress) -> Run:
        run.add_observer(progress)
        run.add_observer(RunLog())
        await run.start()
        return run

    return await run_display.run_with_display(start, run.settings.limits)
