"""The HTTP of model calls: one POST over pooled connections, its whole answer as bytes.

Rules:
- Connections, certificates and proxies are litellm's: sessions come from the factory of litellm's own transport; where litellm is
  not imported, from `PlainTransport`.
- A redirect is not followed here, and a cookie is not kept.
- A connection that the server had closed while it waited in the pool is replaced once: it breaks at once, without a byte
  of an answer.
- An answer that comes as server-sent events is read as it comes (`event_stream.py`), and is then one that came whole.
- An answer of more than `MAX_ANSWER_BYTES`, also after it is unpacked, is not read to its end.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import ssl
import time
import zlib
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from types import SimpleNamespace
from typing import Any

import aiohttp

from rlm_ray.llm.event_stream import CONTENT_TYPE, EventStream

MAX_ANSWER_BYTES = 64 << 20
STALE_S = 2.0
"""A server that had closed a connection says so at once; one that takes longer may have worked, and be paid for it."""
END_S = 0.1
"""So long is waited for the end of a stream that has said all, so that its connection can be used again."""
MAX_CONNECTIONS, KEEPALIVE_S, DNS_CACHE_S = 0, 120.0, 300
_OK = 200
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
_UNPACKED = frozenset({"gzip", "deflate"})
_OF_STREAM = frozenset({"content-encoding", "content-length", "content-type", "transfer-encoding"})


class TooLongAnswerError(Exception):
    """The answer is longer than any reply of a model."""


class PlainTransport:
    """Makes sessions without litellm; has the names of litellm's transport that are used here."""

    def __init__(self, certificates: ssl.SSLContext | None) -> None:
        self._ssl_verify = certificates

    @staticmethod
    def _client_factory() -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            limit=MAX_CONNECTIONS, keepalive_timeout=KEEPALIVE_S, ttl_dns_cache=DNS_CACHE_S
        )
        return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())

    @staticmethod
    def _mark_connector_closed(session: aiohttp.ClientSession) -> None:
        """Close a session whose event loop may be gone, as aiohttp does at the end of a connector."""
        close = getattr(session.connector, "_close", None)
        if callable(close):
            with contextlib.suppress(RuntimeError, AttributeError, OSError):
                close()


@dataclass(frozen=True)
class HttpTarget:
    """Where and how requests of a kind are sent."""

    url: str
    headers: tuple[tuple[str, str], ...]
    timeouts_s: tuple[float | None, float | None, float | None]
    """To connect, for each read, and for a free connection."""
    proxy: str | None = None
    transport: Any = field(default=None, compare=False, repr=False)
    """litellm's own transport, which knows how to make a session, and its certificates; or one with its names."""

    @cached_property
    def arguments(self) -> dict[str, Any]:
        """Return the arguments of `ClientSession.request` that are the same for all requests."""
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

    @cached_property
    def arguments_of_stream(self) -> dict[str, Any]:
        """Return the same for a request whose answer comes as events: packed ones are held back on their way."""
        headers = [(name, value) for name, value in self.headers if name.lower() != "accept-encoding"]
        return {**self.arguments, "headers": (*headers, ("accept-encoding", "identity"))}


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
        self._sessions: dict[tuple[int, type], _LoopSession] = {}

    async def post(self, target: HttpTarget, body: bytes, events: EventStream | None = None) -> HttpAnswer:
        """Send a body; with `events` they read an answer that comes as such.

        Raises what aiohttp raises, `TooLongAnswerError`, and `BrokenStreamError`.
        """
        reuse, began = SimpleNamespace(reused=False), time.monotonic()
        try:
            return await self._post(target, body, reuse, events)
        except aiohttp.ClientConnectionError as error:
            if not (reuse.reused and _is_stale(error)) or time.monotonic() - began > STALE_S:
                raise
        return await self._post(target, body, SimpleNamespace(reused=False), events)

    async def _post(
        self, target: HttpTarget, body: bytes, reuse: SimpleNamespace, events: EventStream | None
    ) -> HttpAnswer:
        session = await self._session(target)
        arguments = target.arguments if events is None else target.arguments_of_stream
        async with session.request("POST", data=body, trace_request_ctx=reuse, **arguments) as response:
            if events is not None and response.status == _OK and response.content_type == CONTENT_TYPE:
                reuse.reused = False  # it has begun to answer: nothing is sent again
                await _read_events(response, events)
                headers = response.headers.copy()
                for name in _OF_STREAM:
                    headers.popall(name, None)
                headers["content-type"] = "application/json"
                return HttpAnswer(_OK, headers, events.completion())
            return HttpAnswer(response.status, response.headers, await _read(response.content))

    async def _session(self, target: HttpTarget) -> aiohttp.ClientSession:
        """Return the session of the running event loop."""
        loop = asyncio.get_running_loop()
        place = id(loop), type(target.transport)
        found = self._sessions.get(place)
        if found is None or found.loop is not loop or found.session.closed:
            for key in [key for key, each in self._sessions.items() if each.session.closed]:
                del self._sessions[key]
            found = self._sessions[place] = _LoopSession(loop, target.transport)
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


async def _read_events(response: aiohttp.ClientResponse, events: EventStream) -> None:
    """Read the events of an answer to its end, or till they say that nothing follows."""
    unpacker = _unpacker_of(response.headers.get("content-encoding", "").strip().lower())
    nbytes = 0
    while not events.is_done:
        block = await response.content.readany()
        if not block:
            return
        if unpacker is not None:
            try:
                block = unpacker.decompress(block, MAX_ANSWER_BYTES)
            except zlib.error as error:
                raise aiohttp.ClientPayloadError(f"a packed stream is broken: {error}") from error
        nbytes += len(block)
        if nbytes > MAX_ANSWER_BYTES or (unpacker is not None and unpacker.unconsumed_tail):
            raise TooLongAnswerError
        events.feed(block)
    with contextlib.suppress(TimeoutError, aiohttp.ClientError):
        async with asyncio.timeout(END_S):
            while await response.content.readany():
                pass


def _unpacker_of(encoding: str) -> Any:
    """Return what unpacks a body; None for one that is not packed. Raises `ClientPayloadError` for a way that is not read here."""
    if encoding in ("", "identity"):
        return None
    if encoding in _UNPACKED:
        return zlib.decompressobj(_GZIP_OR_ZLIB)
    raise aiohttp.ClientPayloadError(
        f"a stream of events was packed as {encoding!r}, which was not asked for"
    )


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
