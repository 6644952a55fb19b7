"""Each record once, though a scribe that had no answer sent it again: in little memory, however many there are."""

from __future__ import annotations


class Once:
    """Knows how far each scribe's records have come: they are numbered, and come in their order."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}

    def __call__(self, ident: str) -> bool:
        """The record of this id comes for the first time."""
        scribe, _, number = ident.rpartition(":")
        if not number.isdigit():
            return True
        if int(number) <= self._last.get(scribe, 0):
            return False
        self._last[scribe] = int(number)
        return True
