"""Options shared by the commands, and settings made of them."""

from __future__ import annotations

import inspect
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from functools import wraps
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, TypeAlias

import typer

from rlm_ray.cli import console
from rlm_ray.cli.completion import complete_model, complete_profile
from rlm_ray.cli.output import use_format
from rlm_ray.config import Settings, SettingValue, load_settings, values_from_table
from rlm_ray.config.deprecated_names import current_name
from rlm_ray.config.trust import destinations
from rlm_ray.errors import ConfigError

SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="Any other setting, such as limits.calls=500 or max_leaf_chars=0."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Overrides: TypeAlias = list[SettingValue]
"""What the options of a command say, `--set` first."""

_OPTIONS: Mapping[str, Any] = MappingProxyType(
    {
        "model": Annotated[
            str | None,
            typer.Option(
                autocompletion=complete_model,
                help="Root model: any litellm name; default offline/extractive, which needs no key.",
            ),
        ],
        "recursive_model": Annotated[
            str | None,
            typer.Option(
                autocompletion=complete_model, help="Model of children and sub-calls; default: the root's."
            ),
        ],
        "max_depth": Annotated[
            int | None, typer.Option(help="0: one direct call; 1: a REPL; 2: its children have REPLs too.")
        ],
        "max_iterations": Annotated[int | None, typer.Option(help="Turns of one session.")],
        "profile": Annotated[
            str | None,
            typer.Option(
                autocompletion=complete_profile,
                help="Wording of the prompts: full, short (small models), cautious, small-window; default: by the model's name.",
            ),
        ],
        "instructions": Annotated[
            str | None, typer.Option(help="Text at the end of every session's system prompt.")
        ],
        "system_prompt": Annotated[
            str | None, typer.Option(help="Text instead of every session's system prompt.")
        ],
        "params.api_base": Annotated[
            str | None, typer.Option("--api-base", help="Address of an OpenAI-compatible server.")
        ],
        "params.api_key": Annotated[
            str | None,
            typer.Option("--api-key", help="Key of the provider; better in its environment variable."),
        ],
        "params.temperature": Annotated[
            float | None, typer.Option("--temperature", help="Sampling temperature.")
        ],
        "call_timeout_s": Annotated[
            float | None, typer.Option(help="Seconds one attempt of a model call may take.")
        ],
        "limits.cost_usd": Annotated[
            float | None, typer.Option("--cost-usd", help="limits.cost_usd: the most the whole run may cost.")
        ],
        "limits.time_s": Annotated[
            float | None, typer.Option("--time-s", help="limits.time_s: the most the whole run may take.")
        ],
        "prices": Annotated[
            list[str] | None,
            typer.Option(
                "--price",
                metavar="MODEL=IN,OUT",
                help="Price of a model in US dollars per million tokens, before litellm's own: my/model=0.5,1.5.",
            ),
        ],
        "citations": Annotated[
            str | None, typer.Option(help="off, optional or required: quotes that are found in the input.")
        ],
        "mcp_servers": Annotated[
            Path | None,
            typer.Option(
                "--mcp-config",
                help='JSON file of MCP servers whose tools code can call: {"mcpServers": {NAME: {"command", "args"}}}.',
            ),
        ],
    }
)
"""Settings that have an option of their own, by their dotted names."""
_OLD_OPTIONS: Mapping[str, Any] = MappingProxyType(
    {"timeout": Annotated[float | None, typer.Option("--timeout", hidden=True)]}
)
"""Options by their names of before; they are taken and not shown."""


def settings_options(*names: str, but: tuple[str, ...] = ()) -> Callable[[Callable[..., None]], Any]:
    """Give a command options for these settings (default: all that have one) and `--set`, in the place of `given`."""
    chosen = [name for name in names or _OPTIONS if name not in but]
    chosen = [name for name in _OLD_OPTIONS if current_name(name) in chosen] + chosen

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def run(**values: Any) -> None:
            with console.handle_errors():
                given = _parse_overrides(values.pop("sets"))
                for name in chosen:
                    if (value := values.pop(_leaf_name(name))) is not None:
                        value = _READ.get(name, lambda plain: plain)(value)
                        given.append(SettingValue(current_name(name), value, _option_name(name)))
            command(**values, given=given)

        shared = [_parameter(_leaf_name(name), {**_OPTIONS, **_OLD_OPTIONS}[name]) for name in chosen] + [
            _parameter("sets", SetOption)
        ]
        own = inspect.signature(command, eval_str=True).parameters.values()
        found = [each for one in own for each in (shared if one.name == "given" else [one])]
        vars(run).pop("__wrapped__")  # typer is to see these parameters, not the command's
        vars(run)["__signature__"] = inspect.Signature(found)
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in found}
        return run

    return decorate


def read_mcp_config(path: Path) -> dict[str, Any]:
    """Read the table of servers of a file as other programs have it, too. Raises `ConfigError`."""
    try:
        table = json.loads(path.expanduser().read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError("--mcp-config", f"{path} cannot be read as JSON: {error}") from error
    servers = table.get("mcpServers", table) if isinstance(table, dict) else None
    if not isinstance(servers, dict):
        raise ConfigError("--mcp-config", f'{path} holds no table such as {{"mcpServers": {{...}}}}')
    return {
        name: {key: value for key, value in server.items() if key not in _FOREIGN_SERVER_KEYS}
        if isinstance(server, dict)
        else server
        for name, server in servers.items()
        if not (isinstance(server, dict) and server.get("disabled"))
    }


def read_prices(given: list[str]) -> dict[str, Any]:
    """Read `--price MODEL=IN,OUT`, which may be given for several models. Raises `ConfigError`."""
    prices = {}
    for text in given:
        model, _, numbers = text.rpartition("=")
        try:
            usd = [float(number) for number in numbers.split(",")]
        except ValueError:
            usd = []
        if not model or len(usd) != 2 or not all(0 <= each < math.inf for each in usd):
            why = (
                f"wants MODEL=IN,OUT in US dollars per million tokens, such as my/model=0.5,1.5; got {text!r}"
            )
            raise ConfigError("--price", why)
        prices[model] = {"input_usd": usd[0], "output_usd": usd[1]}
    return prices


_READ: Mapping[str, Callable[[Any], Any]] = MappingProxyType(
    {"mcp_servers": read_mcp_config, "prices": read_prices}
)
"""How options are read whose values are not those of their settings."""
_FOREIGN_SERVER_KEYS = frozenset(
    {"type", "transport", "disabled", "alwaysAllow", "autoApprove", "timeout", "description"}
)
"""What other programs note beside a server."""


def settings_of(given: Iterable[SettingValue]) -> Settings:
    """Load settings from the file, the environment and the options of a command."""
    settings = load_settings(given, os.environ, Path.cwd())
    use_format(settings.log_format)
    return settings


def own_destinations() -> Overrides:
    """Return where this user's own settings send questions and keys; for a run whose record is not to say it."""
    found = destinations(asdict(settings_of([])))
    return [
        SettingValue(name, value, "your own settings") for name, value in found.items() if name != "run_dir"
    ]


def run_dir_of(sets: list[str] | None) -> str:
    """Return where runs are recorded."""
    return settings_of(_parse_overrides(sets)).run_dir


def given_of(sets: list[str] | None) -> Overrides:
    """Return what `--set` says, for commands without options of their own."""
    return _parse_overrides(sets)


def _option_name(name: str) -> str:
    if name in _OPTION_NAMES:
        return _OPTION_NAMES[name]
    return f"--{_leaf_name(name).replace('_', '-')}"


_OPTION_NAMES: Mapping[str, str] = MappingProxyType({"prices": "--price", "mcp_servers": "--mcp-config"})


def _leaf_name(name: str) -> str:
    return name.rpartition(".")[2]


def _parameter(name: str, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=annotation
    )


def _parse_overrides(sets: list[str] | None) -> Overrides:
    given: Overrides = []
    for item in sets or ():
        name, equals, value = item.partition("=")
        if not equals:
            raise ConfigError("--set", f"wants NAME=VALUE, such as --set limits.calls=500; got {item!r}")
        given += values_from_table({name.strip(): value.strip()}, f"--set {name.strip()}")
    return given
