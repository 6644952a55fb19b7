"""The session actor's side of the tools: a process for each set of them, started when first needed.

A call that hangs is given up after its time; its process takes no further calls and is killed once the others in it are
over, for nothing stops a thread. A process that dies fails the calls that were in it, and the next call starts another.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rlm_ray.core.repl_types import Failed, SubCallAnswer, SubCallOutcome, ToolRequest
from rlm_ray.core.tools import Tool, ToolLimits, ToolSpec, specs_from_json
from rlm_ray.errors import ToolError
from rlm_ray.sandbox.wire.frames import Decoder, Frame, FrameError, encode

MAX_SETS = 8
"""Sets of tools whose process is kept in one actor; more end those that were idle longest."""
_READ_BYTES = 1 << 18
_HEAD_BYTES = 1 << 16
_SPECS_BYTES = 4 << 20
_REAP_S = 5.0
_ENVIRONMENT = re.compile(
    r"^(PATH|HOME|USER|LOGNAME|SHELL|TERM|LANG|LANGUAGE|LC_[A-Z]+|TZ|TMPDIR|TEMP|TMP|LD_LIBRARY_PATH|VIRTUAL_ENV|PYTHON[A-Z]+"
    r"|SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|no_proxy|NO_PROXY)$"
)
"""What the process of the tools gets of its actor's environment: no key, whatever its name."""


class ToolHosts:
    """The tools of one session actor, by what they are."""

    def __init__(self, folders: Sequence[str] = ()) -> None:
        """`folders`: where functions find the modules of their program, after all others."""
        self._folders = tuple(folders)
        self._boxes: dict[Any, Toolbox] = {}

    async def open(self, tools: Sequence[Tool], servers: Mapping[str, Any], limits: ToolLimits) -> Toolbox:
        """Return the tools, ready to be called. Raises `ToolError` where an MCP server does not start."""
        key = (tuple(tools), json.dumps(dict(servers), sort_keys=True, default=str), limits)
        box = self._boxes.pop(key, None) or Toolbox(tuple(tools), servers, limits, self._folders)
        self._boxes[key] = box  # the one used last stands at the end
        await box.list_tools()
        idle = [key for key, each in self._boxes.items() if each.is_idle and each is not box]
        for old in idle[: max(0, len(self._boxes) - MAX_SETS)]:
            await self._boxes.pop(old).aclose()
        return box

    async def aclose(self) -> None:
        for box in self._boxes.values():
            await box.aclose()


class Toolbox:
    """One set of tools."""

    def __init__(
        self,
        tools: tuple[Tool, ...],
        servers: Mapping[str, Any],
        limits: ToolLimits,
        folders: Sequence[str] = (),
    ) -> None:
        self._tools, self._servers, self._limits, self._folders = tools, servers, limits, tuple(folders)
        self._permits = asyncio.Semaphore(int(limits.max_concurrent))
        self._starting = asyncio.Lock()
        self._process: ToolProcess | None = None
        self._specs = tuple(ToolSpec(tool.name, tool.signature, tool.doc) for tool in tools)
        self._from_servers: tuple[ToolSpec, ...] | None = None if servers else ()
        self._calls = 0

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        """Return the functions, then the tools of MCP servers."""
        return (*self._specs, *(self._from_servers or ()))

    @property
    def is_idle(self) -> bool:
        return not self._calls

    async def list_tools(self) -> None:
        """Ask MCP servers for their tools, where there are any. Raises `ToolError`."""
        if self._from_servers is None:
            await self._running()

    async def call(self, request: ToolRequest) -> SubCallOutcome:
        """Call one; whatever goes wrong is an outcome."""
        if len(request.arguments) > self._limits.max_argument_bytes:
            return Failed(
                "ArgumentError", f"its arguments are more than {self._limits.max_argument_bytes:,} bytes"
            )
        self._calls += 1
        try:
            async with self._permits:
                process = await self._running()
                return await self._call(process, request)
        except ToolError as error:
            return Failed("ToolError", str(error))
        finally:
            self._calls -= 1

    async def _call(self, process: ToolProcess, request: ToolRequest) -> SubCallOutcome:
        try:
            async with asyncio.timeout(self._limits.timeout_s):
                return await process.call(request)
        except TimeoutError:
            why = f"it gave no result within {self._limits.timeout_s:g} s and was given up (tool_limits.timeout_s)"
            return Failed("TimeoutError", why)
        finally:
            if process.is_stuck and self._process is process:
                self._process = None
            await process.close_if_unused()

    async def _running(self) -> ToolProcess:
        async with self._starting:
            if self._process is not None and not self._process.is_alive:
                await self._process.aclose()
                self._process = None
            if self._process is None:
                self._process = await ToolProcess.start(
                    self._tools, self._servers, self._limits, self._folders
                )
                self._from_servers = self._process.specs
            return self._process

    async def aclose(self) -> None:
        if self._process is not None:
            await self._process.aclose()
            self._process = None


class ToolProcess:
    """One process in which tools run."""

    def __init__(self, process: subprocess.Popen[bytes], channel: socket.socket, limits: ToolLimits) -> None:
        self._process, self._channel = process, channel
        most = max(int(limits.max_result_bytes), _SPECS_BYTES) + _HEAD_BYTES
        self._decoder = Decoder(max_bytes=most, max_head=_HEAD_BYTES)
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[SubCallOutcome]] = {}
        self._reading: asyncio.Task[None] | None = None
        self._writing = asyncio.Lock()
        self.specs: tuple[ToolSpec, ...] = ()
        """Of its MCP servers."""
        self.is_stuck = False
        """A call in it was given up, or a server of it is gone; it takes no other calls."""
        self._ended = False

    @property
    def is_alive(self) -> bool:
        return not self._ended and not self.is_stuck

    @classmethod
    async def start(
        cls, tools: Sequence[Tool], servers: Mapping[str, Any], limits: ToolLimits, folders: Sequence[str]
    ) -> ToolProcess:
        """Start it, and its servers. Raises `ToolError`."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs:
            process = await asyncio.to_thread(_spawn, theirs, folders)
        started = cls(process, ours, limits)
        try:
            async with asyncio.timeout(limits.start_timeout_s):
                await started._open(tools, servers, limits)
        except TimeoutError:
            await started.aclose()
            names = ", ".join(servers) or "the functions"
            why = f"did not start within {limits.start_timeout_s:g} s ({names}); see whether they do by hand"
            raise ToolError("tools", why) from None
        except BaseException:
            await started.aclose()
            raise
        started._reading = asyncio.create_task(started._read())
        return started

    async def call(self, request: ToolRequest) -> SubCallOutcome:
        """Call a tool. Cancelled, it is given up."""
        number = next(self._numbers)
        reply: asyncio.Future[SubCallOutcome] = asyncio.get_running_loop().create_future()
        self._waiting[number] = reply
        try:
            await self._write(encode("call", [request.name, request.arguments], id=number))
            return await reply
        except asyncio.CancelledError:
            self.is_stuck = True
            raise
        finally:
            del self._waiting[number]

    async def close_if_unused(self) -> None:
        """End it where a call in it was given up and no other is under way."""
        if self.is_stuck and not self._waiting:
            await self.aclose()

    async def aclose(self) -> None:
        """Kill it and what it started; bounded."""
        self._ended = True
        if self._reading is not None:
            self._reading.cancel()
        self._channel.close()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(self._process.wait, _REAP_S)
        self._fail_waiting("its process was ended")

    async def _open(self, tools: Sequence[Tool], servers: Mapping[str, Any], limits: ToolLimits) -> None:
        codes = [base64.b64encode(tool.code).decode() for tool in tools]
        opening = encode(
            "open",
            [json.dumps(dict(servers), default=dict), *codes],
            names=[tool.name for tool in tools],
            max_result_bytes=int(limits.max_result_bytes),
            max_concurrent=int(limits.max_concurrent),
        )
        await self._write(opening)
        frame = await self._next()
        if frame is None:
            raise ToolError(
                "tools", f"their process ended at once ({self._status()}); see the log of the session actor"
            )
        if frame.kind == "broken":
            raise ToolError(*frame.texts)
        self.specs = specs_from_json(frame.texts[0])

    async def _read(self) -> None:
        try:
            while (frame := await self._next()) is not None:
                self.is_stuck = self.is_stuck or frame.fields.get("broken") is True
                waiting = self._waiting.get(frame.fields.get("id", -1))
                if waiting is not None and not waiting.done():
                    waiting.set_result(_outcome(frame))
        except (FrameError, OSError) as error:
            self._fail_waiting(f"its process said what cannot be read ({error})")
        self._ended = True
        with contextlib.suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(self._process.wait, 1.0)
        self._fail_waiting(f"its process ended while it ran ({self._status()})")

    async def _next(self) -> Frame | None:
        loop = asyncio.get_running_loop()
        while (frame := self._decoder.next()) is None:
            try:
                data = await loop.sock_recv(self._channel, _READ_BYTES)
            except ConnectionError:
                return None
            if not data:
                return None
            self._decoder.feed(data)
        return frame

    async def _write(self, data: bytes) -> None:
        try:
            async with self._writing:
                await asyncio.get_running_loop().sock_sendall(self._channel, data)
        except OSError:
            self._ended = True
            raise ToolError("tools", f"their process has ended ({self._status()})") from None

    def _status(self) -> str:
        status = self._process.poll()
        if status is None:
            return "it closed its channel"
        return f"exit code {status}" if status >= 0 else f"killed by {signal.Signals(-status).name}"

    def _fail_waiting(self, why: str) -> None:
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_result(Failed("ToolError", why))


def _outcome(frame: Frame) -> SubCallOutcome:
    if frame.kind == "result":
        return SubCallAnswer(frame.texts[0])
    return Failed(str(frame.fields.get("error", "ToolError")), "".join(frame.texts[:1]))


def _spawn(channel: socket.socket, folders: Sequence[str]) -> subprocess.Popen[bytes]:
    environment = {name: value for name, value in os.environ.items() if _ENVIRONMENT.match(name)}
    environment["PYTHONPATH"] = os.pathsep.join(entry for entry in sys.path if entry)
    return subprocess.Popen(  # noqa: S603 - our own interpreter and our own code
        [sys.executable, "-P", "-m", "rlm_ray.tools.worker", str(channel.fileno()), *folders],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=(channel.fileno(),),
        start_new_session=True,
    )
