"""Checks JSON values against JSON Schemas that anybody may have written, within bounds.

Rules:
- A check ends: it takes `MAX_STEPS` keywords and `MAX_CPU_S` at most, whatever a schema refers to, and nothing is fetched. Checks of the
  values of one answer are one (`within_bounds`).
- What it says of a value is shortened at once: a fault for each of thousands of alternatives would quote a long one as often.
- A `pattern` is matched by Rust's engine, whose time is linear. What that does not know (look-around, back-references) is
  matched by Python's in schemas of this program's user, and refused in those of models and of clients.
- A fault says where it is, what stands there, and what was wanted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import date, datetime, time
from functools import cache, lru_cache
from heapq import nlargest
from ipaddress import IPv4Address, IPv6Address
from time import thread_time
from typing import Any
from uuid import UUID

from jsonschema import FormatChecker  # type: ignore[import-untyped]  # ships no types
from jsonschema.exceptions import ValidationError, relevance  # type: ignore[import-untyped]  # ships no types
from jsonschema.validators import Draft202012Validator, extend, validator_for  # type: ignore[import-untyped]  # ships no types
from pydantic_core import SchemaError as PatternError
from pydantic_core import SchemaValidator, core_schema
from referencing import Registry
from referencing.exceptions import Unresolvable

MAX_STEPS = 1_000_000
"""Keywords that are looked at in one check. One takes 1 to 60 microseconds, by the depth of alternatives it stands in."""
MAX_CPU_S = 5.0
"""What one check may take: an answer of a million cells is checked in less."""
_SHOWN_CHARS = 80
_WHY_CHARS = 300
_MESSAGE_CHARS = 10_000
_ERRORS = 3
_KINDS = {
    "object": "an object",
    "array": "an array",
    "string": "a string",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
}
_WANTED: Mapping[str, str] = {
    "const": "{}",
    "minimum": "at least {}",
    "maximum": "at most {}",
    "exclusiveMinimum": "more than {}",
    "exclusiveMaximum": "less than {}",
    "multipleOf": "a multiple of {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "minProperties": "at least {} fields",
    "maxProperties": "at most {} fields",
    "pattern": "a text that matches {}",
    "format": "a text of the format {}",
}

_bounds: ContextVar[_Bounds | None] = ContextVar("bounds", default=None)


class _Bounds:
    """Counts the steps of one check, and their time."""

    __slots__ = ("_steps", "_until", "are_passed")

    def __init__(self, max_cpu_s: float) -> None:
        self._steps, self._until = MAX_STEPS, thread_time() + max_cpu_s
        self.are_passed = False

    def count(self) -> None:
        """Count one step. Raises `TooManySteps`."""
        self._steps -= 1
        if self._steps < 0 or thread_time() > self._until:
            self.are_passed = True
            raise TooManySteps


class TooManySteps(Exception):  # noqa: N818 - becomes a sentence
    """A check takes longer than any honest one."""


@contextmanager
def within_bounds(max_cpu_s: float | None = None) -> Iterator[_Bounds]:
    """Have all checks within the block end within the bounds of one; the bounds tell whether these were passed."""
    bounds = _bounds.get() or _Bounds(MAX_CPU_S if max_cpu_s is None else max_cpu_s)
    token = _bounds.set(bounds)
    try:
        yield bounds
    finally:
        _bounds.reset(token)


def find_faults(table: Mapping[str, Any], value: Any) -> str:
    """Say what is wrong with a value, the first few faults; empty where it fits."""
    try:
        with within_bounds():
            validator = _bounded(_dialect(table))(table, format_checker=_FORMATS, registry=Registry())
            errors = nlargest(_ERRORS, validator.iter_errors(value), key=relevance)
        return join_faults(map(_fault, errors))
    except TooManySteps:
        return "it cannot be checked: the schema takes too many steps; make it simpler"
    except Unresolvable as error:
        return f"it cannot be checked: the schema refers to {error.ref!r}, which it does not hold"
    except RecursionError:
        return "it is nested too deeply, or its schema refers to itself without end"


def find_schema_fault(part: Any, table: Mapping[str, Any]) -> ValidationError | None:
    """Return why a part of a table is no JSON Schema; None where it is one. Raises `RecursionError`, and `TooManySteps` within bounds."""
    dialect = _dialect(table)
    checks = _bounded(_dialect(dialect.META_SCHEMA))(
        dialect.META_SCHEMA, format_checker=dialect.FORMAT_CHECKER
    )
    return next(checks.iter_errors(part), None)


def _dialect(table: Mapping[str, Any]) -> Any:
    """Return the validator of a schema's dialect; the latest where it names none that is known."""
    try:
        return validator_for({"$schema": str(table.get("$schema"))}, default=Draft202012Validator)
    except ValueError:  # no address
        return Draft202012Validator


def join_faults(faults: Iterable[str]) -> str:
    """Join the first few faults to one sentence."""
    return "; ".join(fault[:_WHY_CHARS] for fault, _ in zip(faults, range(_ERRORS), strict=False))


def place(path: Iterable[Any]) -> str:
    """Say where in an answer something stands."""
    steps = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return f"`{steps.lstrip('.')}`" if steps else "the answer"


def shown(value: Any) -> str:
    """Quote a value as it stands in a sentence."""
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except (ValueError, RecursionError):
        text = str(type(value))
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"


def is_linear(pattern: str) -> bool:
    """Tell whether Rust's engine can match it."""
    return _rust(pattern) is not None


def _fault(error: ValidationError) -> str:
    """Say one fault; of alternatives, what the nearest one wants."""
    if error.validator in {"anyOf", "oneOf"} and error.context:
        error = _nearest(error)
    where = place(error.absolute_path)
    if error.validator == "required":
        missing = [name for name in error.validator_value if name not in error.instance]
        named = next(
            (name for name in missing if f"'{name}'" in error.message), missing[0] if missing else ""
        )
        return f"{where}: {named!r} is a required property and is missing"
    return f"{where}: found {shown(error.instance)}, wanted {_wanted(error)}"


def _nearest(error: ValidationError) -> ValidationError:
    """Return the deepest fault of an alternative of the right kind; the alternatives together where none is."""
    deeper = [each for each in error.context if each.relative_path]
    if deeper:
        chosen = max(deeper, key=lambda each: (len(each.absolute_path), relevance(each)))
        return _nearest(chosen) if chosen.validator in {"anyOf", "oneOf"} and chosen.context else chosen
    return error


def _wanted(error: ValidationError) -> str:  # noqa: PLR0911 - one for each kind of keyword
    keyword, value = error.validator, error.validator_value
    match keyword:
        case "type":
            names = [value] if isinstance(value, str) else value
            return " or ".join(_KINDS.get(name, str(name)) for name in names)
        case "enum":
            return f"one of {shown(value)}"
        case "anyOf" | "oneOf" if error.context:
            return " or ".join(dict.fromkeys(_wanted(each) for each in error.context))
        case "uniqueItems":
            return "items that differ from each other"
        case "additionalProperties" | "unevaluatedProperties" if isinstance(error.instance, dict):
            known = error.schema.get("properties", {})
            extra = [name for name in error.instance if name not in known]
            return f"no other field than {shown(sorted(known))}; {shown(extra)} is not among them"
        case _ if keyword in _WANTED:
            return _WANTED[keyword].format(shown(value))
        case _:
            return str(error.message).replace(repr(error.instance), "it")


@cache
def _bounded(base: Any) -> Any:
    """Return the same validator, with a bound on its steps and linear patterns, for every schema within the one it is made for."""
    own: dict[str, Any] = {"pattern": _check_pattern, "uniqueItems": _check_unique}
    checks = {name: _counted(own.get(name, check)) for name, check in base.VALIDATORS.items()}
    bounded = extend(base, checks)
    evolve, descend = bounded.evolve, bounded.descend

    def evolve_bounded(validator: Any, **changes: Any) -> Any:
        if (
            isinstance(schema := changes.get("schema"), Mapping) and "$schema" in schema
        ):  # names a validator without bounds
            changes["schema"] = {name: inner for name, inner in schema.items() if name != "$schema"}
        return evolve(validator, **changes)

    def descend_shortened(*rest: Any, **named: Any) -> Iterator[ValidationError]:
        for error in descend(*rest, **named):
            if len(error.message) > _MESSAGE_CHARS:
                error.message = error.message.replace(repr(error.instance), "it")[:_MESSAGE_CHARS]
                error.args = ()  # holds it, too
            yield error

    bounded.evolve, bounded.descend = evolve_bounded, descend_shortened
    return bounded


def _counted(check: Callable[..., Any]) -> Callable[..., Any]:
    def run(validator: Any, wanted: Any, instance: Any, schema: Any) -> Any:
        if (bounds := _bounds.get()) is not None:
            bounds.count()
        return check(validator, wanted, instance, schema)

    return run


def _check_pattern(validator: Any, pattern: str, instance: Any, _: Any) -> Iterator[ValidationError]:
    if validator.is_type(instance, "string") and not _matches(pattern, instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _check_unique(validator: Any, wanted: Any, instance: Any, _: Any) -> Iterator[ValidationError]:
    """Yield what is there twice, in linear time; 1 and 1.0 are the same, 1 and true are not."""
    if wanted and validator.is_type(instance, "array"):
        seen = {json.dumps(_plain(item), sort_keys=True) for item in instance}
        if len(seen) < len(instance):
            yield ValidationError(f"{instance!r} has non-unique elements")


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _matches(pattern: str, text: str) -> bool:
    rust = _rust(pattern)
    return rust.isinstance_python(text) if rust is not None else re.search(pattern, text) is not None


@lru_cache(maxsize=100)
def _rust(pattern: str) -> SchemaValidator | None:
    """Return what matches a pattern in linear time. It takes up to a fifth of a second to make, and 10 MB."""
    if (bounds := _bounds.get()) is not None:
        bounds.count()
    try:
        return SchemaValidator(core_schema.str_schema(pattern=pattern))
    except PatternError:
        return None


_FORMATS = FormatChecker(formats=())


def _format(name: str, parse: Callable[[str], Any]) -> None:
    def check(value: object) -> bool:
        if isinstance(value, str):
            parse(value)
        return True

    _FORMATS.checks(name, raises=ValueError)(check)


def _parse_date_time(text: str) -> None:
    if len(text) <= len("2024-01-01"):
        raise ValueError(text)
    datetime.fromisoformat(text)


def _parse_email(text: str) -> None:
    if not re.fullmatch(r"[^@\s]+@[^@\s]+", text):
        raise ValueError(text)


for _name, _parse in (
    ("date", date.fromisoformat),
    ("date-time", _parse_date_time),
    ("time", time.fromisoformat),
    ("uuid", UUID),
    ("ipv4", IPv4Address),
    ("ipv6", IPv6Address),
    ("email", _parse_email),
):
    _format(_name, _parse)
