"""A `Line` is the direct way to an actor whom everybody asks all the time: one TCP connection for each process.

Ray stays the address and the lifeline: the actor is found, started and restarted by it, and tells where its line
is (`Address`, with a token that only those who can ask the actor know). But an actor call costs 1-2 ms of CPU on
each side, and there are several messages for every model call; a frame costs a tenth of that.

A call whose connection breaks is cancelled at the actor: one that never returns tells it when a process is gone.

Frames are a length, a number and a pickle: both ends are processes of one cluster that already trust each other's
pickles through Ray. Nothing is unpickled before the token was shown. Whatever breaks is a `ConnectionError`; the
next exchange asks for the address anew.
"""

from __future__ import annotations

import asyncio
import hmac
import itertools
import pickle
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

_HEAD = struct.Struct("!IQ")
MOST_BYTES = 64 * 2**20
HELLO_S = 5.0


@dataclass(frozen=True, slots=True)
class Address:
    """Where a line can be had, and what to show there."""

    host: str
    port: int
    token: bytes


class Line:
    """The end at the actor. `close` it when the shell goes."""

    def __init__(self, shell: object, methods: frozenset[str], token: bytes) -> None:
        self._shell = shell
        self._methods = methods
        self._token = token
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def listen(self, host: str) -> Address:
        """Open it at `host`, an address of this machine; the answer is for the clients."""
        self._server = await asyncio.start_server(self._serve, host, 0)
        return Address(host, self._server.sockets[0].getsockname()[1], self._token)

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
        try:
            async with asyncio.timeout(HELLO_S):
                token = await reader.readexactly(len(self._token))
            if hmac.compare_digest(token, self._token):
                async with asyncio.TaskGroup() as group:
                    while True:
                        number, (method, arguments) = await _read(reader)
                        group.create_task(self._answer(number, method, arguments, writer))
        except* (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # closed, or the client went; what it holds is found out by its time to live
        finally:
            writer.close()

    async def _answer(
        self, number: int, method: str, arguments: tuple[Any, ...], writer: asyncio.StreamWriter
    ) -> None:
        if method not in self._methods:
            raise ConnectionError(f"{method} cannot be asked for over a line")
        answer = await getattr(self._shell, method)(*arguments)
        if not writer.is_closing():
            _write(writer, number, answer)


class LineTransport:
    """The end at a client. `find` asks the actor for the address of its line."""

    def __init__(self, find: Callable[[], Awaitable[Address]]) -> None:
        self._find = find
        self._numbers = itertools.count()
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._connecting = asyncio.Lock()

    async def call(self, method: str, *arguments: Any) -> Any:
        """Ask the shell for one of its methods."""
        writer = await self._connected()
        number = next(self._numbers)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        _write(writer, number, (method, arguments))
        try:
            return await future
        finally:
            self._waiting.pop(number, None)

    async def aclose(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    async def _connected(self) -> asyncio.StreamWriter:
        async with self._connecting:
            if self._writer is None:
                address = await self._find()
                reader, self._writer = await asyncio.open_connection(address.host, address.port)
                self._writer.write(address.token)
                self._reading = asyncio.create_task(self._read_on(reader, self._writer))
            return self._writer

    async def _read_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Lives as long as the connection; `aclose` ends it."""
        try:
            while True:
                number, answer = await _read(reader)
                if number in self._waiting and not self._waiting[number].done():
                    self._waiting[number].set_result(answer)
        except (OSError, asyncio.IncompleteReadError) as error:
            self._break(ConnectionError(f"the line broke: {error}"))
        finally:
            self._writer = None
            writer.close()

    def _break(self, error: ConnectionError) -> None:
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(error)


def _write(writer: asyncio.StreamWriter, number: int, value: object) -> None:
    body = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    writer.write(_HEAD.pack(len(body), number) + body)


async def _read(reader: asyncio.StreamReader) -> tuple[int, Any]:
    length, number = _HEAD.unpack(await reader.readexactly(_HEAD.size))
    if length > MOST_BYTES:
        raise ConnectionError(f"a frame of {length} bytes cannot be one of ours")
    return number, pickle.loads(await reader.readexactly(length))  # noqa: S301 - the peer showed the token
