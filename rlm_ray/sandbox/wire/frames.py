"""Length-prefixed frames between a host and its REPLs; pure, no I/O.

    [u32 head bytes][u32 blob bytes][head: JSON object][blob: the texts, one after another]

The head holds `kind`, the byte lengths of the texts in `sizes`, and small fields. Texts stand
outside the JSON because they are large. A frame from a child is hostile: every length is checked
before anything is allocated for it, by the kind that its head begins with, and nothing is ever unpickled.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

MAX_HEAD_BYTES = 4 << 20
MAX_FRAME_BYTES = 64 << 20
"""What a child may send in one frame; the host may send more."""

_PREFIX = struct.Struct("<II")
_KIND = re.compile(rb'\{"kind": "([a-z]{1,20})"')
_KIND_BYTES = 40
"""The beginning of a head, in which its kind stands."""


class FrameError(Exception):
    """What came is not a frame of ours."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One message: what it is, its small facts, its texts."""

    kind: str
    fields: dict[str, Any] = field(default_factory=dict)
    texts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FrameBounds:
    """The most that a frame of one kind holds."""

    head_bytes: int
    text_bytes: int = 0
    """Of all its texts together."""
    texts: int = 0


def encode(kind: str, texts: Sequence[str] = (), **fields: Any) -> bytes:
    """Encode a frame. Lone surrogates become `?`."""
    blobs = [str.encode(text, "utf-8", "replace") for text in texts]
    head = json.dumps({"kind": kind, "sizes": [len(blob) for blob in blobs], **fields}).encode()
    return b"".join((_PREFIX.pack(len(head), sum(map(len, blobs))), head, *blobs))


def is_within_limits(data: bytes) -> bool:
    """Tell whether a frame this long is taken from a child."""
    return _PREFIX.unpack_from(data)[0] <= MAX_HEAD_BYTES and len(data) <= MAX_FRAME_BYTES


class Decoder:
    """Turns bytes, in whatever pieces they come, into frames."""

    def __init__(
        self,
        max_bytes: int = MAX_FRAME_BYTES,
        max_head: int = MAX_HEAD_BYTES,
        bounds: Mapping[str, FrameBounds] | None = None,
    ) -> None:
        """With `bounds`, frames of other kinds than these are refused, too."""
        self._max_bytes = max_bytes
        self._max_head = max_head
        self._bounds = bounds
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def whole_bytes(self) -> int | None:
        """Return the length of the next whole frame, or None until more bytes have come. Raises `FrameError` for one that is
        out of bounds, as soon as its beginning tells that."""
        if len(self._buffer) < _PREFIX.size:
            return None
        head_bytes, blob_bytes = _PREFIX.unpack_from(self._buffer)
        if head_bytes > self._max_head or head_bytes + blob_bytes > self._max_bytes:
            raise FrameError(f"a frame of {head_bytes + blob_bytes:,} bytes is too large")
        if self._bounds is not None:
            if len(self._buffer) < _PREFIX.size + min(head_bytes, _KIND_BYTES):
                return None
            self._check_kind(head_bytes, blob_bytes, self._bounds)
        whole: int = _PREFIX.size + head_bytes + blob_bytes
        return whole if len(self._buffer) >= whole else None

    def next(self) -> Frame | None:
        """Return the next whole frame, or None until more bytes have come. Raises `FrameError`."""
        whole = self.whole_bytes()
        if whole is None:
            return None
        start = _PREFIX.size + _PREFIX.unpack_from(self._buffer)[0]
        with memoryview(self._buffer) as view:
            frame = _decode(view[_PREFIX.size : start], view[start:whole], self._bounds)
        del self._buffer[:whole]
        return frame

    def _check_kind(self, head_bytes: int, blob_bytes: int, bounds: Mapping[str, FrameBounds]) -> None:
        found = _KIND.match(self._buffer, _PREFIX.size, _PREFIX.size + min(head_bytes, _KIND_BYTES))
        bound = bounds.get(found[1].decode()) if found is not None else None
        if found is None or bound is None:
            raise FrameError("a frame that does not begin with a kind of its sender")
        if head_bytes > bound.head_bytes or blob_bytes > bound.text_bytes:
            raise FrameError(f"a {found[1].decode()!r} of {head_bytes + blob_bytes:,} bytes is too large")


def _decode(head: memoryview, blob: memoryview, bounds: Mapping[str, FrameBounds] | None) -> Frame:
    with head, blob:
        beginning = _KIND.match(head)
        fields = _fields(bytes(head))
        kind, sizes = fields.pop("kind", None), fields.pop("sizes", None)
        if not isinstance(kind, str) or not isinstance(sizes, list):
            raise FrameError("a frame without a kind or sizes")
        if bounds is not None:
            if (
                beginning is None or beginning[1].decode() != kind
            ):  # it named two, and was measured as the first
                raise FrameError("a frame of two kinds")
            if len(sizes) > bounds[kind].texts:
                raise FrameError(f"a {kind!r} of {len(sizes):,} texts")
        return Frame(kind, fields, _texts(blob, sizes))


def _fields(head: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(head)
    except (ValueError, RecursionError) as error:
        raise FrameError("the head of a frame is not JSON") from error
    if not isinstance(fields, dict):
        raise FrameError("the head of a frame is not an object")
    return fields


def _texts(blob: memoryview, sizes: list[Any]) -> tuple[str, ...]:
    texts = []
    at = 0
    for size in sizes:
        if type(size) is not int or size < 0 or at + size > len(blob):
            raise FrameError("the sizes of a frame do not fit its texts")
        texts.append(str(blob[at : at + size], "utf-8", "replace"))
        at += size
    if at != len(blob):
        raise FrameError("a frame has bytes that belong to no text")
    return tuple(texts)
