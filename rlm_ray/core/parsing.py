"""What a model's message asks for: code to run, or an answer in plain words.

Rules:
- Code stands in ```` ```python ````, ```` ```py ````, ```` ```repl ```` or bare fences; all blocks run in order.
  A bare fence that is not Python is a quotation, unless it is the only block.
- A fence inside a string of the code does not close the block if a later fence makes it valid Python.
- A message without code whose line starts with `FINAL(` ends with what stands inside.
- FINAL in prose, in a comment or inside a string ends nothing.
- `<think>...</think>` of open models is not part of the message.
"""

from __future__ import annotations

import ast
import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

_CODE_TAGS = {"python", "python3", "py", "repl"}
PARSE_ATTEMPTS = 10
_FENCE = re.compile(r"^[ ]{0,3}(?P<ticks>`{3,}|~{3,})[ \t]*(?P<tag>[\w+-]*)[^\n`]*$", re.MULTILINE)
_THINKING = re.compile(r"\A\s*<think(?:ing)?>.*?</think(?:ing)?>", re.DOTALL)
_FINAL_LINE = re.compile(r"^[ \t]*(?P<name>FINAL|FINAL_VAR)\(", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Parsed:
    """A message's code, or its answer, or neither."""

    blocks: tuple[str, ...] = ()
    answer: str | None = None
    cut: bool = False
    """The last block was not closed before the message ended."""


@dataclass(frozen=True, slots=True)
class _Block:
    code: str
    tag: str
    closed: bool


def parse(text: str, variables: frozenset[str] = frozenset()) -> Parsed:
    """Read a model's message. `variables` are the names the REPL holds: `FINAL(name)` means theirs."""
    text = _THINKING.sub("", text)
    blocks = list(_blocks(text))
    code = _code_of(blocks)
    if code:
        return Parsed(tuple(block.code for block in code), cut=not code[-1].closed)
    return _final_in_prose(text, variables)


def _code_of(blocks: list[_Block]) -> list[_Block]:
    tagged = any(block.tag.lower() in _CODE_TAGS for block in blocks)
    return [
        block
        for block in blocks
        if block.code.strip()
        and (
            block.tag.lower() in _CODE_TAGS
            or (not block.tag and (_is_python(block.code) or (not tagged and len(blocks) == 1)))
        )
    ]


def _blocks(text: str) -> Iterator[_Block]:
    position = 0
    while opening := _FENCE.search(text, position):
        ends = [end for end in _FENCE.finditer(text, opening.end()) if _closes(opening, end)]
        body = min(opening.end() + 1, len(text))
        if not ends:
            yield _Block(text[body:], opening["tag"], closed=False)
            return
        end = _best_end(text, body, ends)
        yield _Block(text[body : end.start()], opening["tag"], closed=True)
        position = end.end()


def _closes(opening: re.Match[str], end: re.Match[str]) -> bool:
    same_kind = end["ticks"].startswith(opening["ticks"])
    return same_kind and not end["tag"]


def _best_end(text: str, body: int, ends: list[re.Match[str]]) -> re.Match[str]:
    """The first closing fence, unless only a later one leaves valid Python (a fence in a string)."""
    if _is_python(text[body : ends[0].start()]):
        return ends[0]
    for end in ends[1:5]:
        code = text[body : end.start()]
        if ('"""' in code or "'''" in code) and _is_python(code):
            return end
    return ends[0]


def _is_python(code: str) -> bool:
    try:
        _tree(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _tree(code: str, mode: Literal["exec", "eval"] = "exec") -> Any:
    """`ast.parse`. CPython before 3.11.8 mixes up threads that parse at the same time (gh-106905)."""
    for _ in range(PARSE_ATTEMPTS - 1):
        with contextlib.suppress(SystemError):
            return ast.parse(code, mode=mode)
    return ast.parse(code, mode=mode)


def _final_in_prose(text: str, variables: frozenset[str]) -> Parsed:
    match = _FINAL_LINE.search(_without_quotations(text))
    if match is None:
        return Parsed()
    inside = _inside_parentheses(text[match.end() :])
    if match["name"] == "FINAL_VAR":
        return Parsed((f"FINAL_VAR({inside.strip().strip(chr(34) + chr(39))!r})",))
    if inside.strip() in variables or _is_formatted(inside):
        return Parsed((f"FINAL({inside})",))
    return Parsed(answer=_unquoted(inside))


def _without_quotations(text: str) -> str:
    """The text with fenced quotations blanked, so that offsets stay and FINAL in them does not count."""
    blank = list(text)
    position = 0
    while opening := _FENCE.search(text, position):
        end = next((e for e in _FENCE.finditer(text, opening.end()) if _closes(opening, e)), None)
        stop = end.end() if end else len(text)
        blank[opening.start() : stop] = " " * (stop - opening.start())
        position = stop
    return "".join(blank)


def _inside_parentheses(rest: str) -> str:
    """What stands before the parenthesis that closes `FINAL(`: the balanced one, or the last at a line's end."""
    balanced = _balanced_end(rest)
    if balanced is not None and _ends_line(rest, balanced):
        return rest[:balanced]
    line_ends = [match.start() for match in re.finditer(r"\)[ \t]*(?=\n|\Z)", rest)]
    if line_ends:
        return rest[: line_ends[-1]]
    return rest[:balanced] if balanced is not None else rest


def _balanced_end(rest: str) -> int | None:
    depth = 1
    for position, char in enumerate(rest):
        depth += (char == "(") - (char == ")")
        if depth == 0:
            return position
    return None


def _ends_line(rest: str, position: int) -> bool:
    return not rest[position + 1 :].split("\n", 1)[0].strip()


def _is_formatted(inside: str) -> bool:
    try:
        return isinstance(_tree(inside.strip(), "eval").body, ast.JoinedStr)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


def _unquoted(inside: str) -> str:
    """The text itself where the whole inside is one Python string, else the inside as it stands."""
    try:
        value = ast.literal_eval(_tree(inside.strip(), "eval"))
    except (SyntaxError, ValueError, RecursionError, MemoryError, TypeError):
        return inside.strip()
    return value if isinstance(value, str) else inside.strip()
