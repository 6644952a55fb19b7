"""Finds where a text that code hands to a sub-call stands in its session's context, for the records.

A small slice travels as a text of its own, so its place is looked for: where the last one makes it likely, near there,
then everywhere. What was changed (upper case, other line breaks) stands nowhere and has no place.
"""

from __future__ import annotations

from rlm_ray.core.context import Context

BLOCK_BYTES = 1 << 20
MAX_SEARCHED_BYTES = 1 << 28
"""The most that one locator looks through far from the last slice: a quarter of a second in all."""


class SliceLocator:
    """Looks for slices of one context, in the order in which code hands them out."""

    def __init__(self, context: Context, max_searched_bytes: int = MAX_SEARCHED_BYTES) -> None:
        self._bytes = memoryview(context.data).cast("B")
        self._context = context
        self._left = max_searched_bytes
        self._last = (0, 0)
        self._step = 0
        """From the beginning of the last slice but one to that of the last."""

    def locate(self, text: str) -> tuple[int, int] | None:
        """Return where a text begins and ends in the root's context, in bytes; None where it does not stand there."""
        offset = self._context.root_offset
        if offset is None or not text.strip():
            return None
        try:
            piece = text.encode("utf-8")
        except UnicodeEncodeError:
            return None
        start = self._find(piece)
        if start is None:
            return None
        self.follow(start, start + len(piece))
        return offset + start, offset + start + len(piece)

    def follow(self, start: int, stop: int) -> None:
        """Take note of the slice that was handed out last, in bytes of the session's context."""
        begun, ended = self._last
        self._step = start - begun if ended else 0
        self._last = (start, stop)

    def _find(self, piece: bytes) -> int | None:
        """Return where it stands in the session's context; None where it does not."""
        begun, ended = self._last
        size, length = len(self._bytes), len(piece)
        if length > size:
            return None
        for likely in (begun + self._step if self._step > 0 else ended, ended):
            if bytes(self._bytes[likely : likely + length]) == piece:
                return likely
        near = (max(0, ended - length), min(size, ended + 2 * length))
        for start, stop, is_near in (
            (*near, True),
            (near[0], size, False),
            (0, min(size, near[0] + length), False),
        ):
            found = self._search(piece, start, stop, is_near=is_near)
            if found is not None:
                return found
        return None

    def _search(self, piece: bytes, start: int, stop: int, *, is_near: bool) -> int | None:
        for at in range(start, stop, BLOCK_BYTES):
            if not is_near:
                self._left -= BLOCK_BYTES
                if self._left < 0:
                    return None
            found = bytes(self._bytes[at : min(at + BLOCK_BYTES + len(piece) - 1, stop)]).find(piece)
            if found >= 0:
                return at + found
        return None
