"""`AnswerSchema`: the JSON object that an answer shall be; asked for, checked, and repaired once by the model.

It is made of a pydantic model, a JSON Schema, or a file with one. A pydantic model checks for itself, so its own
validators count and "5" is a number to it; a JSON Schema is taken by its letter.

Also resolves the references of a JSON Schema, strips its annotations, and estimates how long answers of it are, for the
tokens of a plan.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from jsonschema.exceptions import SchemaError, relevance  # type: ignore[import-untyped]  # ships no types
from jsonschema.validators import validator_for  # type: ignore[import-untyped]  # ships no types
from pydantic import BaseModel, ValidationError

from rlm_ray.core.json_extraction import explain_no_json, find_json_objects
from rlm_ray.core.prompts import truncate_middle
from rlm_ray.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa  # type: ignore[import-untyped]  # ships no types

_REPAIR_CHARS = 20_000
_WHY_CHARS = 300
_ERRORS = 3
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
_ONLY_JSON = "Answer with one JSON object and nothing else: no sentences, no code fence."


_MAPS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
"""Keywords whose values are schemas by name."""
_VALUES = ("enum", "const", "default", "examples", "required")
"""Keywords whose values are no schemas."""
_DECORATION = ("title", "$schema", "$id", "$comment")
_MOST_HOPS = 10
_TEXT_CHARS = 40
"""Of a text nothing is said about."""
_ITEMS = 3
"""Of a list nothing is said about."""
_PLAIN = {"boolean": 5, "integer": 4, "number": 6, "null": 4}
_DEEPEST = 8


@dataclass(frozen=True, slots=True)
class ParsedAnswer:
    """The object an answer holds, or why it cannot be used."""

    value: dict[str, Any] | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class AnswerSchema:
    """What an answer shall look like."""

    table: Mapping[str, Any]
    """The JSON Schema."""
    model: type[BaseModel] | None = None
    """The pydantic model it was made of."""

    @classmethod
    def of(cls, source: Any) -> AnswerSchema:
        """Make a schema from a pydantic model class, a JSON Schema as a dict, or the path of a file with one."""
        if isinstance(source, AnswerSchema):
            return source
        if isinstance(source, type) and issubclass(source, BaseModel):
            return cls(_checked_table(source.model_json_schema(), source.__name__), source)
        if isinstance(source, Mapping):
            return cls(_checked_table(dict(source), "schema"))
        if isinstance(source, str | Path):
            return cls(_checked_table(_read(Path(source)), str(source)))
        why = f"must be a pydantic model, a JSON Schema or a file with one; got {type(source).__name__}"
        raise InputError("schema", why)

    @property
    def required(self) -> tuple[str, ...]:
        """Return the fields that every answer has."""
        return tuple(resolve_root(self.table).get("required", ()))

    def ask(self, query: str) -> str:
        """Return the question with exactly what is wanted."""
        return f"{query}\n\n{_ONLY_JSON} It must match this JSON Schema:\n{self._compact()}"

    def check(self, answer: str) -> ParsedAnswer:
        """Return the object the answer holds, also inside a fence or prose, if it matches."""
        why = ""
        for value in find_json_objects(answer):
            checked = self._validated(value)
            if checked.value is not None:
                return checked
            why = why or checked.why
        return ParsedAnswer(None, why or explain_no_json(answer))

    def check_value(self, value: Any) -> ParsedAnswer:
        """Return the object itself, if it matches."""
        return (
            self._validated(value) if isinstance(value, dict) else ParsedAnswer(None, "it is no JSON object")
        )

    def for_part(self) -> AnswerSchema:
        """Return the schema of an answer about a part of a document: each field may be missing or null."""
        root = resolve_root(self.table)
        fields = {name: {"anyOf": [field, {"type": "null"}]} for name, field in root["properties"].items()}
        whole = {keyword: inner for keyword, inner in self.table.items() if keyword != "$ref"}
        table = {keyword: inner for keyword, inner in {**whole, **root}.items() if keyword not in _CONDITIONS}
        return AnswerSchema({**table, "properties": fields})

    def described(self) -> str:
        """Describe one answer in words."""
        return f"<a JSON object that matches this JSON Schema: {self._compact()}>"

    def repair(self, answer: str, why: str) -> str:
        """Return a question that gives the model its answer back to be put right."""
        return (
            f"An answer had to be one JSON object that matches a JSON Schema, but {why}.\n\n"
            f"The answer was:\n{truncate_middle(answer, _REPAIR_CHARS)}\n\nThe schema:\n{self._compact()}\n\n"
            f"Put right what is wrong, change nothing else and invent nothing. {_ONLY_JSON}"
        )

    def arrow(self) -> pa.Schema:
        """Return typed columns; see `structured/arrow.py`."""
        from rlm_ray.structured.arrow import columns_of

        return columns_of(self.table)

    def row(self, value: Mapping[str, Any]) -> dict[str, Any]:
        """Return the value as the columns of `arrow()` hold it."""
        from rlm_ray.structured.arrow import to_arrow_value

        return {column.name: to_arrow_value(column.type, value.get(column.name)) for column in self.arrow()}

    def _compact(self) -> str:
        return json.dumps(strip_annotations(self.table), ensure_ascii=False, separators=(",", ":"))

    def _validated(self, value: dict[str, Any]) -> ParsedAnswer:
        if self.model is not None:
            return _by_model(self.model, value)
        errors = sorted(validator_for(self.table)(self.table).iter_errors(value), key=relevance)
        if not errors:
            return ParsedAnswer(value)
        return ParsedAnswer(None, _why((error.absolute_path, error.message) for error in reversed(errors)))


def _by_model(model: type[BaseModel], value: dict[str, Any]) -> ParsedAnswer:
    try:
        return ParsedAnswer(model.model_validate(value).model_dump(mode="json", by_alias=True))
    except ValidationError as error:
        return ParsedAnswer(
            None, _why((item["loc"], item["msg"]) for item in error.errors(include_url=False))
        )


def _why(errors: Iterator[tuple[Any, str]]) -> str:
    """Return the first few errors, each with the place it is about."""
    shown = [
        f"{_place(path)}: {message[:_WHY_CHARS]}"
        for (path, message), _ in zip(errors, range(_ERRORS), strict=False)
    ]
    return "; ".join(shown)


def _place(path: Any) -> str:
    steps = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return f"`{steps.lstrip('.')}`" if steps else "the object"


def _read(path: Path) -> dict[str, Any]:
    try:
        table = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(str(path), f"cannot be read as a JSON Schema: {error}") from error
    if not isinstance(table, dict):
        raise InputError(str(path), "holds no JSON Schema: it must be a JSON object")
    return table


def _checked_table(table: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a schema that can be used without surprises later. Raises `InputError` for any other."""
    try:
        validator_for(table).check_schema(table)
    except SchemaError as error:
        raise InputError(name, f"is no valid JSON Schema: {error.message[:_WHY_CHARS]}") from error
    for reference in iter_refs(table):
        try:
            resolve_ref(table, reference)
        except KeyError:
            why = f"refers to {reference!r}, which it does not hold; put what it means under $defs"
            raise InputError(name, why) from None
    root = resolve_root(table)
    if root.get("type") != "object" or not root.get("properties"):
        why = 'must describe an object with properties: {"type": "object", "properties": {...}}'
        raise InputError(name, why)
    return table


def resolve_root(table: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the schema its own reference leads to; pydantic writes one for a model that holds itself."""
    part: Mapping[str, Any] = table
    for _ in range(_MOST_HOPS):
        if "$ref" not in part:
            break
        part = resolve_ref(table, part["$ref"])
    return part


def resolve_ref(table: Mapping[str, Any], reference: str) -> Any:
    """Return what a reference names. Raises `KeyError` where the schema does not hold it."""
    if not isinstance(reference, str) or not reference.startswith("#"):
        raise KeyError(reference)
    found: Any = table
    for name in reference[1:].split("/")[1:]:
        if not isinstance(found, Mapping):
            raise KeyError(reference)
        found = found[name.replace("~1", "/").replace("~0", "~")]
    return found


def iter_refs(part: Any) -> Iterator[Any]:
    """Yield every `$ref` in a schema."""
    if isinstance(part, list):
        for item in part:
            yield from iter_refs(item)
    if not isinstance(part, Mapping):
        return
    if "$ref" in part:
        yield part["$ref"]
    for keyword, inner in part.items():
        if keyword in _MAPS and isinstance(inner, Mapping):
            for schema in inner.values():
                yield from iter_refs(schema)
        elif keyword not in _VALUES:
            yield from iter_refs(inner)


def strip_annotations(part: Any) -> Any:
    """Return the schema without what only people read."""
    if isinstance(part, list):
        return [strip_annotations(item) for item in part]
    if not isinstance(part, Mapping):
        return part
    return {keyword: _bare(keyword, inner) for keyword, inner in part.items() if keyword not in _DECORATION}


def _bare(keyword: str, inner: Any) -> Any:
    if keyword in _VALUES:
        return inner
    if keyword in _MAPS and isinstance(inner, Mapping):
        return {name: strip_annotations(schema) for name, schema in inner.items()}
    return strip_annotations(inner)


def estimate_answer_chars(table: Mapping[str, Any]) -> int:
    """Estimate the characters of an answer: enumerated values as long as they are on average, free texts 40, lists 3
    items.
    """
    return round(_chars(table, resolve_root(table), 0))


def _chars(root: Mapping[str, Any], part: Any, depth: int) -> float:
    if not isinstance(part, Mapping) or depth > _DEEPEST:
        return _TEXT_CHARS
    if "$ref" in part:
        return _chars(root, resolve_ref(root, part["$ref"]), depth + 1)
    if options := part.get("anyOf") or part.get("oneOf") or part.get("allOf"):
        return _chars(root, options[0], depth + 1)
    if values := part.get("enum"):
        return fmean(len(json.dumps(value, ensure_ascii=False)) for value in values)
    if "const" in part:
        return len(json.dumps(part["const"], ensure_ascii=False))
    names = part.get("type", "object" if "properties" in part else "string")
    return _of_type(root, part, names if isinstance(names, str) else names[0], depth)


def _of_type(root: Mapping[str, Any], part: Mapping[str, Any], name: str, depth: int) -> float:
    if name == "object" and part.get("properties"):
        fields = part["properties"].items()
        return sum(len(key) + 6 + _chars(root, inner, depth + 1) for key, inner in fields)
    if name in ("array", "object"):
        item = part.get("items") if name == "array" else part.get("additionalProperties")
        fewest: int = part.get("minItems", 0)
        items = (fewest + part["maxItems"]) / 2 if "maxItems" in part else max(fewest, _ITEMS)
        return 2.0 + items * (2 + _chars(root, item, depth + 1))
    if name == "string":
        return float(2 + min(_TEXT_CHARS, part.get("maxLength", _TEXT_CHARS)))
    return _PLAIN.get(name, _TEXT_CHARS)
