"""The JSON values in a model's answer, wherever it put them: alone, in a fence, or between sentences."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from math import isinf
from typing import Any, NoReturn

_FENCE = re.compile(r"```[ \t]*(?:json)?[ \t]*\n(.*?)```", re.DOTALL | re.IGNORECASE)
_BRACE, _OPENING = re.compile(r"\{"), re.compile(r"[{\[]")
_INT64 = 1 << 63
_MAX_LITERAL_CHARS = 20_000
_STARTS = 1_000
"""How many opening braces are tried in vain: an answer full of them must not take long to refuse."""


def find_json_objects(answer: str) -> Iterator[dict[str, Any]]:
    """Yield the answer itself, then what its fences hold, then what stands in its prose; the last written first,
    because models think before they answer."""
    for text in (answer, *reversed(_FENCE.findall(answer))):
        if isinstance(value := _parsed(text), dict):
            yield value
    yield from reversed(list(_in_prose(answer)))


def find_json_values(answer: str) -> Iterator[Any]:
    """Yield as `find_json_objects` does, but values of any type; at the end what the answer is as a Python literal, as `True` or
    `{'a': 1}`."""
    for text in (answer, *reversed(_FENCE.findall(answer))):
        try:
            yield _whole(text)
        except (ValueError, RecursionError):
            continue
    yield from reversed(list(_values_in_prose(answer)))
    if len(answer) <= _MAX_LITERAL_CHARS:
        try:
            yield json.loads(json.dumps(ast.literal_eval(answer.strip()), allow_nan=False))
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            return


def values_in(answer: str) -> list[Any]:
    """Return every JSON object and array of an answer, as written: alone, in fences, or between sentences."""
    for text in (answer, "\n".join(_FENCE.findall(answer))):
        if isinstance(value := _parsed(text), dict | list):
            return [value]
    return list(_values_in_prose(answer))


def explain_no_json(answer: str, wanted: str = "object") -> str:
    """Say in one sentence that an answer has no object, or no array."""
    if not answer.strip():
        return "the answer is empty"
    start = answer.find("[" if wanted == "array" else "{")
    if start < 0:
        return f"the answer holds no JSON {wanted}"
    try:
        _DECODER.raw_decode(answer, start)
    except json.JSONDecodeError as error:
        if error.pos >= len(answer.rstrip()):
            return "the JSON ends before it is complete"
        return f"the JSON is not valid: {error.msg} at character {error.pos - start + 1} of it"
    except (ValueError, RecursionError) as error:
        return f"the JSON cannot be used: {error}"
    return f"the answer holds no JSON {wanted}"


def _parsed(text: str) -> Any:
    try:
        return _whole(text)
    except (ValueError, RecursionError):
        return None


def _whole(text: str) -> Any:
    """Return the value that a text is. Raises `ValueError` for any other text."""
    value, stop = _DECODER.raw_decode(text := text.strip())
    if stop != len(text) or not _is_unicode(value):
        raise ValueError(text[:80])
    return value


def _in_prose(text: str) -> Iterator[dict[str, Any]]:
    return (value for value in _values_in_prose(text, _BRACE) if isinstance(value, dict))


def _values_in_prose(text: str, opening: re.Pattern[str] = _OPENING) -> Iterator[Any]:
    start, tried = 0, 0
    while tried < _STARTS and (found := opening.search(text, start)) is not None:
        try:
            value, start = _DECODER.raw_decode(text, found.start())
        except (ValueError, RecursionError):
            start, tried = found.start() + 1, tried + 1
            continue
        if _is_unicode(value):
            yield value


def _is_unicode(value: Any) -> bool:
    """Tell whether a text is whole: half a surrogate pair can be held by no file."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except (UnicodeEncodeError, RecursionError):
        return False
    return True


def _integer(digits: str) -> int:
    value = int(digits) if len(digits) < 25 else _INT64
    if not -_INT64 <= value < _INT64:
        raise ValueError("a whole number has more than 64 bits")
    return value


def _finite(digits: str) -> float:
    value = float(digits)
    if isinf(value):
        raise ValueError("a number is larger than any that can be written down")
    return value


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


_DECODER = json.JSONDecoder(parse_int=_integer, parse_float=_finite, parse_constant=_reject_constant)
