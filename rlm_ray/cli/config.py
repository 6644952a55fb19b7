"""`rlm-ray config`: every setting, what it is now and who says so; and a commented `rlm-ray.toml` to begin with."""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from rlm_ray.cli import console, options
from rlm_ray.config import (
    Settings,
    SettingValue,
    load_values,
    merge_settings,
    setting_docs,
    setting_names,
    settings_to_dict,
)
from rlm_ray.config.sources import CONFIG_FILE, CONFIG_VARIABLE
from rlm_ray.config.trust import destinations, value_at
from rlm_ray.core.secrets import REDACTED
from rlm_ray.errors import InputError
from rlm_ray.util.filesystem import write_private

Target = Annotated[
    Path, typer.Argument(metavar="[FILE]", help="The file for --write; default: rlm-ray.toml here.")
]
Write = Annotated[
    bool,
    typer.Option("--write", help="Write a commented file of all settings, with the values that hold now."),
]
Force = Annotated[bool, typer.Option("--force", help="With --write: replace a file that is there.")]
Changed = Annotated[bool, typer.Option("--changed", help="Show only what is not the default.")]

DEFAULT = "default"
_ONLY_PYTHON = frozenset({"tools"})
_MAX_VALUE = 60
_WIDTH = 100


@options.settings_options()
def config(  # noqa: PLR0913 - each is an option of the command
    target: Target = Path(CONFIG_FILE),
    *,
    given: options.Overrides,
    write: Write = False,
    force: Force = False,
    changed: Changed = False,
    as_json: options.Json = False,
) -> None:
    """Show every setting, its value, and where that comes from: default, file, environment or command line.

    Keys are shown as ***, and never written.
    """
    values = [*load_values(os.environ, Path.cwd()), *given]
    settings = merge_settings(Settings(), values)
    if write:
        _write(target, settings, force=force)
        raise typer.Exit(console.OK)
    found = [row for row in origins(settings, values) if not changed or row["from"] != DEFAULT]
    if as_json:
        console.write(json.dumps(found, ensure_ascii=False))
    else:
        console.print_status(_files())
        console.write("\n".join(_lines(found)) or "all settings are the defaults")
    raise typer.Exit(console.OK)


def origins(settings: Settings, values: list[SettingValue]) -> list[dict[str, Any]]:
    """Return name, value and place of every setting; entries of tables one by one, secrets as ***."""
    table = settings_to_dict(settings)
    places = {item.name: item.place or "command line" for item in values}
    rows = []
    for name in (*setting_names(), "params"):
        if name in _ONLY_PYTHON:
            continue
        value = value_at(table, name)
        inner = value if isinstance(value, Mapping) and value else None
        for full, each in (
            ((f"{name}.{key}", one) for key, one in inner.items()) if inner else [(name, value)]
        ):
            rows.append({"name": full, "value": each, "from": _place(full, places)})
    return rows


def _place(name: str, places: Mapping[str, str]) -> str:
    """Return who said this value: itself, or the table that it is in, or a value in it."""
    of_table = (
        place for said, place in places.items() if name.startswith(f"{said}.") or said.startswith(f"{name}.")
    )
    return places.get(name) or next(of_table, DEFAULT)


def _files() -> str:
    named = os.environ.get(CONFIG_VARIABLE)
    if named:
        return f"file: {named} ({CONFIG_VARIABLE})"
    path = Path.cwd() / CONFIG_FILE
    return (
        f"file: {path}"
        if path.exists()
        else f"file: none ({path} is not there, {CONFIG_VARIABLE} is not set)"
    )


def _lines(rows: list[dict[str, Any]]) -> Iterator[str]:
    if not rows:
        return
    shown = [(row["name"], _short(row["value"]), row["from"]) for row in rows]
    wide = [max(len(row[column]) for row in [*shown, ("NAME", "VALUE", "")]) for column in (0, 1)]
    for name, value, place in [("NAME", "VALUE", "FROM"), *shown]:
        yield f"{name:<{wide[0]}}  {value:<{wide[1]}}  {place}"


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        value = {key: each for key, each in value.items() if each is not None}
    text = "-" if value is None else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _MAX_VALUE else f"{text[: _MAX_VALUE - 1]}…"


def _write(target: Path, settings: Settings, *, force: bool) -> None:
    there = target.exists()
    if there and not force:
        raise InputError(str(target), "is there already; name another file, or replace it with --force")
    try:
        write_private(target, to_toml(settings).encode())
    except OSError as error:
        why = f"cannot be written: {(error.strerror or str(error)).lower()}; name another file"
        raise InputError(str(target), why) from error
    console.print_status(f"{'replaced' if there else 'wrote'} {target}; a line without # is a setting")
    console.write(str(target))


def to_toml(settings: Settings) -> str:
    """Return all settings as TOML with their docs: defaults and what a file may not say as comments, keys not at all."""
    table, defaults, docs = settings_to_dict(settings), settings_to_dict(Settings()), setting_docs()
    withheld = destinations(table)
    plain: list[str] = []
    groups: dict[str, list[str]] = {}
    for name in setting_names():
        group, _, key = name.rpartition(".")
        value = value_at(table, name)
        if name in _ONLY_PYTHON or (isinstance(value, Mapping) and not group):
            continue
        lines = groups.setdefault(group, []) if group else plain
        lines += [
            *_comment(docs.get(name, "")),
            _setting(key, value, value_at(defaults, name), name in withheld),
            "",
        ]
    text = [
        *_comment(
            "Settings of rlm-ray. A # before a setting: the default holds. Options and RLM_RAY_* variables say more."
        ),
        *_comment(
            f"Where questions, keys and files go is taken from this file only if {CONFIG_VARIABLE} names it."
        ),
        "",
        *plain,
    ]
    for group, lines in groups.items():
        text += [f"[{group}]", *lines]
    for name in (name for name, value in table.items() if isinstance(value, Mapping) and name not in groups):
        text += [*_comment(docs.get(name, "")), *_free_table(name, table[name], withheld), ""]
    return "\n".join(text)


def _free_table(name: str, entries: Mapping[str, Any], withheld: Mapping[str, Any]) -> Iterator[str]:
    yield f"[{name}]"
    if not entries and name in _EXAMPLES:
        yield f"# {_EXAMPLES[name]}"
    for key, value in entries.items():
        if REDACTED not in json.dumps(value, default=str):
            yield _setting(key, value, None, f"{name}.{key}" in withheld)


_EXAMPLES = {
    "params": "temperature = 0.2",
    "prices": '"my/model" = { input_usd = 0.5, output_usd = 1.5 }',
    "models": 'cheap = "openai/gpt-5-mini"',
    "mcp_servers": 'shop = { command = "uvx", args = ["shop-server"] }',
}


def _setting(key: str, value: Any, default: Any, withheld: bool) -> str:
    commented = "# " if withheld or value == default or value is None else ""
    return f"{commented}{_key(key)} = {'' if value is None else _value(value)}".rstrip()


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent="# ", subsequent_indent="# ", break_long_words=False)


def _key(key: str) -> str:
    return key if key.isascii() and key.replace("_", "").replace("-", "").isalnum() else _value(key)


def _value(value: Any) -> str:
    """Return a value as TOML; texts of JSON are texts of TOML but for DEL."""
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_key(key)} = {_value(each)}" for key, each in value.items() if each is not None)
        return f"{{ {inner} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
