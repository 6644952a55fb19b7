"""A `Channel` carries messages of any length over one TCP connection, in frames, so that none holds up the others.

    frame = length of its part (4 bytes) | number of the call (8) | kind, with MORE if it is not the last (1) | part

- A long message leaves in parts of `PART_BYTES`, in turn with those of others: a small one overtakes it.
- `send` waits while more than `MAX_QUEUED_BYTES` have not left: a peer that does not read stops those who write to it.
  Messages of one part and longer ones wait apart, or a long one would stop the short ones after all.
- A message of more than `MAX_MESSAGE_BYTES` is not kept; its number arrives with no body, so that the call can be answered with an error.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from dataclasses import dataclass
from enum import IntEnum

PART_BYTES = 256 * 2**10
MAX_QUEUED_BYTES = 8 * 2**20
MAX_MESSAGE_BYTES = 2**30
KEEPALIVE_S = 15
"""A peer whose machine is gone says nothing: after so long without news the kernel asks, three times."""

_HEAD = struct.Struct("!IQB")
_MORE = 0x80


class Kind(IntEnum):
    """What a message is."""

    CALL = 1
    REPLY = 2
    ERROR = 3
    CANCEL = 4
    """Nobody waits for this call any more; also takes back one of which not all has come."""


@dataclass(frozen=True, slots=True)
class Message:
    """One whole message."""

    number: int
    kind: Kind
    body: bytes | bytearray | None
    """None: it was too long."""


class _SendBuffer:
    """Counts the bytes of messages that were not sent yet; `is_free` is set while more may be queued."""

    __slots__ = ("is_free", "queued_bytes")

    def __init__(self) -> None:
        self.queued_bytes = 0
        self.is_free = asyncio.Event()
        self.is_free.set()

    def add(self, queued_bytes: int) -> None:
        """Add bytes; below zero: bytes that were sent."""
        self.queued_bytes += queued_bytes
        if self.queued_bytes > MAX_QUEUED_BYTES:
            self.is_free.clear()
        else:
            self.is_free.set()


@dataclass(slots=True)
class _Outgoing:
    number: int
    kind: Kind
    rest: memoryview
    buffer: _SendBuffer
    begun: bool = False


class Channel:
    """Both directions of one connection; used by one event loop. Whatever breaks it is an `OSError`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._outgoing: deque[_Outgoing] = deque()
        self._short, self._long = _SendBuffer(), _SendBuffer()
        self._sending: asyncio.Task[None] | None = None
        self._incoming: dict[int, bytearray | None] = {}
        """Parts of messages that are not whole; None for one that is too long."""
        self._incoming_bytes = 0
        keep_alive(writer)

    async def send(self, number: int, kind: Kind, body: bytes) -> None:
        """Queue a message, as soon as there is room for it."""
        await self._wait_for(self._buffer_of(body))
        if not self._outgoing and len(body) <= PART_BYTES and not self._is_congested():
            self._write(number, kind, body)
        else:
            self._enqueue(number, kind, body)

    async def wait_until_writable(self) -> None:
        """Return when the peer has taken enough of what was sent. Raises `ConnectionError` where it is gone."""
        await self._wait_for(self._short)

    def cancel(self, number: int) -> None:
        """Cancel a call: what was not sent of it is dropped."""
        if self._writer.is_closing():
            return
        for outgoing in self._outgoing:
            if outgoing.number == number:
                self._outgoing.remove(outgoing)
                outgoing.buffer.add(-len(outgoing.rest))
                if not outgoing.begun:
                    return
                break
        self._enqueue(number, Kind.CANCEL, b"")

    async def receive(self) -> Message:
        """Return the next whole message."""
        while True:
            length, number, flags = _HEAD.unpack(await self._reader.readexactly(_HEAD.size))
            kind, has_more = _kind(flags), bool(flags & _MORE)
            if length > PART_BYTES:
                raise ConnectionError(f"a frame of {length} bytes cannot be one of ours")
            part = await self._reader.readexactly(length)
            if kind is Kind.CANCEL:
                self._incoming_bytes -= len(self._incoming.pop(number, None) or b"")
                return Message(number, kind, b"")
            if not has_more and number not in self._incoming:
                return Message(number, kind, part)
            self._keep(number, part)
            if not has_more:
                body = self._incoming.pop(number)
                self._incoming_bytes -= len(body or b"")
                return Message(number, kind, body)

    def close(self) -> None:
        """Close the connection; those who wait to send get a `ConnectionError`."""
        if self._sending is not None:
            self._sending.cancel()
        self._give_up()

    def _keep(self, number: int, part: bytes) -> None:
        body = self._incoming.setdefault(number, bytearray())
        if body is None:
            return
        if self._incoming_bytes + len(part) > MAX_MESSAGE_BYTES:
            self._incoming_bytes -= len(body)
            self._incoming[number] = None
            return
        body += part
        self._incoming_bytes += len(part)

    def _is_congested(self) -> bool:
        return self._writer.transport.get_write_buffer_size() > PART_BYTES

    def _enqueue(self, number: int, kind: Kind, body: bytes) -> None:
        buffer = self._buffer_of(body)
        buffer.add(len(body))
        self._outgoing.append(_Outgoing(number, kind, memoryview(body), buffer))
        if self._sending is None:
            self._sending = asyncio.get_running_loop().create_task(self._send_queue())

    async def _send_queue(self) -> None:
        """Send a part of each message in turn, until there is nothing left; `close` cancels it."""
        try:
            while self._outgoing:
                outgoing = self._outgoing.popleft()
                part, outgoing.rest = outgoing.rest[:PART_BYTES], outgoing.rest[PART_BYTES:]
                has_more = len(outgoing.rest) > 0
                self._write(outgoing.number, outgoing.kind, part, has_more=has_more)
                outgoing.begun = True
                if has_more:
                    self._outgoing.append(outgoing)
                outgoing.buffer.add(-len(part))
                await self._writer.drain()
        except OSError:
            self._give_up()  # the reading end says why
        finally:
            self._sending = None

    def _write(self, number: int, kind: Kind, part: bytes | memoryview, *, has_more: bool = False) -> None:
        head = _HEAD.pack(len(part), number, kind | (_MORE if has_more else 0))
        self._writer.write(head + part)

    def _buffer_of(self, body: bytes) -> _SendBuffer:
        return self._short if len(body) <= PART_BYTES else self._long

    async def _wait_for(self, buffer: _SendBuffer) -> None:
        if not buffer.is_free.is_set():
            await buffer.is_free.wait()
        if self._writer.is_closing():
            raise ConnectionError("the connection is closed")

    def _give_up(self) -> None:
        self._outgoing.clear()
        self._writer.close()
        for buffer in (self._short, self._long):
            buffer.is_free.set()


def keep_alive(writer: asyncio.StreamWriter) -> None:
    """Turn TCP keep-alive on: the kernel finds out that the peer's machine is gone. Nothing for sockets of this machine."""
    connection = writer.get_extra_info("socket")
    if connection is None or connection.family == socket.AF_UNIX:
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_S // 3)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)


def _kind(flags: int) -> Kind:
    try:
        return Kind(flags & ~_MORE)
    except ValueError:
        raise ConnectionError(f"a frame of kind {flags} cannot be one of ours") from None
