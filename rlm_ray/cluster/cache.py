"""The response cache of a cluster: one actor for each folder, on the machine of the driver that first asked for it."""

from __future__ import annotations

import hashlib
from typing import Any

from rlm_ray.cache import ResponseCache
from rlm_ray.cluster.gone import ACTOR_GONE
from rlm_ray.cluster.lasting import lasting_actor
from rlm_ray.core.model import ModelReply


class RemoteCache:
    """The way to the cache actor of a folder. A cache that is gone is a cache without the answer."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._handle: Any = None

    async def look(self, key: str, run_id: str, patience_s: float) -> ModelReply | None:
        reply: ModelReply | None = await self._ask("look", key, run_id, patience_s)
        return reply

    async def keep(self, key: str, reply: ModelReply) -> None:
        await self._ask("keep", key, reply)

    async def give_up(self, key: str) -> None:
        await self._ask("give_up", key)

    async def take_hits(self, run_id: str) -> int:
        return await self._ask("take_hits", run_id) or 0

    async def _ask(self, method: str, *arguments: Any) -> Any:
        if self._handle is None:
            self._handle = cache_actor(self._folder)
        try:
            return await getattr(self._handle, method).remote(*arguments)
        except ACTOR_GONE:
            self._handle = None
            return None


def cache_actor(folder: str) -> Any:
    """The handle of the folder's cache, made here if there is none."""
    name = f"rlm_ray.cache.{hashlib.sha256(folder.encode()).hexdigest()[:12]}"
    return lasting_actor(ResponseCache, name, folder)
