"""Where a long text is cut: windows of so many characters that end where a paragraph does, or else a sentence, a
line, a word.

A paragraph, sentence, line or word that fits into a window is never cut, as long as windows do not overlap.
Positions are whatever the text is measured in: a str in characters, UTF-8 bytes in bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

Cut: TypeAlias = Literal["anywhere", "paragraphs"]

_ENDS = tuple(
    map(
        re.compile,
        (
            r"\n[^\S\n]*\n\s*",  # a blank line
            r"[.!?…]['\")\]»”’]*\s+|[。！？]\s*",  # noqa: RUF001 - the full stops of Chinese and Japanese
            r"\n",
            r"\s+",
        ),
    )
)


class Measure(Protocol):
    """How a text is read and measured."""

    def window(self, start: int, stop: int) -> str:
        """As much of positions `start` to `stop` as fits into one window; at least a character."""
        ...

    def width(self, text: str) -> int:
        """How many positions a text takes."""
        ...

    def tail(self, text: str) -> int:
        """How many characters at the end of a window the next one has, too."""
        ...


def windows(measure: Measure, start: int, stop: int, cut: Cut) -> Iterator[tuple[int, int]]:
    """The windows over positions `start` to `stop`."""
    shared = 0
    while start < stop:
        text = measure.window(start, stop)
        if not text or start + measure.width(text) >= stop:
            yield start, stop
            return
        if len(text) <= shared:  # a wide character fits no more beside what is shared
            start, shared = start + measure.width(text), 0
            continue
        if cut == "paragraphs":
            text = text[: _last_end(text, max(shared, measure.tail(text)))]
        yield start, start + measure.width(text)
        shared = min(measure.tail(text), len(text) - 1)
        start += measure.width(text[: len(text) - shared])


def stretches(text: str, size: int, cut: Cut = "paragraphs") -> Iterator[tuple[int, int]]:
    """The windows of `size` characters over a str, in characters."""
    return windows(_Characters(text, size), 0, len(text), cut)


@dataclass(frozen=True, slots=True)
class _Characters:
    text: str
    size: int

    def window(self, start: int, stop: int) -> str:
        return self.text[start : min(stop, start + self.size)]

    def width(self, text: str) -> int:
        return len(text)

    def tail(self, text: str) -> int:  # noqa: ARG002 - they never overlap
        return 0


def _last_end(text: str, least: int) -> int:
    """The last place in the text, after `least`, where something ends; its end where there is none."""
    for pattern in _ENDS:
        last = 0
        for found in pattern.finditer(text, least):
            last = found.end()
        if last > least:
            return last
    return len(text)
