"""The response cache of a cluster: one actor for each folder, on the machine of the driver that first asked for it."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import uuid
from collections.abc import Coroutine
from functools import cache, partial
from typing import Any

from rlm_ray.cluster.environment import forget_driver_folders
from rlm_ray.cluster.ray_calls import ACTOR_DIED_ERRORS
from rlm_ray.cluster.services.detached_actor import RpcEndpoint, RpcResolver, get_or_create_detached_actor
from rlm_ray.core.llm import ModelReply
from rlm_ray.errors import ClusterError
from rlm_ray.llm.response_cache import CODEC, METHODS, ResponseCache
from rlm_ray.util.rpc import RpcAddress, RpcClient

ATTEMPTS = 2
"""Of a call: the first may find the actor gone."""
RETRY_S = 0.2
LEASE_MARGIN_S = 60.0
KEEP_TIMEOUT_S = 5.0
"""A cache that hangs must not hold up a reply that was paid."""

_log = logging.getLogger(__name__)


class CacheActor(ResponseCache):
    """One for each folder."""

    def __init__(self, folder: str) -> None:
        forget_driver_folders()
        super().__init__(folder)
        self._opener = RpcEndpoint(self, METHODS, CODEC)

    async def address(self) -> RpcAddress:
        """Return the address of its RPC server."""
        return await self._opener.address()


class RemoteReservation:
    """The right of this process to make a call."""

    def __init__(self, remote: CacheStub, key: str, token: str) -> None:
        self.token = token
        self._remote, self._key = remote, key
        self._is_over = False

    async def keep(self, reply: ModelReply) -> None:
        """Store the reply of the call."""
        self._is_over = True
        await self._remote.ask("keep", self._key, self.token, reply, timeout_s=KEEP_TIMEOUT_S)

    def release(self) -> None:
        """Give the call up, without waiting, as whoever does that may be cancelled."""
        if not self._is_over:
            self._is_over = True
            self._remote.spawn(self._remote.ask("release", self._key, self.token))


class CacheStub:
    """The way to the cache actor of a folder. A cache that is gone is a cache without the answer."""

    def __init__(self, folder: str) -> None:
        self._owner = uuid.uuid4().hex
        self._line = RpcClient(RpcResolver(partial(cache_actor, folder)), CODEC)
        self._tasks: set[asyncio.Task[None]] = set()
        self._attending: asyncio.Task[None] | None = None

    async def look(self, key: str, run_id: str, lease_s: float) -> ModelReply | RemoteReservation:
        """Return the reply of an identical call, before or under way; else the reservation to make it."""
        if self._attending is None:
            self._attending = self.spawn(self._attend())
            await asyncio.sleep(0)  # it goes first
        reservation = RemoteReservation(self, key, uuid.uuid4().hex)
        try:
            reply: ModelReply | None = await self.ask(
                "look",
                key,
                run_id,
                self._owner,
                reservation.token,
                lease_s,
                timeout_s=lease_s + LEASE_MARGIN_S,
            )
        except asyncio.CancelledError:
            reservation.release()  # it may have been made, with the answer on its way
            raise
        return reservation if reply is None else reply

    async def take_hits(self, run_id: str) -> int:
        """Return how many calls the run did not have to make."""
        return await self.ask("take_hits", run_id) or 0

    async def ask(self, method: str, *arguments: Any, timeout_s: float | None = LEASE_MARGIN_S) -> Any:
        """Return what the actor says; None where it cannot be asked."""
        for left in reversed(range(ATTEMPTS)):
            try:
                return await self._line.call(method, *arguments, timeout_s=timeout_s)
            except (OSError, ClusterError, *ACTOR_DIED_ERRORS) as error:
                if not left or isinstance(error, ClusterError):
                    _log.warning("the response cache does not answer, calls are made without it: %s", error)
                    break
        return None

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Have it done; such tasks live as long as the process, whoever asked for them is gone."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _attend(self) -> None:
        """Wait at the actor, so that it notices when this process is gone."""
        while True:
            try:
                await self._line.call("attend", self._owner, timeout_s=None)
            except (OSError, ClusterError, *ACTOR_DIED_ERRORS) as error:
                _log.debug("the response cache is gone: %s", error)
            await asyncio.sleep(RETRY_S)


@cache
def remote_cache(folder: str) -> CacheStub:
    """Return this process's stub for a folder."""
    return CacheStub(folder)


def cache_actor(folder: str) -> Any:
    """Return the handle of the folder's cache, made here if there is none."""
    return get_or_create_detached_actor(
        CacheActor, f"rlm_ray.llm.response_cache.{hashlib.sha256(folder.encode()).hexdigest()[:12]}", folder
    )
