"""A row as it stands in its source, before it is known which of its columns is the text; and what rows come from."""

from __future__ import annotations

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
        """What the user called it."""

    def read(self) -> Iterator[RawRow]:
        """All rows from the first. Raises `InputError` where it cannot go on."""

    def fraction_read(self) -> float | None:
        """How much of it has been read; None where nobody knows how much there is."""


class RefusedError(Exception):
    """A file of rows that cannot be used, with one sentence that says why and what to do."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


def too_large(nbytes: int, most: int) -> RawRow:
    return RawRow(why=f"is {nbytes / 1e6:,.1f} MB, above the {most / 1e6:,.1f} MB of max_row_bytes")


def not_utf8(error: UnicodeDecodeError) -> str:
    return f"is not UTF-8 (byte 0x{error.object[error.start]:02x} at offset {error.start})"
