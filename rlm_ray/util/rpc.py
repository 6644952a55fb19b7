"""Calls to an actor over one TCP connection for each process, beside Ray: `RpcServer` in the actor, `RpcClient` in the others.

Ray finds, starts and restarts the actor, which tells the address of its server (`RpcAddress`, with a token that only those
who can call the actor know). But an actor call costs 1-2 ms of CPU on each side, and there are several messages for every
model call; a frame costs a tenth of that.

    hello  = MAGIC | PROTOCOL (2 bytes) | fingerprint of the codec (8) | token       and back:
    answer = MAGIC | PROTOCOL | fingerprint | version of the package, length first
    then messages (`frames.py`): CALL (method, arguments) → REPLY value, or ERROR (class, sentence); CANCEL

Rules:
- Messages are those of a `Codec` and nothing else; nothing is decoded before the token was shown.
- Two ends of different versions close the connection after the hello (`VersionMismatchError`).
- What fails in one call is its caller's (`RemoteCallError`): its method raised, it or its reply cannot be encoded or
  decoded, is too long, or one too many. Others go on. An error that is a message type of the codec is raised as itself.
- A call has a deadline (`TimeoutError`). A call that is given up, or whose connection breaks, is cancelled at the actor:
  one that never returns tells it when a process is gone.
- Whatever breaks the connection is a `ConnectionError`; the next call asks for the address anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import itertools
import logging
import struct
from collections import Counter
from collections.abc import Awaitable, Callable
from contextvars import Context
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import version
from typing import Any

from rlm_ray.errors import RemoteCallError, RLMError, VersionMismatchError
from rlm_ray.util.frames import MAX_MESSAGE_BYTES, Channel, Kind, Message
from rlm_ray.util.rpc_service import CALL_TIMEOUT_S, PLAIN, Codec, CodecError

PROTOCOL = 2
"""The version of the protocol of all detached actors, in their names as well: raise it where an older version would misread
what is sent."""
HANDSHAKE_TIMEOUT_S = 5.0
MAX_CALLS = 10_000
"""The most calls under way at once on one connection."""

_MAGIC = b"RLMR"
_HELLO = struct.Struct("!4sH8s")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RpcAddress:
    """The address of a server, and the token to show there."""

    host: str
    port: int
    token: bytes


class RpcServer:
    """Serves methods of an object in an actor; `close` it before the object goes."""

    def __init__(self, target: object, methods: frozenset[str], token: bytes, codec: Codec = PLAIN) -> None:
        self._target = target
        self._methods = methods
        self._token = token
        self._codec = codec
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.calls: Counter[str] = Counter()
        """Calls that came in, by method."""

    async def listen(self, host: str) -> RpcAddress:
        """Listen at `host`, an address of this machine; returns the address for clients."""
        self._server = await asyncio.start_server(self._serve, host, 0)
        return RpcAddress(host, self._server.sockets[0].getsockname()[1], self._token)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:  # the server's own task for this connection
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        channel = Channel(reader, writer)
        try:
            async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
                is_same = await self._greet(reader, writer)
            if is_same:
                await self._answer_all(channel)
        except* (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # closed, or the client went; what it holds is found out by its time to live
        finally:
            channel.close()

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Tell whether the client knows the token and speaks as we do; one that knows the token is told how we speak."""
        magic, protocol, fingerprint = _HELLO.unpack(await reader.readexactly(_HELLO.size))
        token = await reader.readexactly(len(self._token))
        if magic != _MAGIC or not hmac.compare_digest(token, self._token):
            return False
        own_version = _package_version().encode()[:255]
        writer.write(_hello(self._codec) + bytes([len(own_version)]) + own_version)
        await writer.drain()
        return (protocol, fingerprint) == (PROTOCOL, self._codec.fingerprint)

    async def _answer_all(self, channel: Channel) -> None:
        calls: dict[int, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as group:
            while True:
                await (
                    channel.wait_until_writable()
                )  # one that does not read its answers is not asked for more
                message = await channel.receive()
                number = message.number
                if message.kind is Kind.CANCEL:
                    if number in calls:
                        calls[number].cancel()
                elif len(calls) >= MAX_CALLS:
                    why = f"more than {MAX_CALLS} calls of one process are under way"
                    await channel.send(number, Kind.ERROR, _error_body(why))
                else:
                    calls[number] = group.create_task(self._answer(message, channel))
                    calls[number].add_done_callback(partial(_forget, calls, number))

    async def _answer(self, message: Message, channel: Channel) -> None:
        kind, method = Kind.REPLY, ""
        try:
            method, arguments = self._call_of(message)
            body = _checked(self._codec.encode(await self._outcome(method, arguments)), "reply")
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this caller's and nobody else's
            if not isinstance(error, CodecError | RLMError):
                _log.warning("a call of %s failed", method or "an unknown method", exc_info=True)
            kind, body = Kind.ERROR, _error_body(_sentence(error))
        await self._send(channel, message.number, kind, body)

    async def _outcome(self, method: str, arguments: tuple[Any, ...]) -> Any:
        """Return what a method returns, or the error of the codec that it raises."""
        try:
            return await getattr(self._target, method)(*arguments)
        except Exception as error:
            if self._codec.knows(type(error)):
                return error
            raise

    @staticmethod
    async def _send(channel: Channel, number: int, kind: Kind, body: bytes) -> None:
        with contextlib.suppress(ConnectionError):
            await channel.send(number, kind, body)

    def _call_of(self, message: Message) -> tuple[str, tuple[Any, ...]]:
        """Return the method and the arguments of a call."""
        if message.kind is not Kind.CALL or message.body is None:
            raise CodecError(_too_long("call") if message.body is None else "a reply is no call")
        call = self._codec.decode(message.body)
        if not (
            isinstance(call, tuple)
            and len(call) == 2
            and isinstance(call[0], str)
            and isinstance(call[1], tuple)
        ):
            raise CodecError("is not a method with its arguments")
        if call[0] not in self._methods:
            raise CodecError(f"{call[0]} may not be called")
        self.calls[call[0]] += 1
        return call


class RpcClient:
    """Calls methods at a server. `resolve` asks the actor for its address; `codec` is the actor's."""

    def __init__(self, resolve: Callable[[], Awaitable[RpcAddress]], codec: Codec = PLAIN) -> None:
        self._resolve = resolve
        self._codec = codec
        self._request_ids = itertools.count()
        self._channel: Channel | None = None
        self._reader_task: asyncio.Task[None] | None = None
        self._pending: dict[int, asyncio.Future[Message]] = {}
        self._connecting = asyncio.Lock()

    async def call(self, method: str, *arguments: Any, timeout_s: float | None = CALL_TIMEOUT_S) -> Any:
        """Call a method.

        Raises `RemoteCallError` where this call fails, `TimeoutError` after its deadline (None: there is none),
        `ConnectionError` where the connection breaks, `VersionMismatchError`.
        """
        try:
            body = _checked(self._codec.encode((method, arguments)), "call")
        except CodecError as error:
            raise RemoteCallError(f"a call of {method} {error}") from error
        try:
            async with asyncio.timeout(timeout_s) as deadline:
                return self._value_of(method, await self._exchange(body))
        except TimeoutError as error:
            if deadline.expired():
                raise TimeoutError(f"{method} was not answered within {timeout_s:g} s") from error
            raise

    async def aclose(self) -> None:
        if self._reader_task is not None:
            self._reader_task.cancel()
            await asyncio.gather(self._reader_task, return_exceptions=True)

    async def _exchange(self, body: bytes) -> Message:
        """Send a call; returns the message that answers it."""
        channel = self._channel or await self._connected()
        number = next(self._request_ids)
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._pending[number] = future
        try:
            await channel.send(number, Kind.CALL, body)
            return await future
        except asyncio.CancelledError:
            channel.cancel(number)
            raise
        finally:
            self._pending.pop(number, None)

    async def _connected(self) -> Channel:
        async with self._connecting:
            if self._channel is None:
                address = await self._resolve()
                try:
                    async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
                        self._channel = await self._open_channel(address)
                except TimeoutError as error:  # no deadline of the call: it may be made again
                    why = f"the actor did not greet within {HANDSHAKE_TIMEOUT_S:g} s"
                    raise ConnectionError(why) from error
                loop = asyncio.get_running_loop()
                self._reader_task = loop.create_task(self._read_loop(self._channel), context=Context())
            return self._channel

    async def _open_channel(self, address: RpcAddress) -> Channel:
        reader, writer = await asyncio.open_connection(address.host, address.port)
        try:
            await self._greet(reader, writer, address)
        except asyncio.IncompleteReadError as error:
            writer.close()
            raise ConnectionError("the actor closed the connection at once") from error
        except BaseException:
            writer.close()
            raise
        return Channel(reader, writer)

    async def _greet(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: RpcAddress
    ) -> None:
        writer.write(_hello(self._codec) + address.token)
        magic, protocol, fingerprint = _HELLO.unpack(await reader.readexactly(_HELLO.size))
        (length,) = await reader.readexactly(1)
        their_version = (await reader.readexactly(length)).decode("utf-8", "replace")
        if magic != _MAGIC:
            raise ConnectionError("what answers is no server of rlm_ray")
        if (protocol, fingerprint) != (PROTOCOL, self._codec.fingerprint):
            raise VersionMismatchError(
                f"the cluster's detached actors are of rlm-ray {their_version} (protocol {protocol}), this process is "
                f"of rlm-ray {_package_version()} (protocol {PROTOCOL}), and the two cannot talk: install one version "
                "everywhere, then end the old actors with `rlm-ray shutdown --all-versions`"
            )

    async def _read_loop(self, channel: Channel) -> None:
        """Deliver messages as long as the connection lives; `aclose` ends it."""
        try:
            while True:
                message = await channel.receive()
                future = self._pending.get(message.number)
                if future is not None and not future.done():
                    future.set_result(message)
        except (OSError, asyncio.IncompleteReadError) as error:
            self._fail_pending(ConnectionError(f"the connection broke: {error}"))
        except asyncio.CancelledError:
            self._fail_pending(ConnectionError("the connection was closed"))
            raise
        finally:
            self._channel = None
            channel.close()

    def _value_of(self, method: str, message: Message) -> Any:
        """Return what a reply brings. Raises `RemoteCallError`."""
        if message.body is None:
            raise RemoteCallError(f"the reply to {method} {_too_long('reply')}")
        try:
            if message.kind is Kind.ERROR:
                why = str(PLAIN.decode(message.body))
                raise RemoteCallError(f"a call of {method} failed: {why}")
            value = self._codec.decode(message.body)
        except CodecError as error:
            raise RemoteCallError(f"the reply to {method} {error}") from error
        if isinstance(value, RLMError):
            raise value
        return value

    def _fail_pending(self, error: ConnectionError) -> None:
        for future in self._pending.values():
            if not future.done():
                future.set_exception(error)


def _forget(calls: dict[int, asyncio.Task[None]], number: int, _: asyncio.Task[None]) -> None:
    calls.pop(number, None)


def _hello(codec: Codec) -> bytes:
    return _HELLO.pack(_MAGIC, PROTOCOL, codec.fingerprint)


def _error_body(sentence: str) -> bytes:
    return PLAIN.encode(sentence[:10_000])


def _checked(body: bytes, what: str) -> bytes:
    """Return the body of a message. Raises `CodecError` where it is too long."""
    if len(body) > MAX_MESSAGE_BYTES:
        raise CodecError(_too_long(what, len(body)))
    return body


def _sentence(error: Exception) -> str:
    if isinstance(error, CodecError | RLMError):
        return str(error)
    return f"{type(error).__name__}: {error}"


def _too_long(what: str, length: int = 0) -> str:
    size = f" of {length:,} bytes" if length else ""
    return f"cannot be sent: a {what}{size} is longer than the {MAX_MESSAGE_BYTES:,} bytes a message may have"


@cache
def _package_version() -> str:
    return version("rlm-ray")
