"""`rlm-ray resume`: go on with a run that was killed or stopped."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from rlm_ray.cli import exits, options, running
from rlm_ray.cli.ask import Paths, context_of
from rlm_ray.config import changed
from rlm_ray.journal.folder import find_run
from rlm_ray.progress import Progress
from rlm_ray.resume import take_up
from rlm_ray.run import Result, Run

RunName = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="A run id or its beginning, `last`, or a run folder.", show_default=False
    ),
]


def resume(  # noqa: PLR0913, PLR0917 - each is an option of the command
    run: RunName,
    paths: Paths = None,
    model: options.Model = None,
    recursive_model: options.RecursiveModel = None,
    api_base: options.ApiBase = None,
    api_key: options.ApiKey = None,
    cost_usd: options.CostUsd = None,
    time_s: options.TimeS = None,
    sets: options.Sets = None,
    as_json: options.Json = False,
) -> None:
    """Go on with a run that was killed or stopped, from its record.

    What is on record is not paid again. Settings are those of the run but for the options given here; paths replace
    its input.
    """
    with exits.errors_as_exits():
        named = options.named(
            sets,
            {"api_base": api_base, "api_key": api_key},
            model=model,
            recursive_model=recursive_model,
            limits__cost_usd=cost_usd,
            limits__time_s=time_s,
        )
        run_dir = options.settings_of(sets, {}).run_dir
        context = context_of(paths) if paths else None
        taken = take_up(find_run(run, run_dir), context, lambda recorded: changed(recorded, named))
        result = taken if isinstance(taken, Result) else asyncio.run(_go_on(taken))
    running.print_result(result, as_json=as_json)
    raise typer.Exit(running.code_of(result))


async def _go_on(run: Run) -> Result:
    async def start(progress: Progress) -> Run:
        run.watch(progress)
        await run.start()
        return run

    return await running.result_of(start, run.settings.limits)
