"""`AnswerSchema`: the JSON value that an answer shall be; asked for, checked, and put right by the model.

It is made of a pydantic model or another type, a JSON Schema, or a file with one. A type checks for itself, so its own
validators count and "5" is a number to it; a JSON Schema is taken by its letter (`validation.py`).

The one way to a typed answer, of sessions, plain calls, rows and pieces: `ask` (or `instruction`) says what is wanted,
`check` reads an answer, `refusal` or `repair` says what is wrong with it, `conform.py` has it put right.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from rlm_ray.core.json_extraction import explain_no_json, find_json_objects, find_json_values
from rlm_ray.core.prompts import truncate_middle
from rlm_ray.errors import InputError
from rlm_ray.structured.json_schema import (
    iter_keywords,
    iter_refs,
    resolve_ref,
    resolve_root,
    strip_annotations,
)
from rlm_ray.structured.validation import (
    TooManySteps,
    find_faults,
    find_schema_fault,
    is_linear,
    join_faults,
    place,
    shown,
    within_bounds,
)

if TYPE_CHECKING:
    import pyarrow as pa  # type: ignore[import-untyped]  # ships no types

MAX_FOREIGN_CHARS = 100_000
"""The longest schema that a model or a client may give."""
MAX_FOREIGN_DEPTH = 100
_REPAIR_CHARS = 20_000
_WHY_CHARS = 300
_CONDITIONS = (
    "required",
    "minProperties",
    "allOf",
    "anyOf",
    "oneOf",
    "not",
    "if",
    "then",
    "else",
    "dependentRequired",
)
"""What a schema asks of an object as a whole."""
_BRANCHES = ("anyOf", "oneOf", "allOf")
_MAX_BRANCHES = 200


@dataclass(frozen=True, slots=True)
class ParsedAnswer:
    """The value an answer holds, or why it cannot be used."""

    value: Any
    """As plain JSON; of a type, as that writes it. None where it cannot be used."""
    why: str = ""
    """One sentence; empty where it can be used."""
    written: Any = None
    """As the answer has it, before a type made something of it."""
    instance: Any = None
    """What the type made of it; plain JSON without a type."""

    @property
    def fits(self) -> bool:
        return not self.why

    @property
    def misfit(self) -> str:
        """Say in one sentence that an answer cannot be used."""
        return f"the answer does not match the schema: {self.why}"

    @property
    def text(self) -> str:
        """Return the value as JSON, as the answer has it."""
        return json.dumps(self.written, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class AnswerSchema:
    """What an answer shall look like."""

    table: Mapping[str, Any]
    """The JSON Schema."""
    type_: Any = None
    """The pydantic model, or other type, it was made of."""

    @classmethod
    def parse(cls, source: Any, *, trusted: bool = True) -> AnswerSchema:
        """Make one of a pydantic model class (or any type that pydantic knows), a JSON Schema as a dict or text, or the
        path of a file with one.

        A schema that is not `trusted` was written by a model or by a client: it may not be long, deep, or have patterns
        that could take for ever. Raises `InputError`.
        """
        if isinstance(source, AnswerSchema):
            return source
        if isinstance(source, Mapping):
            return cls(_checked_table(dict(source), "schema", trusted=trusted))
        if isinstance(source, str) and source.lstrip().startswith("{"):
            return cls(_checked_table(_parse_json(source, "schema"), "schema", trusted=trusted))
        if isinstance(source, str | Path) and trusted:
            return cls(_checked_table(_read(Path(source)), str(source)))
        if source is None or isinstance(source, str | BaseModel | bool | int | float | list):
            why = f"must be a pydantic model, a JSON Schema or a file with one; got {type(source).__name__}"
            raise InputError("schema", why)
        return cls(_checked_table(_table_of_type(source), getattr(source, "__name__", "schema")), source)

    @classmethod
    def of_source(cls, source: str) -> AnswerSchema:
        """Make the one again whose `source` this is, which was checked then."""
        return cls(json.loads(source))

    @classmethod
    def of(cls, source: Any) -> AnswerSchema:
        """Make one whose answers are objects with named fields, as rows and pieces have them; see `parse`."""
        schema = cls.parse(source)
        root = resolve_root(schema.table)
        if root.get("type") != "object" or not root.get("properties"):
            why = 'must describe an object with properties: {"type": "object", "properties": {...}}'
            raise InputError(getattr(source, "__name__", "schema"), why)
        return schema

    @property
    def required(self) -> tuple[str, ...]:
        """Return the fields that every answer has."""
        return tuple(resolve_root(self.table).get("required", ()))

    @property
    def source(self) -> str:
        """Return the whole schema as text, from which `of_source` makes the same one, but for its type."""
        return json.dumps(self.table, ensure_ascii=False)

    @property
    def wants_objects(self) -> bool:
        """Tell whether every answer is an object."""
        return _kinds(self.table) == {"object"}

    def ask(self, query: str) -> str:
        """Return the question, with exactly what is wanted of its answer."""
        return f"{query}\n\n{self.instruction()}"

    def instruction(self) -> str:
        """Say exactly what is wanted."""
        return f"{self._only_json()} It must match this JSON Schema:\n{self.compact()}"

    def check(self, answer: str) -> ParsedAnswer:
        """Return the value the answer holds, also inside a fence or prose, if it is as it shall be."""
        with within_bounds():
            return self._check(answer)

    def _check(self, answer: str) -> ParsedAnswer:
        why = ""
        kinds = _kinds(self.table)
        for value in find_json_objects(answer) if kinds == {"object"} else find_json_values(answer):
            checked = self.check_value(value)
            if checked.fits:
                return checked
            why = why or checked.why
        if kinds & {"string", "any"}:
            checked = self.check_value(answer.strip())
            if checked.fits:
                return checked
            why = why or checked.why
        if not why and not kinds <= {"object", "array"} and answer.strip():
            why = self.check_value(answer.strip()).why
        return ParsedAnswer(None, why or explain_no_json(answer, "array" if "array" in kinds else "object"))

    def check_value(self, value: Any) -> ParsedAnswer:
        """Return the value itself, if it is as it shall be."""
        if self.type_ is not None:
            return _by_type(self.type_, value)
        if not isinstance(value, dict) and self.wants_objects:
            return ParsedAnswer(None, f"the answer: found {shown(value)}, wanted a JSON object")
        why = find_faults(self.table, value)
        return ParsedAnswer(None, why) if why else ParsedAnswer(value, "", value, value)

    def for_part(self) -> AnswerSchema:
        """Return the schema of an answer about a part of a document: each field may be missing or null."""
        root = resolve_root(self.table)
        fields = {name: {"anyOf": [field, {"type": "null"}]} for name, field in root["properties"].items()}
        whole = {keyword: inner for keyword, inner in self.table.items() if keyword != "$ref"}
        table = {keyword: inner for keyword, inner in {**whole, **root}.items() if keyword not in _CONDITIONS}
        return AnswerSchema({**table, "properties": fields})

    def described(self) -> str:
        """Say in words what one answer is."""
        return f"<a JSON object that matches this JSON Schema: {self.compact()}>"

    def repair(self, answer: str, why: str) -> str:
        """Return a question that gives the model its answer back to be put right."""
        return (
            f"An answer had to be {self._one_value()} that matches a JSON Schema, but {why}.\n\n"
            f"The answer was:\n{truncate_middle(answer, _REPAIR_CHARS)}\n\nThe schema:\n{self.compact()}\n\n"
            f"Put right what is wrong, change nothing else and invent nothing. {self._only_json()}"
        )

    def refusal(self, why: str) -> str:
        """Say to the model, in the conversation that holds its answer, what is wrong with it."""
        return f"That answer does not match the JSON Schema: {why}.\nPut right what is wrong. {self._only_json()}"

    def arrow(self) -> pa.Schema:
        """Return typed columns; see `structured/arrow.py`."""
        from rlm_ray.structured.arrow import columns_of

        return columns_of(self.table)

    def row(self, value: Mapping[str, Any]) -> dict[str, Any]:
        """Return the value as the columns of `arrow()` hold it. Raises `InputError` where one of them cannot."""
        from rlm_ray.structured.arrow import to_arrow_value

        row = {}
        for column in self.arrow():
            field = value.get(column.name)
            try:
                row[column.name] = to_arrow_value(column.type, field)
            except (AttributeError, TypeError, ValueError, OverflowError) as error:
                why = f"cannot be held in a column of the type {column.type}: {shown(field)}; say its type in the schema"
                raise InputError(column.name, why) from error
        return row

    def compact(self) -> str:
        """Return the schema as a model reads it."""
        return json.dumps(strip_annotations(self.table), ensure_ascii=False, separators=(",", ":"))

    def _one_value(self) -> str:
        return "one JSON object" if self.wants_objects else "one JSON value"

    def _only_json(self) -> str:
        return f"Answer with {self._one_value()} and nothing else: no sentences, no code fence."


def _kinds(root: Mapping[str, Any]) -> set[str]:
    """Return the types of JSON that a schema may allow; `any` where it says nothing about that, or too much."""
    kinds: set[str] = set()
    stack: list[Any] = [root]
    seen = 0
    while stack and seen < _MAX_BRANCHES:
        part, seen = stack.pop(), seen + 1
        if not isinstance(part, Mapping):
            kinds.add("any")
        elif "$ref" in part:
            stack.append(resolve_ref(root, part["$ref"]))
        elif (named := part.get("type")) is not None:
            names = named if isinstance(named, list) else [named]
            kinds |= {name if isinstance(name, str) else "any" for name in names}
        elif branches := next((part[name] for name in _BRANCHES if part.get(name)), None):
            stack += branches
        elif values := part.get("enum", [part["const"]] if "const" in part else []):
            kinds |= {_kind_of(value) for value in values}
        else:
            kinds.add("object" if part.get("properties") else "any")
    return {"any"} if stack else kinds


def _kind_of(value: Any) -> str:
    match value:
        case str():
            return "string"
        case dict():
            return "object"
        case list():
            return "array"
        case _:
            return "number"


def _by_type(type_: Any, value: Any) -> ParsedAnswer:
    adapter = _adapter(type_)
    try:
        # By its JSON: a strict model takes a date from a text there, and nowhere else.
        instance = adapter.validate_json(json.dumps(value))
        plain = adapter.dump_python(instance, mode="json", by_alias=True)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False)
        return ParsedAnswer(None, join_faults(map(_fault, faults)))
    except Exception as error:  # noqa: BLE001 - a validator or serializer of the user's
        return ParsedAnswer(None, f"its own check failed: {type(error).__name__}: {str(error)[:_WHY_CHARS]}")
    return ParsedAnswer(plain, "", value, instance)


def _fault(item: Any) -> str:
    found = "" if item["type"] == "missing" else f"; found {shown(item['input'])}"
    return f"{place(item['loc'])}: {item['msg'][:_WHY_CHARS]}{found}"


@lru_cache(maxsize=256)
def _adapter(type_: Any) -> TypeAdapter[Any]:
    return TypeAdapter(type_)


def _table_of_type(type_: Any) -> dict[str, Any]:
    try:
        return dict(_adapter(type_).json_schema())
    except (PydanticUserError, TypeError, ValueError) as error:
        why = f"must be a pydantic model, a JSON Schema or a file with one; got {type_!r}"
        raise InputError("schema", f"{why} ({str(error).splitlines()[0]})") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError as error:
        raise InputError(str(path), "does not exist; give the path of a JSON Schema") from error
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise InputError(str(path), f"cannot be read as a JSON Schema: {why}") from error
    return _parse_json(text, str(path))


def _parse_json(text: str, name: str) -> dict[str, Any]:
    try:
        table = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(name, f"cannot be read as a JSON Schema: {error}") from error
    if not isinstance(table, dict):
        raise InputError(name, "holds no JSON Schema: it must be a JSON object")
    return table


def _checked_table(table: dict[str, Any], name: str, *, trusted: bool = True) -> dict[str, Any]:
    """Return a schema that can be used without surprises later. Raises `InputError` for any other."""
    try:
        size = len(json.dumps(table))
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(name, f"is no JSON: {error}") from error
    if not trusted:
        _check_size(table, name, size)
    try:
        with nullcontext() if trusted else within_bounds():
            _check_schemas(table, name, trusted=trusted)
    except RecursionError as error:
        raise InputError(name, "is nested too deeply") from error
    except TooManySteps as error:
        raise InputError(name, "takes too many steps to check; make it simpler") from error
    return table


def _check_schemas(table: dict[str, Any], name: str, *, trusted: bool) -> None:
    """Refuse what is no schema: the whole, and what references lead to, which may stand where no schema is looked for."""
    parts: list[Any] = [table]
    seen = set()
    while parts:
        part = parts.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if (fault := find_schema_fault(part, table)) is not None:
            place = ".".join(map(str, fault.absolute_path))
            where = f" at {place}" if place else ""
            raise InputError(name, f"is no valid JSON Schema{where}: {fault.message[:_WHY_CHARS]}")
        _check_patterns(part, name, trusted=trusted)
        parts += [_referred(table, reference, name) for reference in iter_refs(part)]


def _referred(table: dict[str, Any], reference: str, name: str) -> Any:
    try:
        return resolve_ref(table, reference)
    except KeyError:
        why = f"refers to {reference!r}, which it does not hold; put what it means under $defs"
        raise InputError(name, why) from None


def _check_size(table: dict[str, Any], name: str, size: int) -> None:
    """Refuse a schema of a model or client that could cost more than it is worth."""
    if size > MAX_FOREIGN_CHARS:
        raise InputError(name, f"has {size:,} characters; the most is {MAX_FOREIGN_CHARS:,}")
    if _depth(table) > MAX_FOREIGN_DEPTH:
        raise InputError(name, f"is nested deeper than {MAX_FOREIGN_DEPTH}")


def _check_patterns(part: Any, name: str, *, trusted: bool) -> None:
    """Refuse patterns that are none, and those of a model or client whose matching could take for ever."""
    for keyword, value in iter_keywords(part):
        if keyword == "patternProperties" and not trusted:
            raise InputError(name, "has patternProperties, which are not supported here; name the properties")
        if keyword != "pattern" or not isinstance(value, str) or is_linear(value):
            continue
        if not trusted:
            why = "look-around and back-references are not supported here"
            raise InputError(name, f"has the pattern {value[:_WHY_CHARS]!r}: {why}")
        try:
            re.compile(value)
        except re.error as error:
            raise InputError(name, f"has a pattern that is none: {value[:_WHY_CHARS]!r} ({error})") from error


def _depth(part: Any) -> int:
    """Return how deep lists and objects are nested."""
    level, depth = [part], 0
    while level and depth <= MAX_FOREIGN_DEPTH:
        level = [
            inner
            for item in level
            for inner in (item.values() if isinstance(item, Mapping) else item)
            if isinstance(inner, Mapping | list)
        ]
        depth += 1
    return depth
