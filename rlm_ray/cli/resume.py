"""`rlm-ray resume`: go on with a run that was killed or stopped."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from rlm_ray.cli import console, options, run_display
from rlm_ray.cli.ask import Paths, context_of
from rlm_ray.cli.completion import complete_run
from rlm_ray.config import merge_settings
from rlm_ray.core.secrets import redact
from rlm_ray.journal.run_store import find_run
from rlm_ray.progress import Progress, RunLog
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
    """Go on with a run that was killed or stopped, from its record.

    What is on record is not paid again. Settings are those of the run but for the options given here; paths replace
    its input.
    """
    with console.handle_errors():
        run_dir = options.settings_of([item for item in given if item.name == "run_dir"]).run_dir
        context = context_of(paths) if paths else None
        own = options.own_destinations()
        if trust_record:  # addresses are the record's, keys are on no record
            own = [item for item in own if redact(item.value, item.name) != item.value]
        taken = prepare_resume(
            find_run(run, run_dir),
            context,
            lambda recorded: merge_settings(recorded, [*own, *given]),
            trust_record=trust_record,
        )
        result = taken if isinstance(taken, Result) else asyncio.run(_go_on(taken))
    run_display.print_result(result, as_json=as_json)
    raise typer.Exit(run_display.exit_code_for(result))


async def _go_on(run: Run) -> Result:
    async def start(progress: Progress) -> Run:
        run.add_observer(progress)
        run.add_observer(RunLog())
        await run.start()
        return run

    return await run_display.run_with_display(start, run.settings.limits)
