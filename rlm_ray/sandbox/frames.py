"""Length-prefixed frames between a host and its REPLs; pure, no I/O.

    [u32 head bytes][u32 blob bytes][head: JSON object][blob: the texts, one after another]

The head holds `kind`, the byte lengths of the texts in `sizes`, and small fields. Texts stand
outside the JSON because they are large. A frame from a child is hostile: every length is checked
before anything is allocated for it, and nothing is ever unpickled.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

MAX_HEAD_BYTES = 4 << 20
MAX_FRAME_BYTES = 64 << 20
"""What a child may send in one frame; the host may send more."""

_PREFIX = struct.Struct("<II")


class BadFrame(Exception):  # noqa: N818 - a fact about a frame, turned into a sentence by the host
    """What came is not a frame of ours."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One message: what it is, its small facts, its texts."""

    kind: str
    fields: dict[str, Any] = field(default_factory=dict)
    texts: tuple[str, ...] = ()


def encode(kind: str, texts: Sequence[str] = (), **fields: Any) -> bytes:
    """A frame as bytes. Lone surrogates become `?`."""
    blobs = [str.encode(text, "utf-8", "replace") for text in texts]
    head = json.dumps({"kind": kind, "sizes": [len(blob) for blob in blobs], **fields}).encode()
    return b"".join((_PREFIX.pack(len(head), sum(map(len, blobs))), head, *blobs))


def fits(data: bytes) -> bool:
    """A frame this long is taken from a child."""
    return _PREFIX.unpack_from(data)[0] <= MAX_HEAD_BYTES and len(data) <= MAX_FRAME_BYTES


class Decoder:
    """Turns bytes, in whatever pieces they come, into frames."""

    def __init__(self, max_bytes: int = MAX_FRAME_BYTES, max_head: int = MAX_HEAD_BYTES) -> None:
        self._max_bytes = max_bytes
        self._max_head = max_head
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def next(self) -> Frame | None:
        """The next whole frame, or None until more bytes have come. Raises `BadFrame`."""
        buffer = self._buffer
        if len(buffer) < _PREFIX.size:
            return None
        head_bytes, blob_bytes = _PREFIX.unpack_from(buffer)
        if head_bytes > self._max_head or head_bytes + blob_bytes > self._max_bytes:
            raise BadFrame(f"a frame of {head_bytes + blob_bytes:,} bytes is too large")
        start = _PREFIX.size + head_bytes
        if len(buffer) < start + blob_bytes:
            return None
        with memoryview(buffer) as view:
            frame = _decode(view[_PREFIX.size : start], view[start : start + blob_bytes])
        del buffer[: start + blob_bytes]
        return frame


def _decode(head: memoryview, blob: memoryview) -> Frame:
    with head, blob:
        fields = _fields(bytes(head))
        kind, sizes = fields.pop("kind", None), fields.pop("sizes", None)
        if not isinstance(kind, str) or not isinstance(sizes, list):
            raise BadFrame("a frame without a kind or sizes")
        return Frame(kind, fields, _texts(blob, sizes))


def _fields(head: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(head)
    except (ValueError, RecursionError) as error:
        raise BadFrame("the head of a frame is not JSON") from error
    if not isinstance(fields, dict):
        raise BadFrame("the head of a frame is not an object")
    return fields


def _texts(blob: memoryview, sizes: list[Any]) -> tuple[str, ...]:
    texts = []
    at = 0
    for size in sizes:
        if type(size) is not int or size < 0 or at + size > len(blob):
            raise BadFrame("the sizes of a frame do not fit its texts")
        texts.append(str(blob[at : at + size], "utf-8", "replace"))
        at += size
    if at != len(blob):
        raise BadFrame("a frame has bytes that belong to no text")
    return tuple(texts)
