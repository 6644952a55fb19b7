"""How long answers of a schema are, before there are any: for a plan's tokens."""

from __future__ import annotations

import json
from collections.abc import Mapping
from statistics import fmean
from typing import Any

from rlm_ray.corpus.schema_parts import referred, root_of

_TEXT_CHARS = 40
"""Of a text nothing is said about."""
_ITEMS = 3
"""Of a list nothing is said about."""
_PLAIN = {"boolean": 5, "integer": 4, "number": 6, "null": 4}
_DEEPEST = 8


def answer_chars(table: Mapping[str, Any]) -> int:
    """The characters of an answer: enumerated values as long as they are on average, free texts 40, lists 3 items."""
    return round(_chars(table, root_of(table), 0))


def _chars(root: Mapping[str, Any], part: Any, depth: int) -> float:
    if not isinstance(part, Mapping) or depth > _DEEPEST:
        return _TEXT_CHARS
    if "$ref" in part:
        return _chars(root, referred(root, part["$ref"]), depth + 1)
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
