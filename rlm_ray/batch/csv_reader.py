"""CSV and its kin as tables: what spreadsheets and exporters write is read right, or refused with the line and a remedy.

Python's `csv` is not used: it takes every row after an unclosed quote for one cell, and says nothing.

- A quoted cell ends with a quote before a delimiter or the end of its line. Where that never comes, where another
  quote comes first, or where the row then has other cells than the header, the line that opened the quote is a row
  that cannot be read, and reading goes on with the next line. So no row is lost to the mistake of another.
- The delimiter is what `sep=;` in the first line says, else the one of `,` `;` tab and `|` that the header and the
  first row agree on.
- Names of columns lose the spaces around them. A name that is there twice is refused; an empty one is `column 3`.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain

from rlm_ray.batch.raw_rows import OversizedLine, RawRow, RefusedError, Stream, lines, too_large

_DELIMITERS = ",;\t|"
_SEP = re.compile(r'"?sep=(.)"?[,;\t|]*', re.IGNORECASE)
_IN_QUOTES = re.compile(r'[^"]*(?:""[^"]*)*')
_BEHIND_SPACES = re.compile(r' +("(?:[^"]|"")*") *')
_LIKE_ROWS = 2, 3
"""So many lines of one quoted cell, with so many delimiters, that all look like rows are rows: a quote was opened by
mistake."""
_REMEDY = 'close it, write "" for a quote in a quoted cell, or remove it'


@dataclass(frozen=True, slots=True)
class _Line:
    number: int
    """From 1."""
    text: str = ""
    too_long: int = 0
    """Its bytes where it was passed over."""


def read_csv(stream: Stream, max_row_bytes: int, delimiter: str = ",") -> Iterator[RawRow]:
    """Yield the rows; the first line names the columns and all values are texts. Raises `RefusedError` for a header that
    cannot be used. `delimiter` is the one to expect.
    """
    pending = _Lines(_numbered(lines(stream, max_row_bytes)))
    head = pending.peek(2)
    if head and (named := _SEP.fullmatch(head[0].text.strip())):
        delimiter = named[1]
        while pending.take() is not head[0]:
            pass
    else:
        delimiter = _delimiter(head, delimiter)
    table = _Table(pending, delimiter, max_row_bytes)
    header = table.header()
    yield from table.rows(header) if header else ()


def _numbered(found: Iterator[bytes | OversizedLine]) -> Iterator[_Line]:
    for number, line in enumerate(found, 1):
        if isinstance(line, OversizedLine):
            yield _Line(number, too_long=line.nbytes)
        else:
            yield _Line(number, line.decode("utf-8", "surrogateescape"))


class _Lines:
    """Lines that can be put back."""

    def __init__(self, source: Iterator[_Line]) -> None:
        self._source, self._back = source, deque[_Line]()

    def take(self) -> _Line | None:
        return self._back.popleft() if self._back else next(self._source, None)

    def put_back(self, taken: Sequence[_Line]) -> None:
        self._back.extendleft(reversed(taken))

    def peek(self, count: int) -> list[_Line]:
        """Return the next lines that are not blank."""
        taken: list[_Line] = []
        while sum(bool(line.text.strip()) for line in taken) < count and (line := self.take()) is not None:
            taken.append(line)
        self.put_back(taken)
        return [line for line in taken if line.text.strip()]


@dataclass(slots=True)
class _Record:
    """The cells of a row, line by line."""

    delimiter: str
    cells: list[str] = field(default_factory=list)
    wrong: str = ""
    is_open: bool = False
    """Inside of a quoted cell."""
    _cell: list[str] = field(default_factory=list)

    def feed(self, line: str) -> None:
        if not self.is_open and '"' not in line:
            self.cells += line.split(self.delimiter)
            return
        at = 0
        if self.is_open:
            self._cell.append("\n")
            at = self._quoted(line, 0)
        while 0 <= at <= len(line):
            opening = self._opening(line, at)
            if opening >= 0:
                self.is_open = True
                at = self._quoted(line, opening + 1)
            else:
                stop = line.find(self.delimiter, at)
                stop = len(line) if stop < 0 else stop
                self.cells.append(line[at:stop])
                at = stop + 1

    def _opening(self, line: str, at: int) -> int:
        """Return where the quote of a quoted cell stands; -1 for a cell without.

        Behind spaces only a cell that is closed in this line is quoted: `5, "so" he said` begins with a space.
        """
        if line.startswith(" ", at) and (found := _BEHIND_SPACES.match(line, at)):
            end = found.end()
            if end == len(line) or line[end] == self.delimiter:
                return found.start(1)
        return at if line.startswith('"', at) else -1

    def _quoted(self, line: str, at: int) -> int:
        """Read on in a quoted cell; return where the next cell begins, or -1 where the line is over or wrong."""
        found = _IN_QUOTES.match(line, at)
        assert found is not None
        stop = found.end()
        self._cell.append(line[at:stop])
        if stop == len(line):
            return -1
        after = stop + 1
        while after < len(line) and line[after] == " " != self.delimiter:
            after += 1
        if after < len(line) and line[after] != self.delimiter:
            self.wrong = "has a quote inside a quoted cell that is not doubled"
            return -1
        self.cells.append("".join(self._cell).replace('""', '"'))
        self._cell, self.is_open = [], False
        return after + 1


@dataclass(frozen=True, slots=True)
class _Table:
    lines: _Lines
    delimiter: str
    max_row_bytes: int

    def header(self) -> list[str]:
        """Return the names of the columns; none where there is no line."""
        while (line := self.lines.take()) is not None:
            if line.too_long:
                raise RefusedError(
                    f"line {line.number} is to name the columns, but has {line.too_long:,} bytes"
                )
            if line.text.strip():
                self.lines.put_back([line])
                found = self._record([])
                return _names(found, line.number)
        return []

    def rows(self, header: Sequence[str]) -> Iterator[RawRow]:
        while (line := self.lines.take()) is not None:
            if line.too_long:
                yield too_large(line.too_long, self.max_row_bytes)
            elif line.text.strip() or (len(header) > 1 and self.delimiter in line.text):
                self.lines.put_back([line])
                found = self._record(header)
                yield found if isinstance(found, RawRow) else _row(header, found, line.number)

    def _record(self, header: Sequence[str]) -> list[str] | RawRow:
        """Return the cells of the next row, which may have several lines; or why they are none."""
        record = _Record(self.delimiter)
        taken: list[_Line] = []
        size = 0
        while (line := self.lines.take()) is not None:
            taken.append(line)
            size += len(line.text) + line.too_long
            if size > self.max_row_bytes:
                return self._too_large(taken)
            record.feed(line.text)
            if record.wrong or not record.is_open:
                break
        first = taken[0].number
        if len(taken) == 1 and record.wrong:
            return RawRow(why=f'line {first} {record.wrong}; write "" for it')
        if (
            record.wrong
            or record.is_open
            or (len(taken) > 1 and header and self._is_accident(record, taken, header))
        ):
            self.lines.put_back(taken[1:])
            return RawRow(why=f"line {first} opens a quote that is not closed: {_REMEDY}")
        return record.cells

    def _too_large(self, taken: Sequence[_Line]) -> RawRow:
        """Return a row of several lines above the limit; what follows the first is read as rows of its own."""
        self.lines.put_back(taken[1:])
        why = f"line {taken[0].number} opens a quote that is not closed within {self.max_row_bytes / 1e6:,.1f} MB of max_row_bytes"
        return RawRow(why=f"{why}: {_REMEDY}")

    def _is_accident(self, record: _Record, taken: Sequence[_Line], header: Sequence[str]) -> bool:
        """Tell whether the quote was opened by mistake, and another one further below closed it."""
        if len(_trimmed(record.cells, header)) != len(header):
            return True
        inner = taken[1:]
        return (
            len(inner) >= _LIKE_ROWS[0]
            and len(inner) * (len(header) - 1) >= _LIKE_ROWS[1]
            and all(_cells_in(line.text, self.delimiter) == len(header) for line in inner)
        )


def _names(found: list[str] | RawRow, number: int) -> list[str]:
    if isinstance(found, RawRow):
        raise RefusedError(f"the names of the columns cannot be read: {found.why}")
    names = [name.strip() or f"column {at}" for at, name in enumerate(found, 1)]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        places = ", ".join(str(at) for at, name in enumerate(names, 1) if name == twice)
        raise RefusedError(
            f"line {number} names {twice!r} more than once (columns {places}); give each column its own name"
        )
    if any("\udc80" <= letter <= "\udcff" for letter in "".join(names)):
        raise RefusedError(f"line {number} is not UTF-8; save the file as UTF-8")
    return names


def _row(header: Sequence[str], cells: list[str], number: int) -> RawRow:
    for cell in cells:
        if not cell.isascii() and (why := _undecoded(cell)):
            return RawRow(why=f"line {number} {why}")
    cells = _trimmed(cells, header)
    if len(cells) != len(header):
        return RawRow(
            why=f"line {number} has {len(cells)} cells where the header has {len(header)}; quote cells with a delimiter in them"
        )
    return RawRow(dict(zip(header, cells, strict=True)))


def _trimmed(cells: list[str], header: Sequence[str]) -> list[str]:
    """Return cells without the empty ones behind the last column."""
    more = cells[len(header) :]
    return cells if any(cell.strip(" ") for cell in more) else cells[: len(header)]


def _undecoded(cell: str) -> str:
    try:
        cell.encode("utf-8")
    except UnicodeEncodeError as error:
        return f"is not UTF-8 (byte 0x{ord(cell[error.start]) & 0xFF:02x} in a cell)"
    return ""


def _delimiter(head: Sequence[_Line], expected: str) -> str:
    """Return the delimiter that header and first row agree on; of several the expected one, else the first of those with
    the most cells.
    """
    if not head:
        return expected
    counts = {mark: [_cells_in(line.text, mark) for line in head] for mark in chain(expected, _DELIMITERS)}
    agreeing = {mark: found[0] for mark, found in counts.items() if found[0] > 1 and found[0] == found[-1]}
    if counts[expected][0] > 1 and (expected in agreeing or not agreeing):
        return expected
    candidates = agreeing or {mark: found[0] for mark, found in counts.items()}
    return max(candidates, key=lambda mark: candidates[mark])


def _cells_in(line: str, delimiter: str) -> int:
    record = _Record(delimiter)
    record.feed(line)
    return len(record.cells) + record.is_open
