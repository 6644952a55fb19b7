"""The question of a row: a template with the names of columns in braces, or a column that holds it.

`{name}` is replaced by the value of the column; `{{` and `}}` are braces. Nothing else is special: no attributes, no
formats, no code.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from rlm_ray.errors import InputError

_TOKEN = re.compile(r"(\{\{|\}\}|\{[^{}]*\}|[{}])")


class Question(Protocol):
    """Makes the question of each row."""

    @property
    def source(self) -> str:
        """As the user gave it."""

    def check(self, columns: Iterable[str]) -> None:
        """Raise `InputError` where it cannot be asked of rows with these columns."""

    def of(self, values: Mapping[str, Any]) -> str:
        """The question of a row. Raises `InputError` where the row has not what it needs."""


@dataclass(frozen=True, slots=True)
class Template:
    """A question with places for values."""

    source: str
    parts: tuple[tuple[bool, str], ...]
    """Whether it is the name of a column, and the name or the text."""

    @classmethod
    def parse(cls, source: str) -> Template:
        """Raises `InputError` for a brace that is neither a name nor doubled."""
        if not source.strip():
            raise InputError("query", "is empty; ask a question")
        return cls(source, tuple(_part(token) for token in _TOKEN.split(source) if token))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(text for is_name, text in self.parts if is_name))

    def check(self, columns: Iterable[str]) -> None:
        known = list(columns)
        for name in self.names:
            if known and name not in known:
                why = f"{{{name}}} is no column; there are {', '.join(known)} (write {{{{ for a brace)"
                raise InputError("query", why)

    def of(self, values: Mapping[str, Any]) -> str:
        return "".join(_shown(text, values) if is_name else text for is_name, text in self.parts)


@dataclass(frozen=True, slots=True)
class Column:
    """Each row brings its own question."""

    source: str

    def check(self, columns: Iterable[str]) -> None:
        known = list(columns)
        if known and self.source not in known:
            raise InputError("query column", f"{self.source!r} is no column; there are {', '.join(known)}")

    def of(self, values: Mapping[str, Any]) -> str:
        question = _shown(self.source, values)
        if not question.strip():
            raise InputError(f"the column {self.source!r}", "is empty, and it is the question")
        return question


def _part(token: str) -> tuple[bool, str]:
    if token in ("{{", "}}"):
        return False, token[0]
    name = token[1:-1]
    if token[0] == "{" and name.isidentifier():
        return True, name
    if token[0] in "{}":
        why = f"{token} is no column in braces, such as {{title}}; write {{{{ and }}}} for braces"
        raise InputError("query", why)
    return False, token


def _shown(name: str, values: Mapping[str, Any]) -> str:
    value = values.get(name)
    if value is None:
        raise InputError(f"the column {name!r}", "is missing")
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)
