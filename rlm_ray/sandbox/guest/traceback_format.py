"""A cell's exception as the model shall see it: its own lines, the type, a bounded message."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType

from rlm_ray.sandbox.guest.cell_timer import CellTimeout
from rlm_ray.sandbox.guest.hints import hint

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
    """The traceback's last lines in the model's code, then `Type: message` and what to do. Never raises."""
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
