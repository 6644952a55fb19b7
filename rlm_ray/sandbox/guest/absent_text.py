"""What a cell that found nothing looked for in vain: its literals that the context does not hold, and the lines that do hold a
word of them.

A model writes `"product=lamp" in line` over lines such as `A1,lamp,5` and takes the 0 that comes of it for the answer.
Only text is compared; nothing here calls code of the model's, and no pattern of it is run.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence

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
    for literal in dict.fromkeys(literal for block in blocks for literal in _searched(block)):
        note = _note(literal, asked, texts)
        if note and len(notes) < _MAX_NOTES:
            notes.append(note)
    return tuple(notes)


def _searched(block: str) -> Iterator[str]:
    """The literals of code that a text is searched for: of `in`, `==`, and of methods that search."""
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
    """Words, and what stands between their signs: of `product=lamp` and `owner:hana`, too."""
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
    """The lines that hold these words, a bounded number of them."""
    left, given = _MAX_TEXT_CHARS, 0
    for text in texts:
        at = text.find(words, 0, left)
        while at >= 0 and given < _LINES_COMPARED:
            start, stop = (
                text.rfind("\n", max(0, at - _LINE_CHARS), at) + 1,
                text.find("\n", at, at + 2 * _LINE_CHARS),
            )
            start = start or max(0, at - _LINE_CHARS // 2)
            stop = stop if stop >= 0 else min(len(text), at + _LINE_CHARS)
            given += 1
            yield text[start:stop]
            at = text.find(words, stop, left)
        left -= len(text)
        if left <= 0 or given >= _LINES_COMPARED:
            return
