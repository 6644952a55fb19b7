"""Splits a context into pieces that fit a model's window. Pieces are ranges of its bytes; nothing is copied.

- All pieces together are all of the context, in order; no piece spans two documents unless it holds both whole.
- No piece is larger than the size, the names of its documents among it, but for a single character that is. A document
  that has no room for its name is read without it, as a range of a larger document is.
- Each piece but the first of a document begins `overlap` characters before the last one ended.
- Empty documents make no piece: there is nothing to ask of them.

- A long text is cut into windows of so many characters that end where a paragraph does, or else a sentence, a line, a
  word. What fits into a window is never cut, as long as windows do not overlap.
- Positions are characters of a str, bytes of UTF-8.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, Protocol, TypeAlias

from rlm_ray.core.context import ByteRange, Context, DocumentRange, document_header
from rlm_ray.core.llm import BYTES_PER_TOKEN
from rlm_ray.errors import InputError

SplitUnit: TypeAlias = Literal["characters", "tokens", "paragraphs", "documents"]
"""Where pieces end: after so many characters or (estimated) tokens, or where a paragraph or a document does."""

SPLIT_UNITS: tuple[SplitUnit, ...] = ("documents", "paragraphs", "characters", "tokens")
_LONGEST_CHARACTER = 4
"""Bytes of UTF-8."""
_BETWEEN = len("\n\n")
"""What stands between documents when several are read as one text."""


SplitAt: TypeAlias = Literal["anywhere", "paragraphs"]
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


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes `start` to `stop` of a context."""

    start: int
    stop: int
    documents: tuple[int, int] | None = None
    """The range of whole documents, by number; None: a range inside of one, or of a text."""

    @property
    def as_part(self) -> DocumentRange | ByteRange:
        """Return the part that a sub-call reads it by."""
        return ByteRange(self.start, self.stop) if self.documents is None else DocumentRange(*self.documents)


@dataclass(frozen=True, slots=True)
class PieceOrigin:
    """A place in the input: bytes `start` to `stop` of a document."""

    document: str
    """Its id, its number where it has none, or empty where the input is one text."""
    start: int
    stop: int

    def __str__(self) -> str:
        return f"{self.document or 'text'}:{self.start}-{self.stop}"


def split(context: Context, by: SplitUnit, size: int, overlap: int = 0) -> list[Piece]:
    """Split a context into pieces. `size` is in tokens where `by` is, else in characters.

    By documents, each is a piece of its own unless it is larger, which makes paragraphs of it; see `pack`.
    """
    _check(by, size, overlap)
    measure = _measure(context, by, size, overlap)
    cut: SplitAt = "paragraphs" if by in ("paragraphs", "documents") else "anywhere"
    if context.offsets is None:
        return [Piece(*bounds) for bounds in chunk_spans(measure, 0, context.nbytes, cut)]
    pieces = []
    for number, (start, stop) in enumerate(pairwise(context.offsets)):
        found = list(chunk_spans(measure, start, stop, cut))
        if len(found) == 1 and measure.has_room(_heading(context, number), start, stop):
            pieces.append(Piece(start, stop, (number, number + 1)))
        else:
            pieces.extend(Piece(*bounds) for bounds in found)
    return pieces


def pack(
    context: Context, pieces: Sequence[Piece], size: int, max_documents: int | None = None
) -> list[Piece]:
    """Split by documents, with whole neighbouring documents put together up to `size` bytes with their ids."""
    packed: list[Piece] = []
    room = 0
    for piece in pieces:
        nbytes = piece.stop - piece.start
        last = packed[-1] if packed else None
        if last is not None and last.documents and piece.documents:
            # Empty documents between them are read too, by their ids
            wanted = nbytes + _name_bytes(context, last.documents[1], piece.documents[1])
            several = piece.documents[1] - last.documents[0]
            if wanted <= room and (max_documents is None or several <= max_documents):
                packed[-1] = Piece(last.start, piece.stop, (last.documents[0], piece.documents[1]))
                room -= wanted
                continue
        packed.append(piece)
        if piece.documents:
            room = size - nbytes - _name_bytes(context, *piece.documents)
    return packed


def document_of(context: Context, piece: Piece) -> int:
    """Return the number of the document that a piece lies in, or of the first one that it holds."""
    if piece.documents is not None:
        return piece.documents[0]
    return bisect_right(context.offsets, piece.start) - 1 if context.offsets is not None else 0


def documents_in(context: Context, piece: Piece) -> list[int]:
    """Return the numbers of the documents that a piece reads; empty ones are left out."""
    offsets = context.offsets
    if offsets is None or piece.documents is None:
        return [document_of(context, piece)]
    return [number for number in range(*piece.documents) if offsets[number] < offsets[number + 1]]


def origins(context: Context, piece: Piece) -> Iterator[PieceOrigin]:
    """Yield the documents that a piece reads, each with the range of bytes it reads of it."""
    offsets = context.offsets
    if offsets is None:
        yield PieceOrigin("", piece.start, piece.stop)
    elif piece.documents is None:
        number = document_of(context, piece)
        yield PieceOrigin(_name(context, number), piece.start - offsets[number], piece.stop - offsets[number])
    else:
        for number in documents_in(context, piece):
            yield PieceOrigin(_name(context, number), 0, offsets[number + 1] - offsets[number])


def _name(context: Context, number: int) -> str:
    return context.ids[number] if context.ids is not None else str(number)


def _heading(context: Context, number: int) -> str:
    return document_header(context.ids[number]) if context.ids is not None else ""


def _name_bytes(context: Context, first: int, last: int) -> int:
    """Return the bytes of what stands above and between documents where several are read as one text."""
    return sum(len(_heading(context, number).encode()) + _BETWEEN for number in range(first, last))


def _check(by: SplitUnit, size: int, overlap: int) -> None:
    if by not in SPLIT_UNITS:
        raise InputError("split_by", f"must be one of {', '.join(SPLIT_UNITS)}; got {by!r}")
    if size < 1:
        raise InputError("size", f"must be at least 1; got {size}")
    if not 0 <= overlap < size:
        raise InputError(
            "overlap", f"must be from 0 to less than the size of a piece, {size:,}; got {overlap:,}"
        )


@dataclass(frozen=True, slots=True)
class _SpanCharacters:
    """Windows of so many characters, read from UTF-8 bytes."""

    view: memoryview
    is_ascii: bool
    size: int
    overlap: int

    def window(self, start: int, stop: int) -> str:
        longest = self.size if self.is_ascii else _LONGEST_CHARACTER * self.size
        return _decode(self.view[start : min(stop, start + longest)])[: self.size]

    def width(self, text: str) -> int:
        return len(text) if self.is_ascii else len(text.encode())

    def tail(self, text: str) -> int:
        return min(self.overlap, len(text))

    def has_room(self, name: str, start: int, stop: int) -> bool:
        """Tell whether there is room for a name above these positions, which fit into one window."""
        return not name or len(name) + len(self.window(start, stop)) <= self.size


@dataclass(frozen=True, slots=True)
class _Bytes:
    """Windows of so many bytes, or one character where that has more."""

    view: memoryview
    size: int
    overlap: int

    def window(self, start: int, stop: int) -> str:
        text = _decode(self.view[start : min(stop, start + self.size)])
        return text or _decode(self.view[start : min(stop, start + _LONGEST_CHARACTER)])[:1]

    def width(self, text: str) -> int:
        return len(text.encode())

    def tail(self, text: str) -> int:
        data = text.encode()
        return len(_decode(memoryview(data)[max(0, len(data) - self.overlap) :]))

    def has_room(self, name: str, start: int, stop: int) -> bool:
        """Tell whether there is room for a name above these positions, which fit into one window."""
        return not name or len(name.encode()) + stop - start <= self.size


def _measure(context: Context, by: SplitUnit, size: int, overlap: int) -> _SpanCharacters | _Bytes:
    view = memoryview(context.data).cast("B")
    if by == "tokens":
        return _Bytes(view, size * BYTES_PER_TOKEN, overlap * BYTES_PER_TOKEN)
    return _SpanCharacters(view, context.info.chars == context.nbytes, size, overlap)


def _decode(data: memoryview) -> str:
    """Decode text without what is left at its ends of characters that were cut."""
    return str(data, "utf-8", "ignore")


class ChunkMeasure(Protocol):
    """How a text is read and measured."""

    def window(self, start: int, stop: int) -> str:
        """Return as much of positions `start` to `stop` as fits into one window; at least a character."""
        ...

    def width(self, text: str) -> int:
        """Return how many positions a text takes."""
        ...

    def tail(self, text: str) -> int:
        """Return how many characters at the end of a window the next one has, too."""
        ...


def chunk_spans(measure: ChunkMeasure, start: int, stop: int, cut: SplitAt) -> Iterator[tuple[int, int]]:
    """Yield the windows over positions `start` to `stop`."""
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
            text = text[: _last_boundary(text, max(shared, measure.tail(text)))]
        yield start, start + measure.width(text)
        shared = min(measure.tail(text), len(text) - 1)
        start += measure.width(text[: len(text) - shared])


def text_chunks(text: str, size: int) -> Iterator[tuple[int, int]]:
    """Yield the windows of `size` characters over a str, in characters."""
    return chunk_spans(_Characters(text, size), 0, len(text), "paragraphs")


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


def _last_boundary(text: str, least: int) -> int:
    """Return the last place in the text, after `least`, where something ends; its end where there is none."""
    for pattern in _ENDS:
        last = 0
        for found in pattern.finditer(text, least):
            last = found.end()
        if last > least:
            return last
    return len(text)
