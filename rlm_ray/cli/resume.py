"""`rlm-ray resume`: go on with a run that was killed or stopped."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Annotated

import typer

from rlm_ray.cli import console, options, run_display
from rlm_ray.cli.ask import Paths, context_of
from rlm_ray.cli.batch import BatchCommand, resume_batch
from rlm_ray.cli.command_record import arguments_as, check_trusted, enter_folder, settings_to_go_on
from rlm_ray.cli.completion import complete_run
from rlm_ray.cli.map_reduce import MapReduceCommand, carry_out
from rlm_ray.config import merge_settings
from rlm_ray.core.secrets import redact
from rlm_ray.errors import InputError
from rlm_ray.journal.run_store import RunStore, find_run
from rlm_ray.progress import Progress, RunLog
from rlm_ray.runs.command_record import CommandRecord, how_to_go_on, load_command
from rlm_ray.runs.resume import prepare_resume
from rlm_ray.runs.run import Result, Run

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
