"""The question of a row: a template with the names of columns in braces, or a column that holds it.

- `{name}` is replaced by the value of the column, whatever letters its name has: `{First Name}`, `{e-mail}`, `{2024}`;
  `{ name }` is the same. No attributes, no formats, no code.
- `{{` and `}}` are braces. So are braces around anything that neither is a column nor looks like the name of one, such
  as `{"name": "..."}` or `{x | x > 0}`.
- A single word in braces that is no column is refused: it is a slip far more often than it is meant.
- A row without the value has nothing in its place, as an empty cell has.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Protocol

from rlm_ray.errors import InputError

_TOKEN = re.compile(r"\{\{|\{[^{}]*\}|[{}]|[^{}]+")
_LIKE_NAME = re.compile(r"[\w .()/#%&+-]+")
_CLOSE = 0.6
"""How much alike two names are, of 1, where one is a slip for the other."""


class QueryTemplate(Protocol):
    """Makes the question of each row."""

    @property
    def source(self) -> str:
        """Return it as the user gave it."""

    @property
    def columns(self) -> Collection[str]:
        """Return the columns it may need."""

    def check(self, columns: Iterable[str]) -> None:
        """Raise `InputError` where it cannot be asked of rows with these columns."""

    def render(self, values: Mapping[str, Any]) -> str:
        """Return the question of a row. Raises `InputError` where the row has not what it needs."""


@dataclass(frozen=True, slots=True)
class Template:
    """A question with places for values."""

    source: str
    parts: tuple[tuple[bool, str], ...]
    """Whether it stands in braces, and the text with them."""

    @classmethod
    def parse(cls, source: str) -> Template:
        """Read a template. Raises `InputError` for an empty question."""
        if not source.strip():
            raise InputError("query", "is empty; ask a question")
        return cls(source, tuple(_parts(source)))

    @property
    def names(self) -> tuple[str, ...]:
        """Return what stands in braces; it may be a column."""
        return tuple(dict.fromkeys(_name(text) for in_braces, text in self.parts if in_braces))

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the names in braces."""
        return self.names

    def check(self, columns: Iterable[str]) -> None:
        known = set(columns)
        for name in self.names:
            if (
                known
                and name not in known
                and (_is_word(name) or (_LIKE_NAME.fullmatch(name) and meant(name, known)))
            ):
                why = f"{{{name}}} is no column{meant(name, known)}; there are {', '.join(columns)} (write {{{{ for a brace)"
                raise InputError("query", why)

    def render(self, values: Mapping[str, Any]) -> str:
        question = "".join(_filled(text, values) if in_braces else text for in_braces, text in self.parts)
        if not any(map(str.isalnum, question)):
            raise InputError("query", f"is empty for this row: {', '.join(self.names) or 'it'} has no value")
        return question


@dataclass(frozen=True, slots=True)
class QueryColumn:
    """Each row brings its own question."""

    source: str

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.source,)

    def check(self, columns: Iterable[str]) -> None:
        known = list(columns)
        if known and self.source not in known:
            why = f"{self.source!r} is no column{meant(self.source, known)}; there are {', '.join(known)}"
            raise InputError("query column", why)

    def render(self, values: Mapping[str, Any]) -> str:
        question = _format_value(values.get(self.source))
        if not question.strip():
            raise InputError(f"the column {self.source!r}", "is missing or empty, and it is the question")
        return question


def meant(name: str, columns: Iterable[str]) -> str:
    """Return words that name the column a slip stands for; empty where none is alike."""
    by_letters = {column.casefold(): column for column in columns}
    found = get_close_matches(name.casefold(), by_letters, 1, _CLOSE)
    return f" (did you mean {by_letters[found[0]]!r}?)" if found else ""


def _parts(source: str) -> Iterator[tuple[bool, str]]:
    """Yield what stands in braces, with them, and what stands between. `}}` closes two braces that are open, as in
    JSON.
    """
    at = depth = 0
    while at < len(source):
        found = _TOKEN.match(source, at)
        assert found is not None
        piece = found[0]
        if piece == "}" and depth:
            depth -= 1
        elif source.startswith("}}", at):
            at += 1
        elif piece == "{":
            depth += 1
        at += len(piece)
        yield len(piece) > 2 and piece[0] == "{", "{" if piece == "{{" else piece


def _name(token: str) -> str:
    return token[1:-1].strip()


def _is_word(name: str) -> bool:
    return name.replace("-", "_").isidentifier()


def _filled(token: str, values: Mapping[str, Any]) -> str:
    """Return the value of the column; what is none stays as it stands, unless it can only be one."""
    name = _name(token)
    return _format_value(values.get(name)) if name in values or _is_word(name) else token


def _format_value(value: Any) -> str:
    match value:
        case None:
            return ""
        case dict() | list() | tuple() | bool() | int() | float():
            return json.dumps(value, ensure_ascii=False, default=str)
        case _:  # a text, a date, a decimal ... as it is written
            return str(value)
