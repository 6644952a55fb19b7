"""`RowResult` is the end of a row: one line of the output.

`CompletedRows` knows which rows are done: a bit and eight bytes for each, so that a hundred million rows fit a driver's
memory. `BatchStats` is the progress of a batch, in numbers that only grow.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class RowResult:
    """A row of the output; the fields are its columns, `values` further ones."""

    row: int
    """Its number in the input."""
    id: str
    answer: str | None = None
    error: str | None = None
    """Why there is no answer, or not the whole one; the row has failed."""
    stop_reason: str = ""
    """`answered`, what stopped it, or `error`."""
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = None
    """None where the price of a call is not known."""
    turns: int = 0
    seconds: float = 0.0
    run_id: str = ""
    trace_id: str = ""
    key: str = ""
    """Names what was asked; empty where nothing could be."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """Columns of the schema."""

    def as_dict(self) -> dict[str, Any]:
        """Return its columns, those of the schema behind the answer."""
        plain = {name: getattr(self, name) for name in COLUMNS}
        further = {output_column_name(name): value for name, value in self.values.items()}
        return {name: plain.pop(name) for name in COLUMNS[:3]} | further | plain


COLUMNS = tuple(item.name for item in fields(RowResult) if item.name != "values")


def output_column_name(name: str) -> str:
    """Return the column that a property of the schema has in the output: our own keep their names."""
    return f"answer_{name}" if name in COLUMNS else name


def key_of(question: str, ident: str, text: str) -> str:
    """Return a hash that the same question about the same row has again."""
    digest = hashlib.blake2b(digest_size=8)
    for part in (question, ident, text):
        data = part.encode("utf-8", "replace")
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()


class CompletedRows:
    """The numbers of completed rows, and the key of each."""

    __slots__ = ("_bits", "_keys", "count")

    def __init__(self) -> None:
        self._bits = bytearray()
        self._keys = array("Q")
        self.count = 0

    def add(self, row: int, key: str) -> None:
        """Mark a row as done; `key` is 16 hexadecimal digits, or empty."""
        if row in self:
            return
        missing = row + 1 - len(self._keys)
        if missing > 0:
            grown = max(missing, len(self._keys) // 4, 1024)
            self._keys.frombytes(bytes(8 * grown))
            self._bits.extend(bytes(len(self._keys) // 8 + 1 - len(self._bits)))
        self._bits[row >> 3] |= 1 << (row & 7)
        self._keys[row] = int(key, 16) if key else 0
        self.count += 1

    def __contains__(self, row: int) -> bool:
        place = row >> 3
        return place < len(self._bits) and bool(self._bits[place] >> (row & 7) & 1)

    def key_mismatch(self, row: int, key: str) -> bool:
        """Tell whether the row was done with another key."""
        known = self._keys[row] if row in self else 0
        return bool(known and key) and known != int(key, 16)


@dataclass(slots=True)
class BatchStats:
    """Counts of rows and of what they used; written by one thread, read by any."""

    previously_completed: int = 0
    """Rows that were done before, and not asked again."""
    failed_earlier: int = 0
    """Those of them that had failed."""
    answered: int = 0
    failed: int = 0
    under_way: int = 0
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0
    unpriced: int = 0
    """Rows whose cost is not known."""
    read: int = 0
    """Rows read so far."""
    share: float | None = None
    """About how much of the corpus that is; None where nobody knows."""
    read_all: bool = False
    """There are no more rows than those read."""
    limit: int | None = None

    @property
    def done(self) -> int:
        """Return the rows done in this attempt."""
        return self.answered + self.failed

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    @property
    def expected(self) -> float | None:
        """Return the rows in all, about; None where nobody knows yet.

        A share of 1 with more to come says that the last bytes are read and not yet split into rows.
        """
        if self.read_all:
            return max(self.read, self.previously_completed + self.done)
        known = self.read / self.share if self.share and self.share < 1 and self.read else None
        if self.limit is None:
            return known
        return self.limit if known is None else min(known, self.limit)

    def add(self, outcome: RowResult) -> None:
        if outcome.error is None:
            self.answered += 1
        else:
            self.failed += 1
        self.calls += outcome.calls
        self.input_tokens += outcome.input_tokens
        self.output_tokens += outcome.output_tokens
        self.cost_usd += outcome.cost_usd or 0.0
        self.unpriced += outcome.cost_usd is None and outcome.calls > 0
