"""Page numbers inside a text: each page of a document begins with a line of its own, `[page 3]`.

A marker in the text goes wherever the text goes: through slices, records and sub-calls, and the model can quote it.
Presentations have `[slide 3]`, workbooks `[sheet Prices]`, mailboxes `[message 3]`. A line of a document that looks
like a marker gets a backslash in front, so that nobody but the converter numbers pages.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from rlm_ray.core.context import Document

_MARKER = re.compile(r"^\[(page|slide|sheet|section|message) ([^\n]*)\]$", re.MULTILINE)
_NUMBERED = re.compile(r"^\[(?:page|slide) ([1-9][0-9]{0,8})\]$", re.MULTILINE)
_BLANK_LINES = re.compile(r"\n{3,}")
_LINE_ENDS = re.compile(r"\r\n?|[\x0b\x0c\x85\u2028\u2029]")


def mark_parts(kind: str, parts: Iterable[tuple[object, str]]) -> str:
    """Join the parts of a document, each below its marker: `kind` and its number or name."""
    return "\n\n".join(f"[{kind} {_one_line(name)}]\n{escape_markers(tidy(text))}" for name, text in parts)


def escape_markers(text: str) -> str:
    """Put a backslash before the lines of a document that look like markers."""
    return _MARKER.sub(lambda found: "\\" + found[0], text)


def tidy(text: str) -> str:
    """Unite line ends, take out NUL and blanks at the ends of lines, and leave at most one blank line in a row."""
    lines = _LINE_ENDS.sub("\n", text.replace("\0", "")).split("\n")
    return _BLANK_LINES.sub("\n\n", "\n".join(line.rstrip() for line in lines)).strip("\n")


def page_of(document: Document, offset: int) -> int | None:
    """Return the number of the page (or slide) on which the character at `offset` stands; None where there are none.

    A marker belongs to the page that it begins.
    """
    text = document if isinstance(document, str) else document["text"]
    line_end = text.find("\n", max(offset, 0))
    stop = len(text) if line_end < 0 else line_end
    while stop > 0:
        start = max(text.rfind("[page ", 0, stop), text.rfind("[slide ", 0, stop))
        if start < 0:
            return None
        found = _NUMBERED.match(text, start)  # `^` holds at the beginning of a line only
        if found is not None:
            return int(found[1])
        stop = start
    return None


def _one_line(name: object) -> str:
    return " ".join(str(name).split())
