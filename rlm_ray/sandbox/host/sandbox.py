"""The sandbox of one actor: a zygote, and a REPL for each session that asks.

host = SandboxHost(Sandbox())
await host.start()
repl = await host.open(context, query)
result = await repl.run(["print(len(context))"], serve)
await host.aclose()
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self

from rlm_ray.core.context import Context
from rlm_ray.errors import SandboxError
from rlm_ray.sandbox.host.context_zygotes import ContextZygotes
from rlm_ray.sandbox.host.kernel_features import KernelFeature, probe_features, require_features
from rlm_ray.sandbox.host.repl_process import ReplProcess, ReplSpec, SubcallHandler
from rlm_ray.sandbox.host.zygote_client import ZygoteClient
from rlm_ray.sandbox.host.zygote_process import ZygoteProcess
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
        """Living REPL processes, those that are being killed among them."""
        nurseries = self._branches.nurseries
        if self._zygote is not None:
            nurseries.append(self._zygote.nursery)
        return sum(nursery.children for nursery in nurseries)

    @property
    def held_contexts(self) -> list[str]:
        """Keys of the large contexts that are held, the one used last at the end."""
        return self._branches.keys

    @property
    def zygote_pid(self) -> int | None:
        return self._zygote.pid if self._zygote is not None else None

    async def start(self) -> None:
        """Starts the zygote. `SandboxError` names the layer of the jail that this kernel lacks."""
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
        """A REPL over this context, ready to run. `filtered=False` is for tests of the jail alone."""
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
        """Everything killed and reaped; idempotent."""
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
        """The zygote, started again if it died: its sessions lose their variables, nothing else."""
        async with self._starting:
            if self._closed:
                raise SandboxError("the sandbox is closed")
            if self._zygote is not None and not self._zygote.nursery.is_alive:
                await self._zygote.aclose()
                self._zygote = None
            if self._zygote is None:
                self._zygote = await ZygoteProcess.start()
            return self._zygote.nursery
