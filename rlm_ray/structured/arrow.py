"""Typed columns for values of a JSON Schema: nested as struct and list, anything else as JSON text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]  # ships no types

from rlm_ray.structured.json_schema import resolve_ref, resolve_root

_PLAIN = {"string": pa.string(), "integer": pa.int64(), "number": pa.float64(), "boolean": pa.bool_()}
_OF_VALUES = ((bool, pa.bool_()), (int, pa.int64()), (float, pa.float64()), (str, pa.string()))
_TEXT = pa.string()


def columns_of(table: Mapping[str, Any]) -> Any:
    """Return the `pyarrow.Schema` of a JSON Schema whose values are objects. Every column may be null."""
    return pa.schema(list(ArrowTypeBuilder(table).of(resolve_root(table))))


def to_arrow_value(kind: Any, value: Any) -> Any:
    """Return the value as its column's type holds it; in a text column what is not a text becomes JSON.

    Raises `AttributeError`, `TypeError`, `ValueError` or `OverflowError` for one that no column of this type can hold.
    """
    if value is None:
        return None
    if pa.types.is_struct(kind):
        return {field.name: to_arrow_value(field.type, value.get(field.name)) for field in kind}
    if pa.types.is_list(kind):
        return [to_arrow_value(kind.value_type, item) for item in value]
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return pa.scalar(int(value), kind).as_py() if pa.types.is_integer(kind) else float(value)
    if pa.types.is_boolean(kind) or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


class ArrowTypeBuilder:
    """The types of one schema's parts; `$ref`s are looked up in it."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._open: list[str] = []
        """The references we are inside of: a schema that holds itself has no type of its own."""

    def of(self, part: Any) -> Any:
        if not isinstance(part, Mapping):
            return _TEXT
        if "$ref" in part:
            return self._referred(part["$ref"])
        if options := part.get("anyOf") or part.get("oneOf"):
            return self._only([option for option in options if not _is_null(option)])
        if "allOf" in part and "type" not in part:
            return self._only(part["allOf"])
        if "const" in part or "enum" in part:
            return _type_of_values(part["enum"] if "enum" in part else [part["const"]])
        return self._named(part)

    def _only(self, options: list[Any]) -> Any:
        """Return the one type of a union; one of several types is JSON text."""
        return self.of(options[0]) if len(options) == 1 else _TEXT

    def _referred(self, reference: str) -> Any:
        if reference in self._open:
            return _TEXT
        self._open.append(reference)
        kind = self.of(resolve_ref(self._root, reference))
        self._open.pop()
        return kind

    def _named(self, part: Mapping[str, Any]) -> Any:
        names = part.get("type", "object" if "properties" in part else "any")
        names = [name for name in ([names] if isinstance(names, str) else names) if name != "null"]
        match names:
            case ["object"] if part.get("properties"):
                return pa.struct([(name, self.of(inner)) for name, inner in part["properties"].items()])
            case ["array"] if "items" in part:
                return pa.list_(self.of(part["items"]))
            case [name]:
                return _PLAIN.get(name, _TEXT)
            case _:
                return _TEXT


def _is_null(part: Any) -> bool:
    return isinstance(part, Mapping) and part.get("type") == "null"


def _type_of_values(values: list[Any]) -> Any:
    known = [value for value in values if value is not None]
    for python, kind in _OF_VALUES:
        if known and all(type(value) is python for value in known):
            return kind
    return _TEXT
