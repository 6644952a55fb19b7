"""Turns Python functions into `Tool` values, which are shipped with every session.

A function goes by value, with what it refers to in its own modules: no worker has to be able to import them. The types
of its parameters go beside it, for annotations may be mere texts.
"""

from __future__ import annotations

import inspect
import re
import sys
import sysconfig
import typing
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from pydantic import PydanticSchemaGenerationError, PydanticUserError

from rlm_ray.core.tools import Tool, check_name
from rlm_ray.errors import ConfigError
from rlm_ray.tools.calling import validator

_MODULE_PREFIX = re.compile(r"\b(?:[A-Za-z_]\w*\.)+(?=[A-Za-z_]\w*)")


class Pickler(Protocol):
    """A pickle module that pickles functions by value: Ray's cloudpickle."""

    def dumps(self, value: object) -> bytes: ...

    def register_pickle_by_value(self, module: ModuleType) -> None: ...

    def unregister_pickle_by_value(self, module: ModuleType) -> None: ...


def pack_tools(functions: Any, pickler: Pickler) -> tuple[Tool, ...]:
    """Pack functions, or a mapping of names to functions. Raises `ConfigError` for what cannot be a tool."""
    if isinstance(functions, Mapping):
        named: Iterable[tuple[str, Any]] = [(str(name), function) for name, function in functions.items()]
    elif isinstance(functions, Iterable) and not isinstance(functions, str | bytes):
        named = [(_name(function), function) for function in functions]
    else:
        raise ConfigError("tools", f"are a list of functions; got {type(functions).__name__}")
    tools: list[Tool] = []
    for name, function in named:
        if isinstance(function, Tool):
            tools.append(function)
            continue
        check_name(name, [tool.name for tool in tools])
        tools.append(_pack(name, function, pickler))
    return tuple(tools)


def _name(function: Any) -> str:
    if isinstance(function, Tool):
        return function.name
    name = getattr(function, "__name__", "")
    if not callable(function) or isinstance(function, type):
        raise ConfigError("tools", f"takes functions; {function!r} is none: define one with def")
    if not name or name == "<lambda>":
        raise ConfigError(
            "tools", f"{function!r} has no name to call it by; define it with def, or give {{'name': it}}"
        )
    return str(name)


def _pack(name: str, function: Any, pickler: Pickler) -> Tool:
    if not callable(function) or isinstance(function, type):
        raise ConfigError("tools", f"{name!r} is no function: {function!r}; define one with def")
    if inspect.isasyncgenfunction(function):
        raise ConfigError("tools", f"{name!r} is an async generator; return a list instead")
    hints = _hints(name, function)
    try:
        signature = inspect.signature(function)
        validator(function, hints)
    except PydanticSchemaGenerationError as error:
        said = str(error).partition("\n")[0].partition(". Set ")[0]
        why = f"{name!r} takes what no JSON can hold ({said}); take str, numbers, lists, dicts, dataclasses or pydantic models"
        raise ConfigError("tools", why) from error
    except (PydanticUserError, ValueError, TypeError) as error:
        raise ConfigError("tools", f"{name!r} cannot be called with checked arguments: {error}") from error
    with _by_value(function, hints, pickler):
        try:
            code = pickler.dumps((function, hints))
        except Exception as error:  # whatever a user's objects raise
            why = f"{name!r} cannot be sent to another process ({error}); have it open files and connections itself"
            raise ConfigError("tools", why) from error
    return Tool(name, _shown(signature, hints), inspect.getdoc(function) or "", code)


def _hints(name: str, function: Any) -> dict[str, Any]:
    target = function if inspect.isroutine(function) else getattr(function, "__call__", function)  # noqa: B004
    try:
        return typing.get_type_hints(target, include_extras=True)
    except (NameError, TypeError, AttributeError) as error:
        why = f"{name!r} has an annotation that cannot be found ({error}); import or define its type"
        raise ConfigError("tools", why) from error


def _shown(signature: inspect.Signature, hints: Mapping[str, Any]) -> str:
    parameters = [
        parameter.replace(annotation=hints.get(name, inspect.Parameter.empty))
        for name, parameter in signature.parameters.items()
    ]
    returns = hints.get("return", inspect.Signature.empty)
    text = str(inspect.Signature(parameters, return_annotation=returns))
    return _MODULE_PREFIX.sub("", text)


@contextmanager
def _by_value(function: Any, hints: Mapping[str, Any], pickler: Pickler) -> Iterator[None]:
    """Have modules of the user's own pickled by value around the block; installed packages are there everywhere."""
    owners = {getattr(value, "__module__", None) for value in (function, *_classes(hints.values()))}
    modules = [sys.modules[name] for name in owners if name in sys.modules and _is_own(sys.modules[name])]
    for module in modules:
        pickler.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in modules:
            pickler.unregister_pickle_by_value(module)


def _classes(hints: Iterable[Any]) -> Iterator[Any]:
    for hint in hints:
        if isinstance(hint, type):
            yield hint
        yield from _classes(typing.get_args(hint))


def _is_own(module: ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    if file is None or module.__name__ == "__main__":
        return False
    path = Path(file).resolve()
    installed = {
        Path(sysconfig.get_path(kind)).resolve() for kind in ("stdlib", "platstdlib", "purelib", "platlib")
    }
    return not any(path.is_relative_to(folder) for folder in installed)
