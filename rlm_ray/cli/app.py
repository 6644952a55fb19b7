"""The commands."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version as version_of
from typing import Annotated

import typer

from rlm_ray.cli.ask import ask
from rlm_ray.cli.batch import batch
from rlm_ray.cli.cleanup import delete_runs, prune_cache, prune_runs, shutdown
from rlm_ray.cli.config import config
from rlm_ray.cli.console import EXIT_CODES
from rlm_ray.cli.doctor import doctor
from rlm_ray.cli.map_reduce import map_reduce
from rlm_ray.cli.models import models
from rlm_ray.cli.output import with_output_options
from rlm_ray.cli.resume import resume
from rlm_ray.cli.runs import runs
from rlm_ray.cli.serve import serve
from rlm_ray.cli.view import view

app = typer.Typer(name="rlm-ray", no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)
_runs = typer.Typer(rich_markup_mode=None, add_completion=False)
_cache = typer.Typer(
    rich_markup_mode=None, add_completion=False, no_args_is_help=True, help="The response cache."
)


def _add(
    command: Callable[..., None], *codes: int, to: typer.Typer = app, name: str | None = None, more: str = ""
) -> None:
    to.command(name, epilog=f"{more}{_exits(*codes)}")(with_output_options(command))


def _exits(*codes: int) -> str:
    return f"Exit codes: {'; '.join(f'{code} {EXIT_CODES[code]}' for code in codes)}."


_add(ask, 0, 1, 2, 4, 5, 130)
_add(batch, 0, 1, 2, 3, 4, 5, 130, more="Asked again with the same --out, it goes on where it was. ")
_add(map_reduce, 0, 1, 2, 3, 4, 5, 130, name="map-reduce")
_add(resume, 0, 1, 2, 3, 4, 5, 130)
_add(view, 0, 1, 2, 5)
_runs.callback(invoke_without_command=True, epilog=_exits(0, 1, 2, 5))(with_output_options(runs))
_add(prune_runs, 0, 1, 2, 5, to=_runs, name="prune")
_add(delete_runs, 0, 1, 2, 5, 130, to=_runs, name="delete")
app.add_typer(_runs, name="runs")
_add(config, 0, 2, 5)
_add(models, 0, 1, 2, 5)
_add(doctor, 0, 2, 5)
_add(serve, 0, 2, 5)
_add(shutdown, 0, 1, 2, 5)
_add(prune_cache, 0, 2, to=_cache, name="prune")
_cache.callback()(lambda: None)
app.add_typer(_cache, name="cache")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"rlm-ray {version_of('rlm-ray')}")
        raise typer.Exit


@app.callback()
def options(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Recursive Language Models on Ray: ask questions larger than any model's window."""
