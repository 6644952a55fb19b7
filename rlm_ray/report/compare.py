"""Where two answers differ, word by word."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from typing import Literal, TypeAlias

Change: TypeAlias = Literal["same", "gone", "new"]

COMPARED_CHARS = 20_000
"""Of each answer; the time grows with the square."""
_WORDS = re.compile(r"\S+\s*|\s+")


def changes(before: str, after: str) -> list[tuple[Change, str]]:
    """Pieces in order: without the new ones they are `before`, without those that are gone `after`."""
    old = _WORDS.findall(before[:COMPARED_CHARS])
    new = _WORDS.findall(after[:COMPARED_CHARS])
    found: list[tuple[Change, str]] = []
    for _, start, stop, begin, end in _steps(old, new):
        if old[start:stop] == new[begin:end]:
            found.append(("same", "".join(old[start:stop])))
            continue
        found += [("gone", "".join(old[start:stop]))] if stop > start else []
        found += [("new", "".join(new[begin:end]))] if end > begin else []
    return found


def _steps(old: list[str], new: list[str]) -> list[tuple[str, int, int, int, int]]:
    return list(SequenceMatcher(None, old, new).get_opcodes())
