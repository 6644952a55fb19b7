"""Calls a function with arguments that came as JSON, checked against its type hints, and writes its result as JSON."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError, validate_call

from rlm_ray.core.display import replace_surrogates

MAX_FAULTS = 5
_SHOWN_CHARS = 100


class ArgumentError(Exception):
    """The arguments of a call do not fit; the message says which, and why."""


class ResultError(Exception):
    """The result of a call cannot be sent; the message says why."""


def validator(function: Callable[..., Any], hints: Mapping[str, Any]) -> Callable[..., Any]:
    """Return the function behind a check of its arguments. Raises pydantic's errors for hints it cannot check."""

    def target(*args: Any, **kwargs: Any) -> Any:
        return partial(function, *args, **kwargs)

    parameters = {name: hint for name, hint in hints.items() if name != "return"}
    target.__signature__ = _signature(function, parameters)  # type: ignore[attr-defined]
    target.__annotations__ = parameters
    target.__name__ = target.__qualname__ = getattr(function, "__name__", "tool")
    return validate_call(config=ConfigDict(validate_default=False))(target)


def _signature(function: Callable[..., Any], hints: Mapping[str, Any]) -> inspect.Signature:
    signature = inspect.signature(function)
    parameters = [
        parameter.replace(annotation=hints.get(name, Any)) for name, parameter in signature.parameters.items()
    ]
    return signature.replace(parameters=parameters, return_annotation=inspect.Signature.empty)


def bind(checked: Callable[..., Any], arguments: str) -> Callable[[], Any]:
    """Return the call with these arguments, ready to be made. Raises `ArgumentError`."""
    args, kwargs = read_arguments(arguments)
    try:
        call: Callable[[], Any] = checked(*args, **kwargs)
    except ValidationError as error:
        raise ArgumentError(_faults(error, list(inspect.signature(checked).parameters))) from error
    return call


def read_arguments(arguments: str) -> tuple[list[Any], dict[str, Any]]:
    """Read what came from a cell. Raises `ArgumentError`."""
    try:
        args, kwargs = json.loads(arguments)
    except (ValueError, TypeError, RecursionError) as error:
        raise ArgumentError("its arguments are no JSON of a call") from error
    if not isinstance(args, list) or not isinstance(kwargs, dict):
        raise ArgumentError("its arguments are no JSON of a call")
    return args, kwargs


def _faults(error: ValidationError, names: list[str]) -> str:
    faults = error.errors(include_url=False, include_context=False)
    said = [_fault(fault, names) for fault in faults[:MAX_FAULTS]]
    more = f"; and {len(faults) - MAX_FAULTS} more" if len(faults) > MAX_FAULTS else ""
    return "; ".join(said) + more


def _fault(fault: Any, names: list[str]) -> str:
    first, *inner = fault["loc"]
    named = names[first] if isinstance(first, int) and first < len(names) else first
    place = ".".join(str(part) for part in (named, *inner))
    match fault["type"]:
        case "missing_argument" | "missing_positional_only_argument" | "missing_keyword_only_argument":
            return f"the argument {place!r} is missing"
        case "unexpected_keyword_argument":
            return f"there is no argument {place!r}"
        case "unexpected_positional_argument":
            return f"there are too many arguments: nothing takes number {int(fault['loc'][0]) + 1}"
        case "multiple_argument_values":
            return f"the argument {place!r} is given twice"
        case _:
            shown = repr(fault["input"])
            shown = shown if len(shown) <= _SHOWN_CHARS else f"{shown[:_SHOWN_CHARS]} …"
            return f"argument {place}: {fault['msg']}; got {shown}"


def result_to_json(value: Any, max_bytes: int) -> str:
    """Write a result as JSON: models and dataclasses as dicts, what JSON does not know as text. Raises `ResultError`."""
    if isinstance(value, str | bytes) and len(value) > max_bytes:
        raise ResultError(_too_large(len(value), max_bytes))
    try:
        data = _write(value)
    except Exception as error:
        raise ResultError(
            f"its result ({type(value).__name__}) cannot be written as JSON: {error}"
        ) from error
    if len(data) > max_bytes:
        raise ResultError(_too_large(len(data), max_bytes))
    return data.decode("utf-8")


def _write(value: Any) -> bytes:
    try:
        return _plain_writer("utf8").dump_json(value, fallback=str)
    except ValueError as error:
        if "surrogates" in str(error):
            return _plain_writer("utf8").dump_json(replace_surrogates(value), fallback=str)
        if "utf-8" not in str(error):
            raise
        return _plain_writer("base64").dump_json(value, fallback=str)  # bytes that are no text


@cache
def _plain_writer(bytes_as: Literal["utf8", "base64"]) -> TypeAdapter[Any]:
    return TypeAdapter(Any, config=ConfigDict(ser_json_inf_nan="constants", ser_json_bytes=bytes_as))


def _too_large(size: int, most: int) -> str:
    return (
        f"its result has {size:,} bytes, more than the {most:,} that are taken (tool_limits.max_result_bytes); "
        "it was not taken: ask for less of it at a time"
    )
