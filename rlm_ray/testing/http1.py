"""HTTP/1.1 over asyncio streams: as much of the protocol as API clients use.

Rules: requests may follow each other without waiting (pipelining); a body has a Content-Length. Chunked request bodies are
refused with 411, heads over 64 KiB with 431.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

MAX_HEAD_BYTES = 65_536

_REASONS = {status.value: status.phrase for status in HTTPStatus}


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A whole request."""

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


async def read_request(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter | None = None
) -> HttpRequest | None:
    """Read the next request; None where the connection ends before it is whole. Raises `ProtocolError`.

    The limit of the `reader` is to be `MAX_HEAD_BYTES`. The `writer` says `100 Continue` to a client that waits for it.
    """
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    except asyncio.LimitOverrunError as error:
        raise ProtocolError(431, "the request's head is too long") from error
    first, *lines = head[:-4].decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise ProtocolError(400, "this is not an HTTP/1.1 request")
    pairs = (line.partition(":") for line in lines)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    nbytes = _body_length(headers)
    if "expect" in headers and writer is not None:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    try:
        body = await reader.readexactly(nbytes)
    except asyncio.IncompleteReadError:
        return None
    return HttpRequest(words[0], words[1].partition("?")[0], headers, body)


def response(status: int, headers: Mapping[str, str], body: bytes) -> bytes:
    """Write one whole response; Content-Length is set."""
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Unknown')}", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace") + body


def _body_length(headers: Mapping[str, str]) -> int:
    if "transfer-encoding" in headers:
        raise ProtocolError(411, "send a Content-Length; chunked bodies are not read here")
    length = headers.get("content-length", "0")
    if not length.isdecimal():
        raise ProtocolError(400, "Content-Length is not a number")
    return int(length)
