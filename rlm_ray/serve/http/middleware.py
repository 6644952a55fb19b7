"""ASGI middleware: a key before a body is read, limits while it is read, and a run id for every request."""

from __future__ import annotations

import asyncio

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rlm_ray.serve.http.auth import BearerAuth
from rlm_ray.serve.http.bounds import CHUNK_BYTES, JsonBounds, OutOfBoundsError
from rlm_ray.serve.http.errors import ApiError
from rlm_ray.serve.run_store import request_run_id

RUN_HEADER = "x-rlm-run-id"
"""`x-request-id` is Serve's, or the client's own; both are noted with the run."""
UPLOADS = "/v1/files"
FORM_BYTES = 64 << 10
"""What a form may hold beside its file."""


class AuthAndBodyLimitMiddleware:
    """Who sends a body must have a key before it is read."""

    def __init__(self, app: ASGIApp, guard: BearerAuth, body_bytes: int, file_bytes: int) -> None:
        self._app, self._guard = app, guard
        self._body_bytes, self._upload_bytes = body_bytes, file_bytes + FORM_BYTES

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_upload = scope["path"].rstrip("/") == UPLOADS
        most = self._upload_bytes if is_upload else self._body_bytes
        run_id = request_run_id()
        scope.setdefault("state", {})["run_id"] = run_id
        counted, begun = 0, False
        bounds = None if is_upload else JsonBounds()

        async def receive_counted() -> Message:
            nonlocal counted
            message = await receive()
            counted += len(message.get("body", b""))
            if counted > most:
                raise _too_large(most)
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
                self._guard.authenticate(Request(scope))
            if _content_length(scope) > most:
                raise _too_large(most)
            await self._app(scope, receive_counted, send_named)
        except ApiError as refusal:
            if begun:
                raise
            await refusal.reply()(scope, receive, send_named)


async def _count(bounds: JsonBounds | None, body: bytes) -> None:
    """In pieces, so that others have their turn. An upload is no JSON, and not counted."""
    if bounds is None:
        return
    try:
        for start in range(0, len(body), CHUNK_BYTES):
            bounds.feed(body[start : start + CHUNK_BYTES])
            await asyncio.sleep(0)
    except OutOfBoundsError as error:
        why = f"the body {error}; send long texts as few messages, or upload them as files"
        raise ApiError(413, "too_many_values", why) from None


def _too_large(most: int) -> ApiError:
    return ApiError(413, "too_large", f"the body is larger than the {most:,} bytes allowed here")


def _content_length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0
