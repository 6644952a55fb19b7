"""How much structure a JSON body may hold, counted as it comes in, before any of it is decoded.

Text costs next to nothing to decode; a million small values or long numbers cost seconds, in which the loop serves nobody
else. A thread would not help: decoding and checking hold the interpreter's lock from their beginning to their end.
"""

from __future__ import annotations

import re

MAX_VALUES = 64_000
"""Items and fields of one body, in all: `MAX_MESSAGES` of one part each. To check so many takes a twentieth of a second."""
MAX_NUMBER_BYTES = 1_000_000
"""Digits of all numbers together; a number takes time as the square of its length."""
MAX_DEPTH = 64
CHUNK_BYTES = 1 << 16
"""So much is counted between two turns of the loop: about a millisecond."""

_STRINGS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_REST_OF_STRING = re.compile(rb'[^"\\]*(?:\\.[^"\\]*)*', re.DOTALL)
_BUT_STRUCTURE = bytes(set(range(256)) - set(b"[]{},"))
_BUT_DIGITS = bytes(set(range(256)) - set(b"0123456789"))
_OPENING, _COMMA = set(b"[{"), ord(",")


class OutOfBoundsError(Exception):
    """A body holds more than may be decoded; the words say what."""


class JsonBounds:
    """Counts one body, in whatever pieces it comes. What is no JSON is left to whoever decodes it."""

    def __init__(self, max_values: int = MAX_VALUES, max_depth: int = MAX_DEPTH) -> None:
        self._max_values, self._max_depth = max_values, max_depth
        self.values = self.depth = self.number_bytes = 0
        self._is_in_string = self._is_escaped = False

    def feed(self, chunk: bytes) -> None:
        """Raises `OutOfBoundsError`."""
        plain = self._outside_strings(chunk)
        self.number_bytes += len(plain.translate(None, _BUT_DIGITS))
        if self.number_bytes > MAX_NUMBER_BYTES:
            raise OutOfBoundsError(f"holds more than {MAX_NUMBER_BYTES:,} digits outside of texts")
        outside = plain.translate(None, _BUT_STRUCTURE)
        self.values += len(outside) - outside.count(b"]") - outside.count(b"}")
        if self.values > self._max_values:
            raise OutOfBoundsError(f"holds more than {self._max_values:,} values")
        for byte in outside:
            if byte in _OPENING:
                self.depth += 1
                if self.depth > self._max_depth:
                    raise OutOfBoundsError(f"is nested deeper than {self._max_depth} levels")
            elif byte != _COMMA:
                self.depth -= 1

    def _outside_strings(self, chunk: bytes) -> bytes:
        start = self._end_of_string(chunk) if self._is_in_string else 0
        outside = _STRINGS.sub(b"", chunk[start:])
        quote = outside.find(b'"')
        if quote >= 0:  # a string that the next piece goes on with
            rest = outside[quote + 1 :]
            self._is_in_string = True
            self._is_escaped = (len(rest) - len(rest.rstrip(b"\\"))) % 2 == 1
            outside = outside[:quote]
        return outside

    def _end_of_string(self, chunk: bytes) -> int:
        """The place after the string that an earlier piece began; the end of the piece where it goes on."""
        found = _REST_OF_STRING.match(chunk, 1 if self._is_escaped and chunk else 0)
        assert found is not None  # every text matches
        end = found.end()
        self._is_escaped = chunk[end : end + 1] == b"\\" if chunk else self._is_escaped
        if chunk[end : end + 1] != b'"':
            return len(chunk)
        self._is_in_string = False
        return end + 1
