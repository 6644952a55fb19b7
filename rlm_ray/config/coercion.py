"""Values as they were written (text of a variable, tables of a file) made into what a field wants."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, get_type_hints

from rlm_ray.errors import ConfigError


def from_mapping(cls: type[Any], table: Mapping[str, Any], prefix: str) -> Any:
    """Make a settings dataclass from a table of plain values; unknown names are refused."""
    names = [item.name for item in fields(cls)]
    for name in table:
        if name not in names:
            raise ConfigError(prefix + name, f"is no setting{did_you_mean(name, names)}")
    return cls(**{name: coerce_field(cls, name, value, prefix) for name, value in table.items()})


def coerce_field(cls: type[Any], name: str, value: Any, prefix: str) -> Any:
    """Return the value as its field wants it: tables become dataclasses, text from the environment numbers."""
    hint = _types_of(cls)[name]  # type: ignore[arg-type]  # mypy takes the __hash__ of its objects for the class's
    if is_dataclass(hint) and isinstance(hint, type):
        if isinstance(value, Mapping):
            return from_mapping(hint, value, f"{prefix}{name}.")
        if isinstance(value, hint):
            return value
        raise ConfigError(prefix + name, f"must be {hint.__name__}(...) or a table; got {value!r}")
    if isinstance(value, str) and hint != Sequence[str]:
        from pydantic import TypeAdapter, ValidationError  # most commands start without it

        try:
            return TypeAdapter(hint).validate_python(value)
        except ValidationError as error:
            raise ConfigError(prefix + name, f"{error.errors()[0]['msg'].lower()}; got {value!r}") from error
    return value


@cache
def _types_of(cls: type[Any]) -> dict[str, Any]:
    """Return the types of a class's fields; reading them takes 1 ms, and a service does it for every request."""
    return get_type_hints(cls)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the end of a sentence that says that there is no such name."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, 1)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(names)}"
