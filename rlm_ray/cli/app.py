"""The commands."""

from __future__ import annotations

import typer

from rlm_ray.cli.ask import ask
from rlm_ray.cli.doctor import doctor

app = typer.Typer(
    name="rlm-ray",
    help="Recursive Language Models on Ray: ask questions larger than any model's window.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(ask)
app.command()(doctor)
