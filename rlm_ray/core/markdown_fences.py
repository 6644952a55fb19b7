"""The parts of a model's message: blocks in fences, and the prose around them. Linear in the length of the message.

Rules:
- A fence may be indented, stand in a list or a quotation (`> `), and follow words on its line if it names its language.
- A fence inside a string of the code does not close the block: quotes that are still open say so.
- A block that the message ends in is not closed.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

_TICKS = re.compile(r"`{3,}|~{3,}")
_LEAD = re.compile(r"[ \t>]*(?:(?:[-*+]|\d{1,3}[.)])[ \t]+)?")
_TAG = re.compile(r"[\s{.]*(?:language-|lang=)?[\"']?([\w+#-]+(?:\.[\d.]+)?)", re.IGNORECASE)
_CODE = re.compile(
    r"i?py(thon)?[\d.]*|repl|jupyter(-python|-notebook)?|notebook|tool_code|execute|code_interpreter|pycon[\d.]*|"
    r"i?python[\d.]*[_-](repl|code|cell|console|exec|run|execute)|executable|sage",
    re.IGNORECASE,
)
MAX_MARKS = 20_000
"""Fences behind so many are not looked at: nobody writes as many, and a loop of a model's is no reason to."""
_LATER_MARKS = 4
"""So many later fences are looked at for the end of a string, and for the beginning of a new block."""


@dataclass(frozen=True, slots=True)
class Block:
    """What stands in one pair of fences, without their indentation."""

    code: str
    tag: str
    """The language in lower case; empty for a bare fence."""
    closed: bool

    @property
    def is_code(self) -> bool:
        return is_code_tag(self.tag)


@dataclass(frozen=True, slots=True)
class _Mark:
    start: int
    line: int
    """Where its line begins."""
    end: int
    """Where its line ends."""
    ticks: str
    tag: str
    lead: str | None
    """What stands before it on its line, if that is indentation or the mark of a list or quotation."""

    @property
    def opens(self) -> bool:
        return self.lead is not None or is_code_tag(self.tag)

    def closes(self, opening: _Mark) -> bool:
        return self.lead is not None and not self.tag and self.ticks.startswith(opening.ticks)


def is_code_tag(tag: str) -> bool:
    """Tell whether a tag names the language of the REPL, by one of its many names."""
    return _CODE.fullmatch(tag) is not None


def split_message(text: str, is_python: Callable[[str], bool]) -> tuple[list[Block], str]:
    """Return the blocks of a message in order, and the prose without them. `is_python` may refuse to judge what is large."""
    marks = list(islice(_fence_marks(text), MAX_MARKS))
    blocks: list[Block] = []
    prose: list[str] = []
    at = position = 0
    while at < len(marks):
        opening = marks[at]
        if not opening.opens:
            at += 1
            continue
        prose.append(text[position : opening.start])
        end, at = _end(text, marks, at, is_python)
        blocks.append(_block(text, opening, end))
        position = len(text) if end is None else end.end if end.closes(opening) else end.line
    prose.append(text[position:])
    return blocks, "\n".join(prose)


def _fence_marks(text: str) -> Iterator[_Mark]:
    """Yield every fence, and every run of ticks that ends a line or stands before its last words."""
    line = line_end = -1
    for match in _TICKS.finditer(text):
        start, end = match.span()
        if start > line_end:
            line = text.rfind("\n", line_end + 1, start) + 1 or line_end + 1
            line_end = text.find("\n", end)
            line_end = len(text) if line_end < 0 else line_end
            last_tick = text.rfind("`", line, line_end)
        if last_tick >= end:
            continue
        before, info = text[line:start], text[end:line_end]
        tag = _TAG.match(info) if info else None
        lead = before if not before or _LEAD.fullmatch(before) else None
        if lead is not None or tag is not None:
            yield _Mark(start, line, line_end, match[0], tag[1].lower() if tag else "", lead)


def _end(
    text: str, marks: Sequence[_Mark], at: int, is_python: Callable[[str], bool]
) -> tuple[_Mark | None, int]:
    """Return the mark that ends the block opened by `marks[at]`, and the place to go on at; None: the end of the message."""
    opening = marks[at]
    ends: list[int] = []
    openings = 0
    for index in range(at + 1, len(marks)):
        mark = marks[index]
        if mark.closes(opening):
            ends.append(index)
            if len(ends) > _LATER_MARKS or not _in_string(text[opening.end : marks[ends[0]].line]):
                break
        elif not ends and mark.lead is not None and openings < _LATER_MARKS:
            openings += 1
            if _begins_anew(text, opening, mark):
                return mark, index
    if not ends:
        return None, len(marks)
    best = ends[0]
    for index in ends[1:]:
        if is_python(_body(text, opening, marks[index].line)):
            best = index
            break
    return marks[best], best + 1


def _begins_anew(text: str, opening: _Mark, mark: _Mark) -> bool:
    """Tell whether a new block of code begins although the one before was not closed."""
    both = is_code_tag(opening.tag) and is_code_tag(mark.tag)
    return both and not _in_string(text[opening.end : mark.line])


def _in_string(code: str) -> bool:
    return code.count('"""') % 2 == 1 or code.count("'''") % 2 == 1


def _block(text: str, opening: _Mark, end: _Mark | None) -> Block:
    if end is not None:
        return Block(_body(text, opening, end.line), opening.tag, closed=True)
    code = _body(text, opening, len(text))
    whole = code.rstrip()
    if whole.endswith(opening.ticks):  # closed behind the last line of the code
        return Block(whole[: -len(opening.ticks)] + "\n", opening.tag, closed=True)
    return Block(code, opening.tag, closed=False)


def _body(text: str, opening: _Mark, stop: int) -> str:
    code = text[opening.end + 1 : stop]
    if quoted := (opening.lead or "").count(">"):
        code = re.sub(rf"^(?:[ \t]*>[ ]?){{1,{quoted}}}", "", code, flags=re.MULTILINE)
    first = code.lstrip("\n")
    if first[:1] in {" ", "\t"}:
        code = textwrap.dedent(code)
    return code
