"""Rows as they stand in their source, before it is known which column is the text; and the lines of bytes that text
formats are read from, each bounded, so that no line of a file can take the memory of the reader.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

MAX_ROW_BYTES = 32_000_000
"""A row above this is not read, but fails with the reason."""


@dataclass(frozen=True, slots=True)
class RawRow:
    """The columns of a row; or, with a `why`, what stands in the place of one that cannot be read."""

    values: Mapping[str, Any] = field(default_factory=dict)
    why: str = ""
    id: str = ""
    """Derived from where it stands; empty: from its number."""


class Source(Protocol):
    """Where rows come from, in an order that is the same at each reading."""

    @property
    def name(self) -> str:
        """Return what the user called it."""

    def read(self) -> Iterator[RawRow]:
        """Yield all rows from the first. Raises `InputError` where it cannot go on."""

    def fraction_read(self) -> float | None:
        """Return how much of it has been read, from 0 to 1; None where nobody knows how much there is."""


class RefusedError(Exception):
    """A file of rows that cannot be used, with one sentence that says why and what to do."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


def too_large(nbytes: int, max_row_bytes: int) -> RawRow:
    return RawRow(why=f"is {nbytes / 1e6:,.1f} MB, above the {max_row_bytes / 1e6:,.1f} MB of max_row_bytes")


def not_utf8(error: UnicodeDecodeError) -> str:
    return f"is not UTF-8 (byte 0x{error.object[error.start]:02x} at offset {error.start})"


CHUNK = 1 << 20
UTF8_BOM = codecs.BOM_UTF8
"""The byte order mark some programs put before UTF-8."""
_ENCODINGS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_PROBE_BYTES = 1_000


class Stream(Protocol):
    """A stream that bytes are read from."""

    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class OversizedLine:
    """Stands in for a line that was passed over."""

    nbytes: int


class Utf8Stream:
    """A stream of text as UTF-8: what a byte order mark (or zeros in every other byte) tells as UTF-16 or UTF-32 is
    recoded on the way, and so are its marks dropped. Anything else passes as it is.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        head = stream.read(CHUNK)
        mark, encoding = next((known for known in _ENCODINGS if head.startswith(known[0])), (b"", ""))
        encoding = encoding or _unmarked_utf16(head)
        self._decoder = codecs.getincrementaldecoder(encoding)("surrogatepass") if encoding else None
        self._head = without_mark(head[len(mark) :])

    def read(self, size: int, /) -> bytes:
        data, self._head = self._head or self._stream.read(size), b""
        if self._decoder is None:
            return data
        while data:
            if text := self._decoder.decode(data):
                return text.encode("utf-8", "surrogatepass")
            data = self._stream.read(size)
        return self._decoder.decode(b"", final=True).encode("utf-8", "surrogatepass")


def _unmarked_utf16(head: bytes) -> str:
    """Return which UTF-16 it is where zeros stand in every other byte of Latin text; empty for anything else."""
    probe = head[:_PROBE_BYTES]
    zeros = (probe[::2].count(0), probe[1::2].count(0))
    half = len(probe) // 2
    if half < 4 or min(zeros) > half // 10 or max(zeros) < half * 0.7:
        return ""
    return "utf-16-le" if zeros[1] > zeros[0] else "utf-16-be"


def without_mark(data: bytes) -> bytes:
    """Return the bytes without the mark of UTF-8."""
    return data.removeprefix(UTF8_BOM)


def lines(stream: Stream, max_row_bytes: int) -> Iterator[bytes | OversizedLine]:
    """Yield each line without its end. Holds at most `max_row_bytes` bytes and a chunk, however long a line is.

    Lines end with LF or CRLF; in a file whose beginning has none of these, with CR.
    """
    held: list[bytes] = []
    size = 0
    chunk = without_mark(stream.read(CHUNK))
    end_mark = b"\r" if b"\n" not in chunk and b"\r" in chunk[:-1] else b"\n"
    while chunk:
        *ends, rest = chunk.split(end_mark)
        for end in ends:
            yield _line(held, size, end, max_row_bytes)
            held, size = [], 0
        size += len(rest)
        held = [*held, rest] if size <= max_row_bytes else []
        chunk = stream.read(CHUNK)
    if size:
        yield _line(held, size, b"", max_row_bytes)


def _line(held: list[bytes], size: int, end: bytes, max_row_bytes: int) -> bytes | OversizedLine:
    size += len(end)
    return OversizedLine(size) if size > max_row_bytes else b"".join([*held, end]).removesuffix(b"\r")
