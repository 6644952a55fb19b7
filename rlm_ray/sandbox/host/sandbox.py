"""The sandbox of one actor: a zygote, and a REPL for each session that asks.

host = SandboxHost(Sandbox())
await host.start()
repl = await host.open(context, query)
result = await repl.run(["print(len(context))"], serve)
await host.aclose()
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from rlm_ray.core.context import Context
from rlm_ray.errors import SandboxError
from rlm_ray.sandbox.host.context_zygotes import ContextZygotes
from rlm_ray.sandbox.host.kernel_features import KernelFeature, probe_features, require_features
from rlm_ray.sandbox.host.repl_process import ReplProcess, ReplSpec, SubcallHandler
from rlm_ray.sandbox.host.zygote_client import ZygoteClient
from rlm_ray.sandbox.settings import Sandbox

__all__ = ["ReplProcess", "Sandbox", "SandboxManager", "SubcallHandler"]


class SandboxManager:
    """Owns the zygote and opens REPLs; belongs to one event loop."""

    def __init__(
        self, settings: Sandbox, *, probe: Callable[[], Iterable[KernelFeature]] = probe_features
    ) -> None:
        self._settings = settings
        self._probe = probe
        self._landlock = True
        self._zygote: ZygoteProcess | None = None
        self._starting = asyncio.Lock()
        self._branches = ContextZygotes(self._zygote_client)
        self._repls: set[ReplProcess] = set()
        self._closed = False

    @property
    def live_children(self) -> int:
        """Count the living REPL processes, those that are being killed among them."""
        clients = self._branches.clients
        if self._zygote is not None:
            clients.append(self._zygote.client)
        return sum(client.children for client in clients)

    @property
    def held_contexts(self) -> list[str]:
        """Return the keys of the large contexts that are held, the one used last at the end."""
        return self._branches.keys

    @property
    def zygote_pid(self) -> int | None:
        return self._zygote.pid if self._zygote is not None else None

    async def start(self) -> None:
        """Start the zygote. Raises `SandboxError`, which names the layer of the jail that this kernel lacks."""
        found = tuple(self._probe())
        require_features(found, allow_degraded=self._settings.allow_degraded)
        self._landlock = all(layer.available for layer in found if layer.name == "Landlock")
        await self._zygote_client()

    async def open(  # noqa: PLR0913 - what a REPL is opened with
        self,
        context: Context,
        query: str,
        *,
        seed: int = 0,
        filtered: bool = True,
        tools: tuple[str, ...] = (),
        argument_bytes: int = 0,
    ) -> ReplProcess:
        """Open a REPL over this context, ready to run. `filtered=False` is for tests of the jail alone."""
        if self._closed:
            raise SandboxError("the sandbox is closed")
        opening = ReplSpec(
            context, query, self._settings, seed, self._landlock, filtered, tools, argument_bytes
        )
        repl = ReplProcess(opening, self._branches, self._repls.discard)
        self._repls.add(repl)
        try:
            await repl.ready()
        except BaseException:
            await repl.aclose()
            raise
        return repl

    async def aclose(self) -> None:
        """Kill and reap everything; idempotent."""
        self._closed = True
        await asyncio.gather(*(repl.aclose() for repl in list(self._repls)))
        self._branches.close()
        async with self._starting:
            if self._zygote is not None:
                await self._zygote.aclose()
                self._zygote = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _zygote_client(self) -> ZygoteClient:
        """Return the zygote, started again if it died: its sessions lose their variables, nothing else."""
        async with self._starting:
            if self._closed:
                raise SandboxError("the sandbox is closed")
            if self._zygote is not None and not self._zygote.client.is_alive:
                await self._zygote.aclose()
                self._zygote = None
            if self._zygote is None:
                self._zygote = await ZygoteProcess.start()
            return self._zygote.client


_START_TIMEOUT_S = 30.0
_END_TIMEOUT_S = 10.0
_PACKET_BYTES = 4_096
_BOOTSTRAP = "import sys; sys.path += sys.argv[2:]; from rlm_ray.sandbox.guest.zygote import main; main(int(sys.argv[1]))"


class ZygoteProcess:
    """The exec-ed zygote and its process."""

    def __init__(self, process: subprocess.Popen[bytes], client: ZygoteClient) -> None:
        self._process = process
        self.client = client

    @property
    def pid(self) -> int:
        return self._process.pid

    @classmethod
    async def start(cls) -> ZygoteProcess:
        """Start it. Raises `SandboxError`, with what it wrote on standard error, if it does not come up."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        errors = os.memfd_create("zygote-errors")
        try:
            with theirs:
                process = _spawn(theirs, errors)
            await _wait_for_start(ours, process, errors)
        except BaseException:
            ours.close()
            raise
        finally:
            os.close(errors)
        return cls(process, ZygoteClient(ours))

    async def aclose(self) -> None:
        """End the zygote and all that it forked; bounded."""
        self.client.close()
        await _reap(self._process)


async def _wait_for_start(control: socket.socket, process: subprocess.Popen[bytes], errors: int) -> None:
    greeting = b""
    try:
        async with asyncio.timeout(_START_TIMEOUT_S):
            greeting = await asyncio.get_running_loop().sock_recv(control, _PACKET_BYTES)
    except (TimeoutError, ConnectionError):
        pass  # its standard error says more
    finally:
        if not greeting:
            process.kill()
            await _reap(process)
    if not greeting:
        raise SandboxError(f"the zygote does not start: {_read_all(errors) or 'no reason given'}")


async def _reap(process: subprocess.Popen[bytes]) -> None:
    try:
        await asyncio.to_thread(process.wait, _END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        await asyncio.to_thread(process.wait)


def _spawn(control: socket.socket, errors: int) -> subprocess.Popen[bytes]:
    # Never forks this process's memory: without a preexec function subprocess uses vfork.
    return subprocess.Popen(  # noqa: S603 - our own interpreter and our own code
        [
            sys.executable,
            "-S",
            "-s",
            "-P",
            "-X",
            "utf8",
            "-W",
            "ignore",
            "-c",
            _BOOTSTRAP,
            str(control.fileno()),
            *_search_path(),
        ],
        # A cell that is run again, here or on another node, finds sets in the same order and the same local time.
        env={"PYTHONHASHSEED": "0", "TZ": "UTC0"},
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=errors,
        pass_fds=(control.fileno(),),
        start_new_session=True,
    )


def _search_path() -> Sequence[str]:
    """Return where the zygote finds this package and RestrictedPython, and nothing else on purpose."""
    found = importlib.util.find_spec("RestrictedPython")
    if found is None or found.origin is None:
        raise SandboxError("RestrictedPython is not installed: pip install RestrictedPython")
    here = Path(__file__).resolve().parents[3]
    return list(dict.fromkeys([str(here), str(Path(found.origin).resolve().parents[1])]))


def _read_all(descriptor: int) -> str:
    return os.pread(descriptor, 4_000, 0).decode("utf-8", "replace").strip()
