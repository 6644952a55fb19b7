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
from rlm_ray.sandbox.host.context_zygotes import Branches
from rlm_ray.sandbox.host.kernel_features import Layer, layers, require
from rlm_ray.sandbox.host.repl_process import Opening, Repl, Serve
from rlm_ray.sandbox.host.zygote_client import Nursery
from rlm_ray.sandbox.host.zygote_process import Root
from rlm_ray.sandbox.settings import Sandbox

__all__ = ["Repl", "Sandbox", "SandboxHost", "Serve"]


class SandboxHost:
    """Owns the zygote and opens REPLs; belongs to one event loop."""

    def __init__(self, settings: Sandbox, *, probe: Callable[[], Iterable[Layer]] = layers) -> None:
        self._settings = settings
        self._probe = probe
        self._landlock = True
        self._root: Root | None = None
        self._starting = asyncio.Lock()
        self._branches = Branches(self._nursery)
        self._repls: set[Repl] = set()
        self._closed = False

    @property
    def children(self) -> int:
        """Living REPL processes, those that are being killed among them."""
        nurseries = self._branches.nurseries
        if self._root is not None:
            nurseries.append(self._root.nursery)
        return sum(nursery.children for nursery in nurseries)

    @property
    def contexts(self) -> list[str]:
        """Keys of the large contexts that are held, the one used last at the end."""
        return self._branches.keys

    @property
    def zygote_pid(self) -> int | None:
        return self._root.pid if self._root is not None else None

    async def start(self) -> None:
        """Starts the zygote. `SandboxError` names the layer of the jail that this kernel lacks."""
        found = tuple(self._probe())
        require(found, allow_degraded=self._settings.allow_degraded)
        self._landlock = all(layer.works for layer in found if layer.name == "Landlock")
        await self._nursery()

    async def open(self, context: Context, query: str, *, seed: int = 0, filtered: bool = True) -> Repl:
        """A REPL over this context, ready to run. `filtered=False` is for tests of the jail alone."""
        if self._closed:
            raise SandboxError("the sandbox is closed")
        opening = Opening(context, query, self._settings, seed, self._landlock, filtered)
        repl = Repl(opening, self._branches, self._repls.discard)
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
            if self._root is not None:
                await self._root.aclose()
                self._root = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _nursery(self) -> Nursery:
        """The zygote, started again if it died: its sessions lose their variables, nothing else."""
        async with self._starting:
            if self._closed:
                raise SandboxError("the sandbox is closed")
            if self._root is not None and not self._root.nursery.alive:
                await self._root.aclose()
                self._root = None
            if self._root is None:
                self._root = await Root.start()
            return self._root.nursery
