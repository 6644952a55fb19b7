"""Which rows are done: a bit and eight bytes for each, so that a hundred million rows fit a driver's memory."""

from __future__ import annotations

from array import array


class Marks:
    """Numbers of rows, and the key of each."""

    __slots__ = ("_bits", "_keys", "count")

    def __init__(self) -> None:
        self._bits = bytearray()
        self._keys = array("Q")
        self.count = 0

    def add(self, row: int, key: str) -> None:
        """`key` is 16 hexadecimal digits, or empty."""
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

    def differs(self, row: int, key: str) -> bool:
        """It was done with another key."""
        known = self._keys[row] if row in self else 0
        return bool(known and key) and known != int(key, 16)
