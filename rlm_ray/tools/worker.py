"""The process in which tools run: exec-ed with an environment of its own, it never holds a provider key.

    host: {"kind": "open", limits} + [MCP servers as JSON, functions in base64 ...]   {"kind": "call", "id"} + [name, arguments]
    here: {"kind": "ready"} + [tools of MCP servers as JSON]   {"kind": "broken"} + [why]
          {"kind": "result", "id"} + [JSON]   {"kind": "failed", "id", "error", "broken"} + [why]; broken: this process is of no use any more

Plain functions run in threads, async ones on the loop. Nothing here can stop a thread: a host that waited long enough
for a call ends the process. When the socket ends, so does everything here.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import inspect
import json
import os
import pickle
import signal
import socket
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from rlm_ray.core.tools import MAX_WHY_CHARS, specs_to_json
from rlm_ray.errors import ToolError
from rlm_ray.sandbox.wire.frames import Decoder, Frame, encode
from rlm_ray.tools.calling import ArgumentError, ResultError, bind, result_to_json, validator
from rlm_ray.tools.mcp_servers import McpServerLostError, McpServers, McpToolError

_READ_BYTES = 1 << 18


class Worker:
    """Serves one host until its socket ends."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._decoder = Decoder(max_bytes=1 << 30, max_head=1 << 20)
        self._writing = asyncio.Lock()
        self._functions: dict[str, Callable[..., Any]] = {}
        self._servers = McpServers()
        self._threads = ThreadPoolExecutor(1)
        self._max_bytes = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        while (frame := await self._receive()) is not None:
            if frame.kind == "open":
                await self._open(frame)
            else:
                task = asyncio.create_task(self._answer(frame.fields["id"], *frame.texts))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _open(self, frame: Frame) -> None:
        servers, *codes = frame.texts
        self._max_bytes = frame.fields["max_result_bytes"]
        self._threads = ThreadPoolExecutor(frame.fields["max_concurrent"], "tool")
        names = frame.fields["names"]
        try:
            for name, code in zip(names, codes, strict=True):
                self._functions[name] = _function(name, code)
            specs = await self._servers.start(json.loads(servers), taken=names)
        except ToolError as error:
            await self._send(encode("broken", [error.name, error.why]))
            return
        await self._send(encode("ready", [specs_to_json(specs)]))

    async def _answer(self, call: int, name: str, arguments: str) -> None:
        try:
            reply = encode("result", [await self._call(name, arguments)], id=call)
        except ArgumentError as error:
            reply = _failed(call, "ArgumentError", str(error))
        except ResultError as error:
            reply = _failed(call, "ResultError", str(error))
        except McpToolError as error:
            reply = _failed(call, "ToolError", str(error))
        except McpServerLostError as error:
            reply = _failed(call, "ToolError", str(error), is_broken=True)
        except BaseException as error:  # noqa: BLE001 - whatever a tool raises is its answer
            reply = _failed(call, type(error).__name__, _error_text(error))
        await self._send(reply)

    async def _call(self, name: str, arguments: str) -> str:
        if name not in self._functions:
            return result_to_json(await self._servers.call(name, arguments), self._max_bytes)
        call = bind(self._functions[name], arguments)
        if _is_async(call):
            value = await call()
        else:
            value = await asyncio.get_running_loop().run_in_executor(self._threads, call)
        if inspect.isawaitable(value):
            value = await value
        write = partial(result_to_json, value, self._max_bytes)
        return await asyncio.get_running_loop().run_in_executor(self._threads, write)

    async def _receive(self) -> Frame | None:
        loop = asyncio.get_running_loop()
        while (frame := self._decoder.next()) is None:
            data = await loop.sock_recv(self._channel, _READ_BYTES)
            if not data:
                return None
            self._decoder.feed(data)
        return frame

    async def _send(self, data: bytes) -> None:
        async with self._writing:
            with contextlib.suppress(OSError):  # the host is gone; the next read says so
                await asyncio.get_running_loop().sock_sendall(self._channel, data)


def _function(name: str, code: str) -> Callable[..., Any]:
    try:
        function, hints = pickle.loads(base64.b64decode(code))  # noqa: S301 - the user's own functions, from their driver
        return validator(function, hints)
    except Exception as error:
        why = f"cannot be loaded in the process of the tools: {type(error).__name__}: {error}"
        raise ToolError(name, why) from error


def _is_async(call: Callable[[], Any]) -> bool:
    target = call.func if isinstance(call, partial) else call
    return inspect.iscoroutinefunction(target) or inspect.iscoroutinefunction(type(target).__call__)


def _failed(call: int, kind: str, why: str, *, is_broken: bool = False) -> bytes:
    return encode("failed", [why[:MAX_WHY_CHARS]], id=call, error=kind[:100], broken=is_broken)


def _error_text(error: BaseException) -> str:
    try:
        said = str(error)
    except Exception:  # noqa: BLE001 - its __str__ is code of the tool
        said = ""
    name = type(error).__name__
    return f"it raised {name}: {said}" if said else f"it raised {name}"


def main() -> None:
    channel = socket.socket(fileno=int(sys.argv[1]))
    channel.setblocking(False)
    for folder in sys.argv[2:]:
        if folder not in sys.path:
            sys.path.append(folder)
    asyncio.run(_main(channel))


async def _main(channel: socket.socket) -> None:
    with contextlib.suppress(OSError):
        await Worker(channel).serve()
    # Threads that hang, and servers that do not hear that their input ended, end with this process group.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(0, signal.SIGTERM)
    os._exit(0)


if __name__ == "__main__":
    main()
