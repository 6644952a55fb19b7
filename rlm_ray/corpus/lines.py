"""Lines of bytes with an upper bound on each, so that no line of a file can take the memory of the reader."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

CHUNK = 1 << 20
MARK = b"\xef\xbb\xbf"
"""The byte order mark some programs put before UTF-8."""


class Stream(Protocol):
    """What bytes are read from."""

    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class TooLong:
    """Stands in for a line that was passed over."""

    nbytes: int


def lines(stream: Stream, most: int) -> Iterator[bytes | TooLong]:
    """Each line without its end. Holds at most `most` bytes and a chunk, however long a line is."""
    held: list[bytes] = []
    size = 0
    chunk = stream.read(CHUNK).removeprefix(MARK)
    while chunk:
        *ends, rest = chunk.split(b"\n")
        for end in ends:
            yield _line(held, size, end, most)
            held, size = [], 0
        size += len(rest)
        held = [*held, rest] if size <= most else []
        chunk = stream.read(CHUNK)
    if size:
        yield _line(held, size, b"", most)


def _line(held: list[bytes], size: int, end: bytes, most: int) -> bytes | TooLong:
    size += len(end)
    return TooLong(size) if size > most else b"".join([*held, end]).removesuffix(b"\r")
