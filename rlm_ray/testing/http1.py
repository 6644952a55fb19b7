"""HTTP/1.1 requests out of bytes: as much of the protocol as API clients use, and no I/O.

Rules: bytes may arrive in any pieces; requests may follow each other without waiting (pipelining);
a body has a Content-Length. Chunked request bodies are refused with 411, heads over 64 KiB with 431.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

MAX_HEAD_BYTES = 65_536

_REASONS = {status.value: status.phrase for status in HTTPStatus}


@dataclass(frozen=True, slots=True)
class HttpRequest:
    method: str
    path: str
    """Without the query string."""
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def keep_alive(self) -> bool:
        return self.headers.get("connection", "").lower() != "close"


class ProtocolError(Exception):
    """These bytes are not a request that can be answered; `status` says how to refuse."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(status, why)
        self.status = status
        self.why = why


@dataclass(frozen=True, slots=True)
class _Head:
    method: str
    path: str
    headers: dict[str, str]
    start: int
    """Where the body begins in the buffer."""
    stop: int


class RequestParser:
    """Feed it bytes, take requests out."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._head: _Head | None = None

    @property
    def expects_continue(self) -> bool:
        """Tell whether the client sent a head and waits for `100 Continue` before it sends the body."""
        head = self._head
        return head is not None and "expect" in head.headers and len(self._buffer) == head.start

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def next_request(self) -> HttpRequest | None:
        """Return the next whole request, or None until more bytes arrive. Raises `ProtocolError`."""
        if self._head is None:
            self._head = _parse_head(self._buffer)
        head = self._head
        if head is None or len(self._buffer) < head.stop:
            return None
        # A memoryview, because a slice of a bytearray would copy a large body twice.
        with memoryview(self._buffer) as view:
            body = bytes(view[head.start : head.stop])
        del self._buffer[: head.stop]
        self._head = None
        return HttpRequest(head.method, head.path, head.headers, body)


def response(status: int, headers: Mapping[str, str], body: bytes) -> bytes:
    """Write one whole response; Content-Length is set."""
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Unknown')}", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace") + body


def _parse_head(buffer: bytearray) -> _Head | None:
    end = buffer.find(b"\r\n\r\n", 0, MAX_HEAD_BYTES)
    if end < 0:
        if len(buffer) >= MAX_HEAD_BYTES:
            raise ProtocolError(431, "the request's head is too long")
        return None
    first, *lines = buffer[:end].decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise ProtocolError(400, "this is not an HTTP/1.1 request")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    start = end + 4
    return _Head(words[0], words[1].partition("?")[0], headers, start, start + _body_length(headers))


def _body_length(headers: Mapping[str, str]) -> int:
    if "transfer-encoding" in headers:
        raise ProtocolError(411, "send a Content-Length; chunked bodies are not read here")
    length = headers.get("content-length", "0")
    if not length.isdecimal():
        raise ProtocolError(400, "Content-Length is not a number")
    return int(length)
