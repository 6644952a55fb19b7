"""The commands."""

from __future__ import annotations

from importlib.metadata import version as version_of
from typing import Annotated

import typer

from rlm_ray.cli.ask import ask
from rlm_ray.cli.batch import batch
from rlm_ray.cli.cleanup import prune_cache, prune_runs, shutdown
from rlm_ray.cli.doctor import doctor
from rlm_ray.cli.map_reduce import map_reduce
from rlm_ray.cli.resume import resume
from rlm_ray.cli.runs import runs
from rlm_ray.cli.serve import serve
from rlm_ray.cli.view import view

app = typer.Typer(
    name="rlm-ray",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
_ASKING = "4 a limit was reached, and what is known is printed; 5 configuration or key; 130 interrupted"


def _exits(*codes: str) -> str:
    return f"Exit codes: {'; '.join(codes)}."


app.command(epilog=_exits("0 answered; 1 failed; 2 usage or unreadable input", _ASKING))(ask)
app.command(
    epilog="Asked again with the same --out, it goes on where it was. "
    + _exits("0 all rows answered; 1 failed; 2 usage or unreadable input; 3 some rows failed", _ASKING)
)(batch)
app.command(
    "map-reduce",
    epilog=_exits("0 answered; 1 failed; 2 usage or unreadable input; 3 some pieces failed", _ASKING),
)(map_reduce)
app.command(epilog=_exits("0 answered; 1 failed; 2 usage or unreadable input", _ASKING))(resume)
app.command(epilog=_exits("0 stopped", "2 usage", "5 configuration or key"))(serve)
app.command(epilog=_exits("0 ended", "1 refused or failed", "2 usage", "5 configuration"))(shutdown)
app.command(epilog=_exits("0 done", "1 failed", "2 usage or unreadable input", "5 configuration"))(view)
_runs = typer.Typer(rich_markup_mode=None, add_completion=False)
_runs.callback(invoke_without_command=True, epilog=_exits("0 done", "1 failed", "5 configuration"))(runs)
_runs.command("prune", epilog=_exits("0 done", "1 some stay", "2 usage", "5 configuration"))(prune_runs)
app.add_typer(_runs, name="runs")
_cache = typer.Typer(
    rich_markup_mode=None, add_completion=False, no_args_is_help=True, help="The response cache."
)
_cache.command("prune", epilog=_exits("0 done", "2 usage"))(prune_cache)
_cache.callback()(lambda: None)
app.add_typer(_cache, name="cache")
app.command(epilog=_exits("0 all is well", "5 something is not"))(doctor)


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
