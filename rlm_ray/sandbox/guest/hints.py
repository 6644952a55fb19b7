"""What an error of a cell says besides: the next thing to do, for the errors that models make again and again.

One row of `_HINTS` for each kind of error. Nothing here calls code of the model's: only exact types of Python's own are
looked into. Never raises.
"""

from __future__ import annotations

import builtins
import difflib
import re
from collections.abc import Callable, Iterable
from typing import Any

from rlm_ray.sandbox.guest.search import SearchHit, SearchHits
from rlm_ray.sandbox.language import unavailable
from rlm_ray.sandbox.language.module_proxy import ModuleProxy
from rlm_ray.sandbox.language.modules import module_names, module_of

_NOTHING_FOUND = (
    "a search or a lookup that found nothing gives None; test it (`if m:`) before you use it, and print what you search "
    "in, such as print(repr(context[:500])), to see what it really looks like"
)
_ALREADY_THERE = "the whole input is in `context` already: never paste it into code"
_LOOK = "print(repr(x)) the value that does not fit: the input has another form there than you expect"
_ALIASES = {"pd": "pandas", "np": "numpy", "plt": "matplotlib", "dt": "datetime", "requests": "requests"}
_KNOWN_TYPES = (str, bytes, list, tuple, dict, set, frozenset, int, float, bool, re.Match, re.Pattern)


def hint(error: BaseException, names: Iterable[str]) -> str:
    """Return a sentence about what to do, or nothing. `names` are those that code can say."""
    make = _HINTS.get(type(error))
    try:
        return make(error, names) if make is not None else ""
    except BaseException:  # noqa: BLE001 - a key's __eq__ is code of the model's
        return ""


def _of_name(error: Any, names: Iterable[str]) -> str:
    name = _text(error.name)
    if not name or not str(error).endswith("is not defined"):
        return ""  # it says itself what to use instead
    if name in module_names():
        return f"import {name} first"
    if name in _ALIASES:
        full = _ALIASES[name]
        return (
            unavailable.module_unavailable(full)
            if full not in module_names()
            else f"import {full} as {name} first"
        )
    module = module_of(name)
    if module:
        return f"it is in a module: from {module} import {name}"
    close = _close(name, names)
    return (
        f"did you mean {close}?"
        if close
        else "a variable lives only if the cell that set it ran; SHOW_VARS() lists yours"
    )


def _of_attribute(error: Any, _: Iterable[str]) -> str:
    name, value = _text(error.name), error.obj
    if value is None:
        return _NOTHING_FOUND if "'NoneType'" in _text(str(error)) else ""
    if type(value) in (dict, SearchHit) and name in value:
        return f"its keys are read with brackets: x[{name!r}]"
    if (
        isinstance(value, ModuleProxy)
        or type(value) in _KNOWN_TYPES
        or type(value) in (SearchHit, SearchHits)
    ):
        close = _close(name, dir(type(value)) if not isinstance(value, ModuleProxy) else dir(value))
        return f"did you mean {close}?" if close else ""
    return ""


def _of_type(error: Any, _: Iterable[str]) -> str:
    message = str(error)
    if message.startswith("'NoneType' object") or "NoneType" in message:
        return _NOTHING_FOUND
    if message.startswith(("string indices must be", "string index indices must be")):
        return "it is a str, not a dict or a list: print(type(x), repr(x)[:200]) to see what you have"
    called = re.match(r"'(\w+)' object is not callable", message)
    if called and called[1] in module_names():
        names = f"{called[1]}.{called[1]}" if called[1] in ("datetime", "time") else f"{called[1]}.<name>"
        return f"{called[1]} is a module: call {names}(...)"
    if called:
        return "a variable of yours hides the function of this name: del it, and use another name"
    return ""


def _of_value(error: Any, _: Iterable[str]) -> str:
    message = str(error)
    if "unpack" in message or "invalid literal" in message or "could not convert" in message:
        return _LOOK
    return _LOOK if "does not match format" in message or "Invalid isoformat" in message else ""


def _of_syntax(error: Any, _: Iterable[str]) -> str:
    message = str(error.msg)
    if "unterminated" in message or "was never closed" in message or "EOF while scanning" in message:
        return f"the code ends in the middle of something; {_ALREADY_THERE}"
    return ""


_HINTS: dict[type, Callable[[Any, Iterable[str]], str]] = {
    NameError: _of_name,
    AttributeError: _of_attribute,
    TypeError: _of_type,
    ValueError: _of_value,
    SyntaxError: _of_syntax,
    KeyError: lambda *_: "print(list(x)[:20]) to see which keys there are",
    IndexError: lambda *_: "print(len(x)) first: there are fewer items than you expect",
}


def _close(name: str, names: Iterable[str]) -> str:
    """The names that are like this one."""
    known = [each for each in names if not each.startswith("_")]
    by_lower = {each.lower(): each for each in known}
    found = difflib.get_close_matches(name.lower(), by_lower, 3, cutoff=0.6)
    return " or ".join(repr(by_lower[each]) for each in found)


def _text(value: object) -> str:
    return value if type(value) is str else ""


def public_names(*tables: Iterable[str]) -> list[str]:
    """The names of these tables that a model may mean; Python's own errors are not among them."""
    found = (name for table in tables for name in table)
    return [name for name in dict.fromkeys(found) if not _is_error(name)]


def _is_error(name: str) -> bool:
    value = getattr(builtins, name, None)
    return isinstance(value, type) and issubclass(value, BaseException)
