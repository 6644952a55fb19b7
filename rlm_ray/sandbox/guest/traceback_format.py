"""A cell's exception as the model shall see it: its own lines, the type, a bounded message."""

from __future__ import annotations

import builtins
import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any

from rlm_ray.sandbox.guest.clock import CellTimeout
from rlm_ray.sandbox.guest.search import SearchHit, SearchHits
from rlm_ray.sandbox.language.builtins_table import module_unavailable
from rlm_ray.sandbox.language.module_proxy import ModuleProxy
from rlm_ray.sandbox.language.modules import module_names, module_of

_MESSAGE_CHARS = 2_000
_SOURCE_CHARS = 200
_FRAMES = 4
_INTERRUPTED = (
    "Variables are kept as they were at that moment: print what is done. Do less in one cell, or a cheaper way: a regular "
    "expression with nested or several unbounded repeats takes for ever on long lines, a list that is searched in a loop is slow."
)


def format_error(
    error: BaseException, sources: Mapping[str, list[str]], memory_mb: int, names: Iterable[str] = ()
) -> str:
    """Return the traceback's last lines in the model's code, then `Type: message` and what to do. Never raises."""
    lines = [
        *_frames(error, sources),
        *_syntax(error, sources),
        _summary_line(error, memory_mb),
    ]
    advice = hint(error, names)
    return "\n".join([*lines, f"Hint: {advice}."] if advice else lines)


def _summary_line(error: BaseException, memory_mb: int) -> str:
    name = _bounded(type.__dict__["__name__"].__get__(type(error)), 100)
    if isinstance(error, MemoryError):
        return (
            f"{name}: the interpreter may use {memory_mb:,} MB beyond the context; del what is no longer needed. "
            "context.split() or splitlines() of a large context makes millions of objects: iterate with "
            "re.finditer(pattern, context) or slice the context instead."
        )
    message = _message(error)
    if isinstance(error, CellTimeout):
        return f"{name}: {message}. It was interrupted at the line above. {_INTERRUPTED}"
    if isinstance(error, RecursionError):
        message = f"{message}; use a loop instead of recursion"
    return f"{name}: {message}" if message else name


def _message(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return _bounded(str(error.msg), _MESSAGE_CHARS)
    try:
        return _bounded(str(error), _MESSAGE_CHARS)
    except BaseException:  # noqa: BLE001 - __str__ is code of the model's
        return "(its message cannot be shown: __str__ failed)"


def _bounded(text: str, limit: int) -> str:
    text = str.__str__(text)
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]} … {len(text) - limit:,} characters left out … {text[-half:]}"


def _frames(error: BaseException, sources: Mapping[str, list[str]]) -> list[str]:
    calls = error.places if isinstance(error, CellTimeout) else _calls(error.__traceback__)
    places = [_place(*call, sources) for call in calls if call[0] in sources]
    if len(places) > _FRAMES:
        left_out = f"  … {len(places) - _FRAMES:,} more calls …"
        places = [places[0], left_out, *places[1 - _FRAMES :]]
    return places


def _calls(traceback: TracebackType | None) -> Iterator[tuple[str, str, int]]:
    while traceback is not None:
        code = traceback.tb_frame.f_code
        yield code.co_filename, code.co_name, traceback.tb_lineno
        traceback = traceback.tb_next


def _place(filename: str, function: str, line: int, sources: Mapping[str, list[str]]) -> str:
    source = sources[filename]
    text = source[line - 1].strip()[:_SOURCE_CHARS] if 0 < line <= len(source) else ""
    where = "" if function == "<module>" else f", in {function[:100]}"
    return f"{filename}, line {line}{where}: {text}"


def _syntax(error: BaseException, sources: Mapping[str, list[str]]) -> list[str]:
    """Return the line a SyntaxError is about, with a caret under the place."""
    if not isinstance(error, SyntaxError):
        return []
    line = error.lineno or 0
    source = sources.get(error.filename or "", [])
    if not 0 < line <= len(source):
        return []
    text = source[line - 1].rstrip()[:_SOURCE_CHARS]
    shown = text.lstrip()
    caret = (error.offset or 0) - 1 - (len(text) - len(shown))
    lines = [f"{error.filename}, line {line}: {shown}"]
    if 0 <= caret < len(shown):
        lines.append(" " * (len(lines[0]) - len(shown) + caret) + "^")
    return lines


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
        return module_unavailable(full) if full not in module_names() else f"import {full} as {name} first"
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
    """Return the names that are like this one."""
    known = [each for each in names if not each.startswith("_")]
    by_lower = {each.lower(): each for each in known}
    found = difflib.get_close_matches(name.lower(), by_lower, 3, cutoff=0.6)
    return " or ".join(repr(by_lower[each]) for each in found)


def _text(value: object) -> str:
    return value if type(value) is str else ""


def public_names(*tables: Iterable[str]) -> list[str]:
    """Return the names of these tables that a model may mean; Python's own errors are not among them."""
    found = (name for table in tables for name in table)
    return [name for name in dict.fromkeys(found) if not _is_error(name)]


def _is_error(name: str) -> bool:
    value = getattr(builtins, name, None)
    return isinstance(value, type) and issubclass(value, BaseException)
