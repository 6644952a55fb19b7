"""A cell's exception as the model shall see it: its own lines, the type, a bounded message."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType

_MESSAGE_CHARS = 2_000
_SOURCE_CHARS = 200
_FRAMES = 4


def format_error(error: BaseException, sources: Mapping[str, list[str]], memory_mb: int) -> str:
    """The traceback's last lines in the model's code, then `Type: message`. Never raises."""
    lines = [
        *_frames(error.__traceback__, sources),
        *_syntax(error, sources),
        _summary_line(error, memory_mb),
    ]
    return "\n".join(lines)


def _summary_line(error: BaseException, memory_mb: int) -> str:
    name = _bounded(type.__dict__["__name__"].__get__(type(error)), 100)
    if isinstance(error, MemoryError):
        return (
            f"{name}: the interpreter may use {memory_mb:,} MB beyond the context; del what is no longer needed. "
            "context.split() or splitlines() of a large context makes millions of objects: iterate with "
            "re.finditer(pattern, context) or slice the context instead."
        )
    message = _message(error)
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


def _frames(traceback: TracebackType | None, sources: Mapping[str, list[str]]) -> list[str]:
    places: list[str] = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if code.co_filename in sources:
            places.append(_place(code.co_filename, code.co_name, traceback.tb_lineno, sources))
        traceback = traceback.tb_next
    if len(places) > _FRAMES:
        left_out = f"  … {len(places) - _FRAMES:,} more calls …"
        places = [places[0], left_out, *places[1 - _FRAMES :]]
    return places


def _place(filename: str, function: str, line: int, sources: Mapping[str, list[str]]) -> str:
    source = sources[filename]
    text = source[line - 1].strip()[:_SOURCE_CHARS] if 0 < line <= len(source) else ""
    where = "" if function == "<module>" else f", in {function[:100]}"
    return f"{filename}, line {line}{where}: {text}"


def _syntax(error: BaseException, sources: Mapping[str, list[str]]) -> list[str]:
    """The line a SyntaxError is about, with a caret under the place."""
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
