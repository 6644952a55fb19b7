"""JSON Schemas as tables: references, annotations, and how long answers of one are, for the tokens of a plan."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from statistics import fmean
from typing import Any
from urllib.parse import unquote

MAPS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies")
"""Keywords whose values are schemas by name."""
VALUES = ("enum", "const", "default", "examples", "required")
"""Keywords whose values are no schemas."""
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_DECORATION = ("title", "$schema", "$id", "$comment")
_MOST_HOPS = 10
_TEXT_CHARS = 40
"""Of a text nothing is said about."""
_ITEMS = 3
"""Of a list nothing is said about."""
_PLAIN = {"boolean": 5, "integer": 4, "number": 6, "null": 4}
_DEEPEST = 8
_MAX_DIGITS = 9
"""Of a place in a list: Python reads no number of thousands of digits."""


def resolve_root(table: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the schema its own reference leads to; pydantic writes one for a model that holds itself."""
    part: Mapping[str, Any] = table
    for _ in range(_MOST_HOPS):
        if "$ref" not in part:
            break
        part = resolve_ref(table, part["$ref"])
    return part


def resolve_ref(table: Mapping[str, Any], reference: str) -> Any:
    """Return what a reference names, by its path or its anchor. Raises `KeyError` where the schema does not hold it."""
    if not isinstance(reference, str) or not reference.startswith("#"):
        raise KeyError(reference)
    start, *path = unquote(reference[1:]).split("/")
    found: Any = _anchored(table, reference) if start else table
    for name in path:
        if isinstance(found, list):
            if not name.isdecimal() or len(name) > _MAX_DIGITS or int(name) >= len(found):
                raise KeyError(reference)
            found = found[int(name)]
        elif isinstance(found, Mapping):
            found = found[name.replace("~1", "/").replace("~0", "~")]
        else:
            raise KeyError(reference)
    return found


def _anchored(table: Mapping[str, Any], reference: str) -> Mapping[str, Any]:
    for part in _iter_schemas(table):
        if reference[1:] in (part.get("$anchor"), part.get("$dynamicAnchor")) or reference == part.get("$id"):
            return part
    raise KeyError(reference)


def iter_keywords(part: Any) -> Iterator[tuple[str, Any]]:
    """Yield every keyword of a schema and of the schemas in it, with its value."""
    return (item for schema in _iter_schemas(part) for item in schema.items())


def _iter_schemas(part: Any) -> Iterator[Mapping[str, Any]]:
    stack = [part]
    while stack:
        part = stack.pop()
        if isinstance(part, list):
            stack += part
        if not isinstance(part, Mapping):
            continue
        yield part
        for keyword, inner in part.items():
            if keyword in MAPS and isinstance(inner, Mapping):
                stack += inner.values()
            elif keyword not in VALUES:
                stack.append(inner)


def iter_refs(part: Any) -> Iterator[Any]:
    """Return every reference in a schema."""
    return (inner for keyword, inner in iter_keywords(part) if keyword in _REFERENCES)


def strip_annotations(part: Any) -> Any:
    """Return the schema without what only people read."""
    if isinstance(part, list):
        return [strip_annotations(item) for item in part]
    if not isinstance(part, Mapping):
        return part
    return {keyword: _bare(keyword, inner) for keyword, inner in part.items() if keyword not in _DECORATION}


def _bare(keyword: str, inner: Any) -> Any:
    if keyword in VALUES:
        return inner
    if keyword in MAPS and isinstance(inner, Mapping):
        return {name: strip_annotations(schema) for name, schema in inner.items()}
    return strip_annotations(inner)


def estimate_answer_chars(table: Mapping[str, Any]) -> int:
    """Return the characters of an answer: enumerated values as long as they are on average, free texts 40, lists 3 items."""
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
