"""JSON as rows: an object or a text on each line, an array of them, or one object after the other.

- Lines are the rule: what is wrong with one costs its own row, and the next is read. A line may hold several values, or
  an array of them.
- A file whose first value does not end with its line (an array over several lines, objects written with indents) is
  read value by value. Behind one that cannot be read, the next line that begins a value as deep goes on.
- A key that is there twice with two values is no row: nobody knows which is meant.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from rlm_ray.batch.raw_rows import (
    CHUNK,
    OversizedLine,
    RawRow,
    Stream,
    lines,
    not_utf8,
    too_large,
    without_mark,
)

_SPACE = re.compile(r"[ \t\r\n]*")
_BETWEEN = re.compile(r"[ \t\r\n,]*")
_BEGINS_OBJECT = re.compile(r"\n[ \t,]*\{")
_FOREIGN = re.compile("[\udc80-\udcff]")
"""What stands for bytes that are not UTF-8."""
_HEAD_BYTES = 65_536


def read_json(stream: Stream, max_row_bytes: int) -> Iterator[RawRow]:
    """Yield the rows of JSON Lines, of an array, or of objects one after the other; blank lines are no rows."""
    head = without_mark(stream.read(CHUNK))
    whole = _PrefixedStream(head, stream)
    return (
        _Values(whole, max_row_bytes).rows() if _is_over_lines(head) else _rows_of_lines(whole, max_row_bytes)
    )


def from_object(value: Any) -> RawRow:
    """Make a row of a mapping, or of a text, which is the one column `text`."""
    if isinstance(value, str):
        return RawRow({"text": value})
    if isinstance(value, Mapping):
        return RawRow({str(name): item for name, item in value.items()})
    return RawRow(why=f"is neither a mapping of columns nor a text, but {type(value).__name__}")


class _PrefixedStream:
    """A stream whose beginning was read already."""

    def __init__(self, head: bytes, stream: Stream) -> None:
        self._head, self._stream = head, stream

    def read(self, size: int, /) -> bytes:
        head, self._head = self._head, b""
        return head or self._stream.read(size)


def _is_over_lines(head: bytes) -> bool:
    """Tell whether the first value does not end with its line, and the next line does not begin one of its own."""
    found = [line for line in head[:_HEAD_BYTES].replace(b"\r", b"\n").split(b"\n") if line.strip()][:2]
    if not found or found[0].lstrip()[:1] not in (b"[", b"{"):
        return False
    if len(found) == 1:
        return found[0].lstrip()[:1] == b"["  # an array on one line may be of any length
    try:
        json.JSONDecoder().raw_decode(found[0].decode("utf-8", "replace").lstrip())
    except json.JSONDecodeError as error:
        at_its_end = error.pos >= len(found[0].decode("utf-8", "replace").strip())
        return at_its_end and (found[0].lstrip()[:1] == b"[" or found[1].lstrip()[:1] != b"{")
    except (ValueError, RecursionError):
        return False
    return False


def _rows_of_lines(stream: Stream, max_row_bytes: int) -> Iterator[RawRow]:
    for line in lines(stream, max_row_bytes):
        if isinstance(line, OversizedLine):
            yield too_large(line.nbytes, max_row_bytes)
        elif line.strip():
            yield from _rows_of_line(line)


def _rows_of_line(line: bytes) -> Iterator[RawRow]:
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        yield RawRow(why=not_utf8(error))
        return
    at = _end_of(_SPACE, text, 0)
    while at < len(text):
        try:
            value, at = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            yield RawRow(why=_why(error))
            return
        yield from map(from_object, value if _is_rows(value) else [value])
        at = _end_of(_SPACE, text, at)


def _is_rows(value: Any) -> bool:
    """Tell whether it is an array with a row in it."""
    return isinstance(value, list) and any(isinstance(item, str | Mapping) for item in value)


class _Values:
    """Values one after the other, from a bounded stretch of the text."""

    def __init__(self, stream: Stream, max_row_bytes: int) -> None:
        self._stream, self._max_row_bytes = stream, max_row_bytes
        self._text, self._at, self._undecoded, self._line = "", 0, b"", 1
        self._is_over = self._has_passed_values = False
        self._dropped = 0
        """Characters of the text that are no longer held."""

    def rows(self) -> Iterator[RawRow]:
        depth = 0
        while self._skip(_BETWEEN if depth else _SPACE):
            letter = self._text[self._at]
            if letter == "[" and depth == 0:
                depth, self._at = 1, self._at + 1
            elif letter == "]" and depth == 1:
                depth, self._at = 0, self._at + 1
            else:
                started, place = self._line, self._place()
                yield self._value()
                if self._place() == place and not self._go_to_next(self._indent()):  # nothing could be read
                    yield from self._refuse_the_rest(started)
                    return

    def _value(self) -> RawRow:
        size = CHUNK
        while True:
            try:
                value, stop = _DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if len(self._text) - self._at > self._max_row_bytes:
                    return RawRow(
                        why=f"line {self._line}: {too_large(len(self._text) - self._at, self._max_row_bytes).why}"
                    )
                if self._could_end_later(error) and self._read(size):
                    size *= 2
                    continue
                return RawRow(why=f"line {self._line} {_why(error)}")
            except (ValueError, RecursionError) as error:
                return RawRow(why=f"line {self._line} {_why(error)}")
            may_go_on = stop >= len(self._text) - 2 and not isinstance(value, dict | list | str)  # as 1.5e+
            if may_go_on and self._read(size):
                continue
            foreign = _FOREIGN.search(self._text, self._at, stop)
            line = self._line
            self._to(stop)
            if foreign:
                return RawRow(
                    why=f"line {line}: the value is not UTF-8 (byte 0x{ord(foreign[0]) & 0xFF:02x})"
                )
            return from_object(value)

    def _could_end_later(self, error: json.JSONDecodeError) -> bool:
        return error.pos >= len(self._text) - 8 or error.msg.startswith("Unterminated string")

    def _place(self) -> int:
        """Return where in all of the text the next value begins."""
        return self._dropped + self._at

    def _indent(self) -> int | None:
        """Return how deep the line begins, where the value begins its line."""
        begin = self._text.rfind("\n", 0, self._at) + 1
        before = self._text[begin : self._at]
        return len(before) if not before.strip(" \t,") else None

    def _go_to_next(self, indent: int | None) -> bool:
        """Go to the next line that begins a value as deep as the one that was wrong."""
        if indent is None:
            return False
        next_value = re.compile(rf"\n[ \t,]{{{indent}}}(?=[{{\]])")
        while (found := next_value.search(self._text, self._at)) is None:
            end = max(self._text.rfind("\n"), self._at)
            self._has_passed_values |= _BEGINS_OBJECT.search(self._text, self._at, end) is not None
            self._to(end)
            if not self._read(CHUNK):
                return False
        self._to(found.end())
        return True

    def _refuse_the_rest(self, line: int) -> Iterator[RawRow]:
        if self._has_passed_values or _SPACE.sub("", self._text[self._at :]).strip("],}"):
            yield RawRow(
                why=f"cannot be read, nor can what follows in this file: the JSON is broken in line {line}"
            )

    def _skip(self, between: re.Pattern[str]) -> bool:
        """Skip what stands between values; tell whether there is more."""
        while True:
            self._to(_end_of(between, self._text, self._at))
            if self._at < len(self._text):
                return True
            if not self._read(CHUNK):
                return False

    def _to(self, at: int) -> None:
        self._line += self._text.count("\n", self._at, at)
        self._at = at

    def _read(self, size: int) -> bool:
        """Read some more of the text; what was read of it is dropped, but the line that it ends in."""
        if self._is_over:
            return False
        data = self._stream.read(size)
        self._is_over = not data
        text, self._undecoded = _decoded(self._undecoded + data, last=not data)
        keep = self._text.rfind("\n", 0, self._at) + 1
        keep = keep if self._at - keep < _HEAD_BYTES else self._at
        self._text, self._at = self._text[keep:] + text, self._at - keep
        self._dropped += keep
        return bool(data or text)


def _decoded(data: bytes, *, last: bool) -> tuple[str, bytes]:
    """Return the text, and the bytes of a character that was cut. Bytes that are not UTF-8 make what holds them no
    JSON.
    """
    for cut in range(0 if last else 4):
        try:
            return data[: len(data) - cut].decode("utf-8"), data[len(data) - cut :]
        except UnicodeDecodeError:
            continue
    return data.decode("utf-8", "surrogateescape"), b""


def _end_of(between: re.Pattern[str], text: str, at: int) -> int:
    """Return where what stands between values ends."""
    found = between.match(text, at)
    assert found is not None  # nothing between them is a match, too
    return found.end()


def _why(error: Exception) -> str:
    return str(error) if isinstance(error, RepeatedKeyError) else f"is not JSON: {error}"


class RepeatedKeyError(ValueError):
    """A key that is there twice, with two values."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        for name, value in pairs:
            if found[name] != value:
                raise RepeatedKeyError(f"has the key {name!r} twice, with two values; keep one")
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_object)
