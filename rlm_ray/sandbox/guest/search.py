"""Finding documents in a context that has many: by a regular expression over all, or by the words of a query.

What is found is told in few words, so that it can be printed; handed to a sub-call, it stands for its document, which
then travels by reference.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from rlm_ray.core.bm25 import rank
from rlm_ray.core.chunking import text_chunks
from rlm_ray.core.context import Document

_LINE_CHARS = 200
_MAX_COUNTED = 1_000
_MORE_LINES = 2
_NOT_SPACE = re.compile(r"\S")
_CHUNK_CHARS = 50_000
"""A longer document is ranked in stretches."""


class SearchHit(dict[str, Any]):
    """A place in a document: its number, id, offset in characters, and a line to know it by."""

    __slots__ = ("number", "stretch")

    def __init__(self, number: int, stretch: tuple[int, int] | None, facts: dict[str, Any]) -> None:
        super().__init__(facts)
        self.number = number
        self.stretch = stretch
        """Characters it stands for; None: the whole document."""


class SearchHits(list[SearchHit]):
    """What was found, and how much more there is."""

    __slots__ = ("total",)

    def __init__(self, hits: Sequence[SearchHit], total: int) -> None:
        super().__init__(hits)
        self.total = total

    def __repr__(self) -> str:
        more = f"\n({len(self)} of {self.total:,} documents that match)" if self.total > len(self) else ""
        return super().__repr__() + more

    __str__ = __repr__


class DocumentSearch:
    """Looks through the documents of one session; keeps nothing."""

    def __init__(self, documents: Sequence[Document], texts: Sequence[str]) -> None:
        self._documents = documents
        self._texts = texts

    def names(self) -> dict[str, Any]:
        return {"search": self.search, "bm25": self.bm25}

    def search(self, pattern: Any, top: int = 20, flags: int = 0) -> SearchHits:
        """Return the first match in each document that has one, in the order of the documents; with how many there are, and the lines of the next."""
        compiled = re.compile(pattern, flags) if isinstance(pattern, str) else pattern
        hits: list[SearchHit] = []
        total = 0
        for number, text in enumerate(self._texts):
            found = compiled.search(text)
            if found is None:
                continue
            total += 1
            if len(hits) < top:
                hits.append(self._hit(number, None, found.start(), _more_matches(compiled, text, found)))
        return SearchHits(hits, total)

    def bm25(self, query: str, top: int = 10) -> SearchHits:
        """Return the documents, or stretches of long ones, that speak most of the query's words; the best first."""
        units = list(self._rankable_units())
        texts = (self._texts[number][slice(*(stretch or (None,)))] for number, stretch in units)
        best = rank(query, texts, top)
        hits = [
            self._hit(*units[at], (units[at][1] or (0, 0))[0], {"score": round(score, 3)})
            for at, score in best
        ]
        return SearchHits(hits, len(hits))

    def _rankable_units(self) -> Iterator[tuple[int, tuple[int, int] | None]]:
        for number, text in enumerate(self._texts):
            if len(text) <= _CHUNK_CHARS:
                yield number, None
            else:
                yield from ((number, stretch) for stretch in text_chunks(text, _CHUNK_CHARS))

    def _hit(
        self, number: int, stretch: tuple[int, int] | None, offset: int, facts: dict[str, Any]
    ) -> SearchHit:
        document = self._documents[number]
        named = {} if isinstance(document, str) else {"id": document["id"]}
        line = _line(self._texts[number], offset)
        return SearchHit(
            number, stretch, {"document": number, **named, "offset": offset, "line": line, **facts}
        )


def _more_matches(compiled: re.Pattern[str], text: str, first: re.Match[str]) -> dict[str, Any]:
    """Return how many matches there are in a document that has several, and the lines of the first few after the first."""
    after = first.end() + (first.end() == first.start())
    later = list(islice(compiled.finditer(text, after), _MAX_COUNTED))
    lines = dict.fromkeys(_line(text, match.start()) for match in later[:_MORE_LINES])
    lines.pop(_line(text, first.start()), None)
    count = f"{_MAX_COUNTED:,} or more" if len(later) >= _MAX_COUNTED else len(later) + 1
    more = {"more": [line for line in lines if line]} if any(lines) else {}
    return {"matches": count, **more} if later else {}


def _line(text: str, at: int) -> str:
    """Return the line around a place, or the next that is not empty; of a long one what is near."""
    if text[at : at + 1].isspace() and not text[text.rfind("\n", 0, at) + 1 : at].strip():
        found = _NOT_SPACE.search(text, at)
        at = found.start() if found is not None else at
    start = max(text.rfind("\n", 0, at) + 1, at - _LINE_CHARS // 2)
    stop = text.find("\n", at)
    return text[start : min(stop if stop >= 0 else len(text), start + _LINE_CHARS)].strip()
