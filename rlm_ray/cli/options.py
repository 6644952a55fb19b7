"""Options shared by the commands, and settings made of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from rlm_ray.config import Settings, load_settings
from rlm_ray.errors import ConfigError

Model = Annotated[
    str | None,
    typer.Option(help="Root model: any litellm name; default offline/extractive, which needs no key."),
]
RecursiveModel = Annotated[
    str | None, typer.Option(help="Model of children and sub-calls; default: the root's.")
]
MaxDepth = Annotated[
    int | None, typer.Option(help="0: one direct call; 1: a REPL; 2: its children have REPLs too.")
]
MaxIterations = Annotated[int | None, typer.Option(help="Turns of one session.")]
ApiBase = Annotated[str | None, typer.Option(help="Address of an OpenAI-compatible server.")]
ApiKey = Annotated[str | None, typer.Option(help="Key of the provider; better in its environment variable.")]
Temperature = Annotated[float | None, typer.Option(help="Sampling temperature.")]
Timeout = Annotated[float | None, typer.Option(help="Seconds one attempt of a model call may take.")]
CostUsd = Annotated[
    float | None, typer.Option("--cost-usd", help="limits.cost_usd: the most the whole run may cost.")
]
TimeS = Annotated[
    float | None, typer.Option("--time-s", help="limits.time_s: the most the whole run may take.")
]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="Any other setting, such as limits.calls=500 or leaf_chars=0."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def settings_of(sets: list[str] | None, params: dict[str, Any], **options: Any) -> Settings:
    """Settings from the file, the environment and the options of a command."""
    return load_settings(named(sets, params, **options), os.environ, Path.cwd())


def named(sets: list[str] | None, params: dict[str, Any], **options: Any) -> dict[str, Any]:
    """What a command's options say, by the dotted names of settings."""
    given = {name.replace("__", "."): value for name, value in options.items() if value is not None}
    for item in sets or ():
        name, equals, value = item.partition("=")
        if not equals:
            raise ConfigError("--set", f"wants NAME=VALUE, such as --set limits.calls=500; got {item!r}")
        given[name.strip()] = value.strip()
    return given | {f"params.{name}": value for name, value in params.items() if value is not None}
