"""What is shown of a cell: what it printed, counted in full and kept as head and tail, the variables that persist, and a note where
it found nothing.

A model writes `"product=lamp" in line` over lines such as `A1,lamp,5` and takes the 0 that comes of it for the answer. So a cell
that found nothing is told which of its literals the context does not hold, and the lines that do hold a word of them. Only text is
compared; nothing here calls code of the model's, and no pattern of it is run.
"""

from __future__ import annotations

import ast
import re
import time
import types
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice

from rlm_ray.core.repl_types import Variable
from rlm_ray.sandbox.language.module_proxy import ModuleProxy

_FIRST_SHOWN = 20
_SHOW_EVERY_S = 0.25


class Output:
    """Never holds much more than `limit` characters, however much is printed.

    `show` is called now and then with what there is, so that a cell that is killed later has not
    printed in vain: for the first prints at once, then a few times a second.
    """

    def __init__(self, limit: int, show: Callable[[str, int], None]) -> None:
        self._head_limit = limit // 2
        self._tail_limit = limit - limit // 2
        self._show = show
        self.reset()

    def reset(self) -> None:
        self.chars = 0
        self._head = ""
        self._tail: list[str] = []
        self._tail_chars = 0
        self._times_shown = 0
        self._shown_at = 0.0

    def write(self, text: str) -> None:
        self.chars += len(text)
        room = self._head_limit - len(self._head)
        if room > 0:
            self._head += text[:room]
            text = text[room:]
        if text:
            self._append_tail(text)

    def publish(self) -> None:
        """Send the output so far to the host, unless it was sent a moment ago."""
        if self._times_shown >= _FIRST_SHOWN:
            now = time.monotonic()
            if now - self._shown_at < _SHOW_EVERY_S:
                return
            self._shown_at = now
        self._times_shown += 1
        self._show(self.text(), self.chars)

    def text(self) -> str:
        tail = "".join(self._tail)[-self._tail_limit :]
        missing = self.chars - len(self._head) - len(tail)
        if not missing:
            return self._head + tail
        return f"{self._head}\n… {missing:,} characters left out …\n{tail}"

    def _append_tail(self, text: str) -> None:
        self._tail.append(text[-self._tail_limit :])
        self._tail_chars += len(self._tail[-1])
        if self._tail_chars > 2 * self._tail_limit or len(self._tail) > 10_000:
            kept = "".join(self._tail)[-self._tail_limit :]
            self._tail, self._tail_chars = [kept], len(kept)


MAX_VARIABLES = 50

_SIZED = {
    str, bytes, bytearray, list, tuple, dict, set, frozenset, range, Counter, OrderedDict, defaultdict, deque
}  # fmt: skip
_KINDS = {
    types.FunctionType: "function",
    types.BuiltinFunctionType: "function",
    types.BuiltinMethodType: "function",
    types.MethodType: "function",
    ModuleProxy: "module",
}


def list_variables(names: Mapping[str, object]) -> tuple[Variable, ...]:
    """Return the newest names of the model's own, most recent last; functions, imports and all."""
    own = [(name, value) for name, value in names.items() if not name.startswith("__")]
    return tuple(Variable(name, _kind(value), _size(value)) for name, value in own[-MAX_VARIABLES:])


def format_variables(variables: tuple[Variable, ...]) -> str:
    lines = [
        f"{variable.name}: {variable.kind}" + (f" ({variable.size:,})" if variable.size is not None else "")
        for variable in variables
    ]
    return "\n".join(lines) or "(no variables yet)"


def _kind(value: object) -> str:
    if isinstance(value, type):
        return "class"
    kind = ModuleProxy if isinstance(value, ModuleProxy) else type(value)
    return _KINDS.get(kind) or type.__dict__["__name__"].__get__(kind)


def _size(value: object) -> int | None:
    """Return how many items a value holds; only for types whose `len()` is not code of the model's."""
    return len(value) if type(value) in _SIZED else None  # type: ignore[arg-type]


_NOTHING = re.compile(
    r"(?<![\w.,'\"])(?:0(?:\.0+)?|None|False|nan|\[\]|\{\}|\(\)|set\(\)|Counter\(\))(?![\w.'\"])"
)
_MAX_OUTPUT_CHARS = 400
"""A longer output found something."""
_SEARCHING = frozenset(
    [
        "search",
        "findall",
        "finditer",
        "match",
        "fullmatch",
        "compile",
        "find",
        "index",
        "count",
        "startswith",
        "endswith",
    ]
)
_LITERAL_CHARS = range(3, 200)
_ESCAPES = re.compile(r"\\.|\(\?[^:)]*[:)]?|[\[\](){}|^$?*+]")
_WORD = re.compile(r"\w[\w@.:/-]*\w")
_ASKED_CHARS = 4
"""Shorter words of a question are seldom what it is about."""
_MAX_TEXT_CHARS = 50_000_000
"""So much of a context is looked through: 0.1 s."""
_MAX_NOTES, _LINE_CHARS, _LINES_COMPARED = 2, 160, 200


def absent_text_notes(
    blocks: Sequence[str], output: str, error: str | None, query: str, texts: Sequence[str]
) -> tuple[str, ...]:
    """Return a note for each literal that the code looked for and the context does not hold, two at most.

    None where the code went well and printed something that is not nothing.
    """
    if error is None and not (len(output) <= _MAX_OUTPUT_CHARS and _NOTHING.search(output)):
        return ()
    notes: list[str] = []
    asked = [word for word in dict.fromkeys(_WORD.findall(query)) if len(word) >= _ASKED_CHARS]
    for literal in dict.fromkeys(literal for block in blocks for literal in _searched_texts(block)):
        note = _note(literal, asked, texts)
        if note and len(notes) < _MAX_NOTES:
            notes.append(note)
    return tuple(notes)


def _searched_texts(block: str) -> Iterator[str]:
    """Yield the texts that code looks for: sides of `in` and `==`, and first arguments of methods that search."""
    try:
        tree = ast.parse(block)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for node in ast.walk(tree):
        found: list[ast.expr] = []
        if isinstance(node, ast.Compare):
            found = [node.left, *node.comparators]
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in _SEARCHING
        ):
            found = node.args[:1]
        for value in found:
            if (
                isinstance(value, ast.Constant)
                and isinstance(value.value, str)
                and len(value.value) in _LITERAL_CHARS
            ):
                yield value.value


def _note(literal: str, asked: Sequence[str], texts: Sequence[str]) -> str:
    if _first_line(literal, texts):
        return ""
    words = _WORD.findall(_ESCAPES.sub(" ", literal))
    known = [word for word in dict.fromkeys(_parts(words)) if _first_line(word, texts)]
    if "\\" in literal and (not words or all(word in known for word in words)):
        return _shown(f"check the pattern {literal!r} against the text", known, asked, texts) if known else ""
    return _shown(f"{literal!r} stands nowhere in `context`", known, asked, texts)


def _parts(words: Sequence[str]) -> Iterator[str]:
    """Return words, and what stands between their signs: of `product=lamp` and `owner:hana`, too."""
    for word in words:
        yield word
        yield from (part for part in re.split(r"[\W_]+", word) if len(part) in _LITERAL_CHARS)


def _shown(said: str, known: Sequence[str], asked: Sequence[str], texts: Sequence[str]) -> str:
    """Add the line that holds most of the words that are known, and of those of the question."""
    known = known or [word for word in asked if _first_line(word, texts)]
    if not known:
        return said
    words = {*known, *asked}
    line = max(_lines(known[-1], texts), key=lambda line: sum(word in line for word in words))
    return f"{said}; a line that holds {known[-1]!r} is {line.strip()[:_LINE_CHARS]!r}"


def _first_line(words: str, texts: Sequence[str]) -> bool:
    return next(_lines(words, texts), None) is not None


def _lines(words: str, texts: Sequence[str]) -> Iterator[str]:
    """Yield the lines that hold these words, a bounded number of them."""
    return islice(_all_lines(words, texts), _LINES_COMPARED)


def _all_lines(words: str, texts: Sequence[str]) -> Iterator[str]:
    left = _MAX_TEXT_CHARS
    for text in texts:
        at = text.find(words, 0, left)
        while at >= 0:
            start, stop = (
                text.rfind("\n", max(0, at - _LINE_CHARS), at) + 1,
                text.find("\n", at, at + 2 * _LINE_CHARS),
            )
            start = start or max(0, at - _LINE_CHARS // 2)
            stop = stop if stop >= 0 else min(len(text), at + _LINE_CHARS)
            yield text[start:stop]
            at = text.find(words, stop, left)
        left -= len(text)
        if left <= 0:
            return
