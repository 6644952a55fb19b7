"""Which zygote has which context: small ones travel with each REPL, large ones are decoded once.

A large context gets a branch, a zygote forked for it alone. Its children share the decoded pages,
and no other session's process has ever had them in its memory.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from rlm_ray.core.context import Context
from rlm_ray.sandbox.host.zygote_client import ZygoteClient

SMALL_BYTES = 256 << 10
MAX_IDLE = 2


@dataclass(eq=False, slots=True)
class ContextZygote:
    """One large context and the zygote that holds it."""

    context: Context
    name: object
    users: int = 0
    client: ZygoteClient | None = None
    loading: asyncio.Lock = field(default_factory=asyncio.Lock)


class ContextZygotes:
    """Reference-counted by context key; the last unused ones are kept for whoever asks next."""

    def __init__(self, root: Callable[[], Awaitable[ZygoteClient]]) -> None:
        self._root = root
        self._branches: dict[object, ContextZygote] = {}

    @property
    def clients(self) -> list[ZygoteClient]:
        return [branch.client for branch in self._branches.values() if branch.client is not None]

    @property
    def keys(self) -> list[str]:
        return [branch.context.key for branch in self._branches.values() if branch.context.key]

    def acquire(self, context: Context) -> ContextZygote | None:
        """Return the branch to fork from, or None where the root will do. To be given back."""
        if context.nbytes < SMALL_BYTES:
            return None
        name = context.key or object()
        branch = self._branches.pop(name, None) or ContextZygote(context, name)
        branch.users += 1
        self._branches[name] = branch
        return branch

    def release(self, branch: ContextZygote) -> None:
        branch.users -= 1
        unused = [other for other in self._branches.values() if not other.users]
        for other in unused:
            if not other.context.key:
                self._drop(other)
        keyed = [other for other in unused if other.context.key]
        for other in keyed[:-MAX_IDLE]:
            self._drop(other)

    async def get_client(self, branch: ContextZygote | None) -> ZygoteClient:
        """Return a living zygote that has the context; load the context if there is none."""
        if branch is None:
            return await self._root()
        async with branch.loading:
            if branch.client is None or not branch.client.is_alive:
                branch.client = await self._load(branch.context)
            return branch.client

    def close(self) -> None:
        for branch in list(self._branches.values()):
            self._drop(branch)

    def _drop(self, branch: ContextZygote) -> None:
        self._branches.pop(branch.name, None)
        if branch.client is not None:
            branch.client.close()

    async def _load(self, context: Context) -> ZygoteClient:
        memory_file = os.memfd_create("context", os.MFD_CLOEXEC)
        try:
            await asyncio.to_thread(_write, memory_file, context)
            return (await self._root()).fork_context_zygote(memory_file)
        finally:
            os.close(memory_file)


def _write(memory_file: int, context: Context) -> None:
    """Copy the context once; see `zygote.MEMORY_FILE`."""
    ids = json.dumps(context.ids).encode() if context.ids is not None else b""
    offsets = context.offsets.tobytes() if context.offsets is not None else b""
    data = memoryview(context.data).cast("B")
    head = b"".join(size.to_bytes(8, "little") for size in (len(ids), len(offsets), len(data)))
    for piece in (head, ids, offsets, data):
        _write_all(memory_file, memoryview(piece))


def _write_all(memory_file: int, piece: memoryview) -> None:
    at = 0
    while at < len(piece):
        at += os.write(memory_file, piece[at:])
