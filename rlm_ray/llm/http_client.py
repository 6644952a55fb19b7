"""The HTTP of model calls: one POST over pooled connections, its whole answer as bytes.

Rules:
- Connections, certificates and proxies are litellm's: sessions come from the factory of litellm's own transport.
- A redirect is not followed here, and a cookie is not kept.
- A connection that the server had closed while it waited in the pool is replaced once: it breaks at once, without a byte
  of an answer.
- An answer of more than `MAX_ANSWER_BYTES`, also after it is unpacked, is not read to its end.
"""

from __future__ import annotations

import asyncio
import atexit
import time
import zlib
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from types import SimpleNamespace
from typing import Any

import aiohttp

MAX_ANSWER_BYTES = 64 << 20
STALE_S = 2.0
"""A server that had closed a connection says so at once; one that takes longer may have worked, and be paid for it."""
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
_UNPACKED = frozenset({"gzip", "deflate"})


class TooLongAnswerError(Exception):
    """The answer is longer than any reply of a model."""


@dataclass(frozen=True)
class HttpTarget:
    """Where and how requests of a kind are sent."""

    url: str
    headers: tuple[tuple[str, str], ...]
    timeouts_s: tuple[float | None, float | None, float | None]
    """To connect, for each read, and for a free connection."""
    proxy: str | None = None
    transport: Any = field(default=None, compare=False, repr=False)
    """litellm's own transport, which knows how to make a session, and its certificates."""

    @cached_property
    def arguments(self) -> dict[str, Any]:
        """The arguments of `ClientSession.request` that are the same for all requests."""
        connect_s, read_s, pool_s = self.timeouts_s
        arguments: dict[str, Any] = {
            "url": self.url,
            "headers": self.headers,
            "timeout": aiohttp.ClientTimeout(sock_connect=connect_s, sock_read=read_s, connect=pool_s),
            "proxy": self.proxy,
            "allow_redirects": False,
            "auto_decompress": False,
        }
        ssl = getattr(self.transport, "_ssl_verify", None)
        return arguments if ssl is None else {**arguments, "ssl": ssl}


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """A whole HTTP response."""

    status: int
    headers: Mapping[str, str]
    """Names in any case; one may come twice."""
    body: bytes
    """As it came: packed where `content-encoding` says so."""

    def content(self) -> bytes | None:
        """Return the unpacked body; None where it is packed in a way that is not read here."""
        encoding = self.headers.get("content-encoding", "").strip().lower()
        if encoding in ("", "identity"):
            return self.body
        return _unpack(self.body) if encoding in _UNPACKED else None


class HttpClient:
    """Sends requests. One for a process: it has a session for each event loop, which is closed when the loop ends."""

    def __init__(self) -> None:
        self._sessions: dict[int, _LoopSession] = {}

    async def post(self, target: HttpTarget, body: bytes) -> HttpAnswer:
        """Send a body. Raises what aiohttp raises, and `TooLongAnswerError`."""
        reuse, began = SimpleNamespace(reused=False), time.monotonic()
        try:
            return await self._post(target, body, reuse)
        except aiohttp.ClientConnectionError as error:
            if not (reuse.reused and _is_stale(error)) or time.monotonic() - began > STALE_S:
                raise
        return await self._post(target, body, SimpleNamespace(reused=False))

    async def _post(self, target: HttpTarget, body: bytes, reuse: SimpleNamespace) -> HttpAnswer:
        session = await self._session(target)
        async with session.request(
            "POST", data=body, trace_request_ctx=reuse, **target.arguments
        ) as response:
            return HttpAnswer(response.status, response.headers, await _read(response.content))

    async def _session(self, target: HttpTarget) -> aiohttp.ClientSession:
        """Return the session of the running event loop."""
        loop = asyncio.get_running_loop()
        found = self._sessions.get(id(loop))
        if found is None or found.loop is not loop or found.session.closed:
            for key in [key for key, each in self._sessions.items() if each.session.closed]:
                del self._sessions[key]
            found = self._sessions[id(loop)] = _LoopSession(loop, target.transport)
            await found.close_with_loop()
        return found.session

    def close(self) -> None:
        """Close what is still open at the end of the process."""
        for each in self._sessions.values():
            each.close()
        self._sessions.clear()


class _LoopSession:
    """A session of aiohttp, made as litellm makes it, and the event loop it belongs to."""

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: Any) -> None:
        self.loop = loop
        self.session: aiohttp.ClientSession = session_factory(transport)()
        self._dispose: Callable[[aiohttp.ClientSession], None] = transport._mark_connector_closed  # noqa: SLF001 - no public one
        self.session.trace_configs.append(_reuse_trace())
        self._open = self._opened()

    async def close_with_loop(self) -> None:
        """Have the session closed when its loop ends: a loop that ends closes its asynchronous generators first."""
        await anext(self._open)

    async def _opened(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await self.session.close()
            await asyncio.sleep(0)  # lets the transports close their sockets

    def close(self) -> None:
        if not self.session.closed:
            self._dispose(self.session)


def session_factory(transport: Any) -> Callable[[], aiohttp.ClientSession]:
    """Return the function by which litellm's transport makes sessions. Raises AttributeError where it has none."""
    factory: Callable[[], aiohttp.ClientSession] = transport._client_factory  # noqa: SLF001 - no public one
    return factory


@cache
def http_client() -> HttpClient:
    """Return the client of this process."""
    client = HttpClient()
    atexit.register(client.close)
    return client


def _reuse_trace() -> aiohttp.TraceConfig:
    """Have a request's context say whether its connection came from the pool."""

    async def on_reuse(_session: object, context: Any, _params: object) -> None:
        context.trace_request_ctx.reused = True

    config = aiohttp.TraceConfig()
    config.on_connection_reuseconn.append(on_reuse)
    config.freeze()
    return config


def _is_stale(error: aiohttp.ClientConnectionError) -> bool:
    """Tell whether the connection broke before anything of an answer came."""
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return isinstance(error.message, str)
    return isinstance(error, aiohttp.ClientOSError) and not isinstance(error, aiohttp.ClientConnectorError)


async def _read(content: aiohttp.StreamReader) -> bytes:
    blocks, nbytes = [], 0
    while block := await content.readany():
        blocks.append(block)
        nbytes += len(block)
        if nbytes > MAX_ANSWER_BYTES:
            raise TooLongAnswerError
    return b"".join(blocks)


def _unpack(body: bytes) -> bytes | None:
    """Return the unpacked body; None where it is broken. Raises `TooLongAnswerError`."""
    unpacker = zlib.decompressobj(_GZIP_OR_ZLIB)
    try:
        content = unpacker.decompress(body, MAX_ANSWER_BYTES)
    except zlib.error:
        return None
    if unpacker.unconsumed_tail:
        raise TooLongAnswerError
    return content if unpacker.eof and not unpacker.unused_data else None


def headers_of(answer: HttpAnswer) -> Mapping[str, str]:
    """Return its headers by lower-case names, those of one name in one."""
    headers: dict[str, str] = {}
    for name, value in answer.headers.items():
        lower = name.lower()
        headers[lower] = f"{headers[lower]}, {value}" if lower in headers else value
    return headers
