"""ASGI middleware: a key before a body is read, limits while it is read, and a run id for every request.

`JsonBounds` limits how much structure a JSON body may hold, counted as it comes in, before any of it is decoded. Text costs
next to nothing to decode; a million small values or long numbers cost seconds, in which the loop serves nobody else. A
thread would not help: decoding and checking hold the interpreter's lock from their beginning to their end.
"""

from __future__ import annotations

import asyncio

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rlm_ray.serve.http.auth import BearerAuth
from rlm_ray.serve.http.errors import ApiError
from rlm_ray.serve.run_store import request_run_id

RUN_HEADER = "x-rlm-run-id"
"""`x-request-id` is Serve's, or the client's own; both are noted with the run."""
UPLOADS = "/v1/files"
FORM_BYTES = 64 << 10
"""What a form may hold beside its file."""


class AuthAndBodyLimitMiddleware:
    """Checks the key before a body is read, and limits the body while it is read."""

    def __init__(self, app: ASGIApp, auth: BearerAuth, body_bytes: int, file_bytes: int) -> None:
        self._app, self._auth = app, auth
        self._body_bytes, self._upload_bytes = body_bytes, file_bytes + FORM_BYTES

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_upload = scope["path"].rstrip("/") == UPLOADS
        max_bytes = self._upload_bytes if is_upload else self._body_bytes
        run_id = request_run_id()
        scope.setdefault("state", {})["run_id"] = run_id
        counted, begun = 0, False
        bounds = None if is_upload else JsonBounds()

        async def receive_counted() -> Message:
            """Receive a part of the body; refuse the request once it has too many bytes or values."""
            nonlocal counted
            message = await receive()
            counted += len(message.get("body", b""))
            if counted > max_bytes:
                raise _too_large(max_bytes)
            await _count(bounds, message.get("body", b""))
            return message

        async def send_named(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                MutableHeaders(scope=message).setdefault(RUN_HEADER, run_id)
            await send(message)

        try:
            if scope["method"] == "POST":
                self._auth.authenticate(Request(scope))
            if _content_length(scope) > max_bytes:
                raise _too_large(max_bytes)
            await self._app(scope, receive_counted, send_named)
        except ApiError as refusal:
            if begun:
                raise
            await refusal.reply()(scope, receive, send_named)


async def _count(bounds: JsonBounds | None, body: bytes) -> None:
    """Count a body in pieces, so that others have their turn. An upload is no JSON, and not counted."""
    if bounds is None:
        return
    # UTF-16 and UTF-32 would be decoded, too, and their quotation marks are not those that are counted.
    if b"\0" in body:
        raise ApiError(400, "invalid_json", "the body is no JSON in UTF-8")
    try:
        for start in range(0, len(body), CHUNK_BYTES):
            bounds.feed(body[start : start + CHUNK_BYTES])
            await asyncio.sleep(0)
    except OutOfBoundsError as error:
        why = f"the body {error}; send long texts as few messages, or upload them as files"
        raise ApiError(413, "too_many_values", why) from None


def _too_large(max_bytes: int) -> ApiError:
    return ApiError(413, "too_large", f"the body is larger than the {max_bytes:,} bytes allowed here")


def _content_length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0


MAX_VALUES = 64_000
"""Items and fields of one body, in all: `MAX_MESSAGES` of one part each. To check so many takes a twentieth of a second."""
MAX_NUMBER_BYTES = 1_000_000
"""Digits of all numbers together; a number takes time as the square of its length."""
MAX_DEPTH = 64
CHUNK_BYTES = 1 << 16
"""So much is counted between two turns of the loop: about a millisecond."""

_BUT_STRUCTURE = bytes(set(range(256)) - set(b"[]{},"))
_BUT_DIGITS = bytes(set(range(256)) - set(b"0123456789"))
_OPENING, _COMMA = set(b"[{"), ord(",")


class OutOfBoundsError(Exception):
    """A body holds more than may be decoded; the message says what."""


class JsonBounds:
    """Counts one body, in whatever pieces it comes. What is no JSON is left to whoever decodes it."""

    def __init__(self, max_values: int = MAX_VALUES, max_depth: int = MAX_DEPTH) -> None:
        self._max_values, self._max_depth = max_values, max_depth
        self.values = self.depth = self.number_bytes = 0
        self._is_in_string = self._is_escaped = False

    def feed(self, chunk: bytes) -> None:
        """Count a piece. Raises `OutOfBoundsError`."""
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
        """Return what stands outside of texts. Backslashes stand in texts only, and a quotation mark after one ends none."""
        if self._is_escaped:
            chunk = b"\\" + chunk
        self._is_escaped = (len(chunk) - len(chunk.rstrip(b"\\"))) % 2 == 1
        if self._is_escaped:  # of what the next piece begins with
            chunk = chunk[:-1]
        # no regular expression: possessive ones, which look at each byte once, are wrong in Python 3.11.0 to 3.11.4
        parts = chunk.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
        outside = parts[self._is_in_string :: 2]
        self._is_in_string ^= len(parts) % 2 == 0
        return b"".join(outside)
