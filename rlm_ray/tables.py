"""Tables of plain values, from TOML, the environment or a caller, made into frozen dataclasses. Unknown names are refused."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from rlm_ray.errors import ConfigError


def build(cls: type[Any], table: Mapping[str, Any], prefix: str) -> Any:
    """A settings dataclass from a table of plain values; unknown names are refused."""
    names = [item.name for item in fields(cls)]
    for name in table:
        if name not in names:
            raise ConfigError(prefix + name, f"is no setting{did_you_mean(name, names)}")
    return cls(**{name: typed(cls, name, value, prefix) for name, value in table.items()})


def typed(cls: type[Any], name: str, value: Any, prefix: str) -> Any:
    """The value as its field wants it: tables become dataclasses, text from the environment numbers."""
    hint = get_type_hints(cls)[name]
    if is_dataclass(hint) and isinstance(hint, type):
        if isinstance(value, Mapping):
            return build(hint, value, f"{prefix}{name}.")
        if isinstance(value, hint):
            return value
        raise ConfigError(prefix + name, f"must be {hint.__name__}(...) or a table; got {value!r}")
    if isinstance(value, str):
        try:
            return TypeAdapter(hint).validate_python(value)
        except ValidationError as error:
            raise ConfigError(prefix + name, f"{error.errors()[0]['msg'].lower()}; got {value!r}") from error
    return value


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """How a sentence ends that says that there is no such name."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, 1)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(names)}"
