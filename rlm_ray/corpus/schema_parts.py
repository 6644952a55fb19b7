"""A JSON Schema read as a tree of schemas: what it refers to, and how it is written shortly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_MAPS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
"""Keywords whose values are schemas by name."""
_VALUES = ("enum", "const", "default", "examples", "required")
"""Keywords whose values are no schemas."""
_DECORATION = ("title", "$schema", "$id", "$comment")
_MOST_HOPS = 10


def root_of(table: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema its own reference leads to; pydantic writes one for a model that holds itself."""
    part: Mapping[str, Any] = table
    for _ in range(_MOST_HOPS):
        if "$ref" not in part:
            break
        part = referred(table, part["$ref"])
    return part


def referred(table: Mapping[str, Any], reference: str) -> Any:
    """What a reference names. Raises `KeyError` where the schema does not hold it."""
    if not isinstance(reference, str) or not reference.startswith("#"):
        raise KeyError(reference)
    found: Any = table
    for name in reference[1:].split("/")[1:]:
        if not isinstance(found, Mapping):
            raise KeyError(reference)
        found = found[name.replace("~1", "/").replace("~0", "~")]
    return found


def references(part: Any) -> Iterator[Any]:
    """Every `$ref` in a schema."""
    if isinstance(part, list):
        for item in part:
            yield from references(item)
    if not isinstance(part, Mapping):
        return
    if "$ref" in part:
        yield part["$ref"]
    for keyword, inner in part.items():
        if keyword in _MAPS and isinstance(inner, Mapping):
            for schema in inner.values():
                yield from references(schema)
        elif keyword not in _VALUES:
            yield from references(inner)


def bare(part: Any) -> Any:
    """The schema without what only people read."""
    if isinstance(part, list):
        return [bare(item) for item in part]
    if not isinstance(part, Mapping):
        return part
    return {keyword: _bare(keyword, inner) for keyword, inner in part.items() if keyword not in _DECORATION}


def _bare(keyword: str, inner: Any) -> Any:
    if keyword in _VALUES:
        return inner
    if keyword in _MAPS and isinstance(inner, Mapping):
        return {name: bare(schema) for name, schema in inner.items()}
    return bare(inner)
