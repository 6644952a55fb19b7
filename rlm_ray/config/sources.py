"""Where settings come from: keywords in Python, `rlm-ray.toml`, the environment, options, records; one way leads in.

The command line takes them from `rlm-ray.toml`, the environment (`RLM_RAY_*`) and its options, each overriding the
one before; all three say the same things with the same names (`[limits] cost_usd`, `RLM_RAY_LIMITS_COST_USD`,
`--limits-cost-usd`). Unknown names are refused. The Python API takes arguments only.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from rlm_ray.config.coercion import coerce_field, did_you_mean
from rlm_ray.config.deprecated_names import (
    RENAMED_SETTINGS,
    current_name,
    current_table,
    current_value,
    warn_about_settings,
)
from rlm_ray.config.models import KNOWN_PARAMS
from rlm_ray.config.settings import FREE_TABLES, SETTINGS, Settings, setting_names
from rlm_ray.config.trust import destinations
from rlm_ray.core.secrets import REDACTED, redact
from rlm_ray.errors import ConfigError

CONFIG_FILE = "rlm-ray.toml"
ENVIRONMENT_PREFIX = "RLM_RAY_"
CONFIG_VARIABLE = "RLM_RAY_CONFIG"
"""Names a file of settings that may say anything: the user's own word."""
OTHER_VARIABLES = frozenset({"RLM_RAY_SERVE_KEYS"})
"""Variables of that prefix that are no settings of a run: other parts of this package read them."""


@dataclass(frozen=True, slots=True)
class SettingValue:
    """One setting as it was given: its dotted name, what it shall be, and where that was said."""

    name: str
    value: Any
    place: str = ""
    """`--set`, `RLM_RAY_MODEL`, the path of a file; empty for an argument in Python."""


def merge_settings(base: Settings, values: Iterable[SettingValue]) -> Settings:
    """Return settings that differ from `base` in these values, later ones before earlier ones.

    The one way from given values to settings, wherever they come from: names are checked, text is parsed, ranges are
    checked. Raises `ConfigError` with the name of the setting, what is wrong, and where it was said.
    """
    changes: dict[str, Any] = {}
    places: dict[str, str] = {}
    for item in values:
        places[item.name] = item.place
        try:
            _add_change(changes, base, item.name, item.value)
        except ConfigError as error:
            raise _with_place(error, places) from error
    try:
        return replace(
            base, **{name: coerce_field(Settings, name, value, "") for name, value in changes.items()}
        )
    except ConfigError as error:
        raise _with_place(error, places) from error


def _add_change(changes: dict[str, Any], base: Settings, name: str, value: Any) -> None:
    """Note one value among those of whole fields; a value inside a table changes that table."""
    group, key = _group_and_key(name)
    field_name = group or name
    if field_name not in SETTINGS:
        kind = "group of settings" if group else "setting"
        raise ConfigError(name, f"is no {kind}{did_you_mean(field_name, SETTINGS)}")
    before = changes.get(field_name, getattr(base, field_name))
    if not group and field_name not in FREE_TABLES:
        changes[name] = value
        return
    if not group and not isinstance(value, Mapping):
        raise ConfigError(name, f"must be a table of names and values; got {value!r}")
    inner = {key: value} if group else dict(value)
    if is_dataclass(before):
        before = {item.name: getattr(before, item.name) for item in fields(before)}
    if not isinstance(before, Mapping):
        raise ConfigError(name, f"is no setting; {group} holds one value")
    changes[field_name] = {**before, **inner}


def _with_place(error: ConfigError, places: Mapping[str, str]) -> ConfigError:
    """Return the same error, which says besides where the value came from."""
    what = error.what
    while what and what not in places:
        what = what.rpartition(".")[0]
    place = places.get(what)
    return ConfigError(error.what, f"{error.why} (from {place})") if place else error


def values_from_keywords(options: Mapping[str, Any]) -> list[SettingValue]:
    """Take keyword arguments in Python: settings, or parameters that litellm knows; old names warn, unknown ones are refused."""
    warn_about_settings(options)
    found = []
    for keyword, given in options.items():
        name = current_name(keyword)
        value = "" if name == "recursive_model" and given is None else given  # None: the same as `model`
        if name != keyword and name in options:
            raise ConfigError(keyword, f"is the old name of {name}; give one of them")
        if name in SETTINGS:
            found.append(SettingValue(name, _current_group(name, value)))
        elif name in KNOWN_PARAMS:
            found.append(SettingValue(f"params.{name}", value))
        else:
            raise ConfigError(name, f"is no setting{_keyword_suggestion(name)}")
    return found


def _current_group(name: str, value: Any) -> Any:
    """Return a group given as a table, or a single value, in today's words."""
    if not isinstance(value, Mapping):
        return current_value(name, value)
    warn_about_settings(value, f"{name}.")
    return current_table(value, f"{name}.")


def _keyword_suggestion(name: str) -> str:
    """Return the end of a sentence that refuses a keyword."""
    grouped = [dotted for dotted in setting_names() if dotted.endswith(f".{name}")]
    if grouped:
        group, key = _group_and_key(grouped[0])
        return f"; did you mean {group}={group.capitalize()}({key}=...)?"
    other = f"parameter of the model goes into params={{{name!r}: ...}}"
    close = difflib.get_close_matches(name, [*SETTINGS, *sorted(KNOWN_PARAMS)], 1, cutoff=0.75)
    return f"; did you mean {close[0]!r}? Another {other}" if close else f"; a {other}"


def values_from_table(table: Mapping[str, Any], place: str = "") -> list[SettingValue]:
    """Take a table as it lies in a file, a record or a request: groups are tables in it, or dotted names."""
    found = []
    for key, value in table.items():
        name = current_name(key)
        if isinstance(value, Mapping) and name in SETTINGS:
            if not value:
                continue
            for inner, each in current_table(value, f"{name}.").items():
                found.append(SettingValue(f"{name}.{inner}", each, place))
        else:
            found.append(SettingValue(name, current_value(name, value), place))
    return found


def values_from_environment(environment: Mapping[str, str]) -> list[SettingValue]:
    """Take the variables `RLM_RAY_*`, under their current names or those of before."""
    names = [*setting_names(), *RENAMED_SETTINGS]
    known = {ENVIRONMENT_PREFIX + name.replace(".", "_").upper(): name for name in names}
    found = []
    for variable, value in environment.items():
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable.startswith(ENVIRONMENT_PREFIX + "TEST_"):
            continue
        if variable in OTHER_VARIABLES or variable == CONFIG_VARIABLE:
            continue
        if variable not in known:
            raise ConfigError(variable, f"is no setting{did_you_mean(variable, [*known, *OTHER_VARIABLES])}")
        found += values_from_table({known[variable]: value}, variable)
    return found


def settings_from(options: Mapping[str, Any], base: Settings | None = None) -> Settings:
    """Make settings of keyword arguments."""
    return merge_settings(base or Settings(), values_from_keywords(options))


def load_settings(options: Iterable[SettingValue], environment: Mapping[str, str], folder: Path) -> Settings:
    """Load settings from `rlm-ray.toml` in `folder`, or the file `RLM_RAY_CONFIG` names, then the environment, then
    `options`.
    """
    return merge_settings(Settings(), [*load_values(environment, folder), *options])


def load_values(environment: Mapping[str, str], folder: Path) -> list[SettingValue]:
    """Return what the file and the environment say, in the order in which one overrides the other."""
    given = _values_from_files(folder / CONFIG_FILE, environment.get(CONFIG_VARIABLE, ""))
    return [*given, *values_from_environment(environment)]


def _values_from_files(path: Path, named: str) -> list[SettingValue]:
    """Read the settings of the file that is named, else of the one that is found; that one may not say where things
    go.
    """
    if named:
        path = Path(named).expanduser()
        if not path.is_file():
            raise ConfigError(CONFIG_VARIABLE, f"there is no file {named}")
        return values_from_table(_read_toml(path), str(path))
    table = _read_toml(path)
    for name, value in destinations(table).items():
        why = f"is {value!r} in {path}, where questions and keys would go; a file that just lies there may not say that"
        raise ConfigError(name, f"{why}: set {CONFIG_VARIABLE}={path} if it is yours")
    return values_from_table(table, str(path))


def _read_toml(path: Path) -> dict[str, Any]:
    """Return what a file of settings holds; nothing where there is none. Raises `ConfigError`."""
    if not path.exists():
        return {}
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(str(path), f"cannot be read as TOML: {error}") from error


def settings_to_dict(settings: Settings) -> dict[str, Any]:
    """Return plain values, `***` in place of secrets."""
    values = {item.name: getattr(settings, item.name) for item in fields(settings)}
    table: dict[str, Any] = redact(_plain(values | {"tools": settings.tool_names}))
    return table


def _plain(value: Any) -> Any:
    """Return the same with tables in place of dataclasses; what `asdict` does, without a copy of everything in them."""
    if is_dataclass(value):
        return {item.name: _plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def settings_from_dict(table: Mapping[str, Any]) -> Settings:
    """Return the settings a recorded table was made of, without the secrets: whoever goes on gives them anew."""
    plain = {name: value for name, value in _without_hidden(table).items() if name != "tools"}
    return merge_settings(Settings(), values_from_table(plain, "the record"))


def _without_hidden(table: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _without_hidden(value) if isinstance(value, Mapping) else value
        for name, value in table.items()
        if value != REDACTED
    }


def _group_and_key(name: str) -> tuple[str, str]:
    """Split a dotted name at its first dot: what follows may be a model's name, with dots of its own."""
    group, dot, key = name.partition(".")
    return (group, key) if dot else ("", name)
