"""All texts of a page, each once, bounded together.

A text is named by its place; place 0 is the empty text. Where all texts together are longer than the page may be, the
longest are cut first, all at the same length, so that every text keeps its head.
"""

from __future__ import annotations

from collections.abc import Sequence

EACH_CHARS = 20_000
"""The most of one text."""
ALL_CHARS = 12_000_000
"""The most of all of them."""


class Texts:
    def __init__(self) -> None:
        self._places: dict[str, int] = {"": 0}

    def place(self, text: str | None) -> int:
        """Where this text stands."""
        return self._places.setdefault(text or "", len(self._places))

    def table(self, each: int = EACH_CHARS, all_chars: int = ALL_CHARS) -> list[str | list[str | int]]:
        """The texts by place; one that had to be cut comes with its true length."""
        texts = list(self._places)
        most = longest([len(text) for text in texts], each, all_chars)
        return [bounded(text, most) for text in texts]


def bounded(text: str, most: int) -> str | list[str | int]:
    """The text, or its head and its true length."""
    return text if len(text) <= most else [text[:most], len(text)]


def longest(lengths: Sequence[int], each: int, all_chars: int) -> int:
    """The length, at most `each`, to which texts may be kept so that all stay within `all_chars`."""
    if sum(min(length, each) for length in lengths) <= all_chars:
        return each
    left, room = len(lengths), all_chars
    for length in sorted(lengths):
        if length * left > room:
            return max(room, 0) // left
        room -= length
        left -= 1
    return each
