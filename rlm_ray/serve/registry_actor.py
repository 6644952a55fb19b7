"""The run registry as one detached actor of the cluster, and the way to it. What it must not forget is in the run store."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import secrets
import time
from collections.abc import Sequence
from functools import partial

from rlm_ray.cluster.detached_actor import (
    RpcEndpoint,
    RpcResolver,
    get_or_create_detached_actor,
    service_stub,
)
from rlm_ray.cluster.ray_calls import current_ray_thread
from rlm_ray.errors import JournalError
from rlm_ray.journal.run_store import RunStore
from rlm_ray.serve.api_keys import SECRET_BYTES
from rlm_ray.serve.run_registry import (
    AdmissionDecision,
    AdmissionRequest,
    KeySpending,
    ReplicaCommands,
    RunRegistry,
    registry_from_state,
)
from rlm_ray.util.batcher import Batcher
from rlm_ray.util.rpc import RpcAddress
from rlm_ray.util.rpc_service import rpc_method

FOLDER = "serve"
"""In the run store; no run has such a name."""
STATE = "desk.json"  # as it was first called: state of older versions is read
LONG_POLL_S = 2.0
LINKS = "link-secret"
"""Beside it: what links to reports are signed with."""
PAUSE_S = 0.02
"""Between two writes; in a burst many answers wait for the same one."""


class RunRegistryActor:
    """Holds the run registry; a plain class that Ray wraps. Replies when what it did is in the run store.

    Raises `JournalError` where it cannot be written there.
    """

    def __init__(self, run_dir: str) -> None:
        self._folder = RunStore(run_dir, FOLDER)
        saved = self._folder.load(STATE)
        self._registry = RunRegistry() if saved is None else registry_from_state(json.loads(saved))
        self._saves: Batcher[bool, bool] = Batcher(self._save, interval_s=PAUSE_S, max_batches=1)
        self._changed = asyncio.Event()
        self._endpoint = RpcEndpoint(self, RunRegistryActor)
        self._secret = b""
        self._making_secret = asyncio.Lock()

    async def address(self) -> RpcAddress:
        """Return where its RPC server is."""
        return await self._endpoint.address()

    @rpc_method(errors=(JournalError,))
    async def admit(self, request: AdmissionRequest) -> AdmissionDecision:
        answer = self._registry.admit(request, time.monotonic(), time.time())
        await self._saved()
        return answer

    @rpc_method(errors=(JournalError,))
    async def settle(
        self, run_id: str, spent: KeySpending, repeatable: bool = False, out_of_money: bool = False
    ) -> None:
        self._registry.settle(run_id, spent, repeatable=repeatable, out_of_money=out_of_money)
        await self._saved()

    @rpc_method()
    async def cancel(self, run_id: str) -> bool:
        found = self._registry.cancel(run_id)
        self._notify()
        return found

    @rpc_method()
    async def listen(self, replica: str, running: tuple[str, ...]) -> ReplicaCommands:
        """Return commands at once where there are any, else when there are or after `LONG_POLL_S`."""
        changed = self._changed
        commands = self._registry.listen(replica, running, time.monotonic())
        if not commands:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LONG_POLL_S):
                    await changed.wait()
            commands = self._registry.listen(replica, running, time.monotonic())
        return commands

    @rpc_method()
    async def leave(self, replica: str) -> None:
        self._registry.leave(replica)
        self._notify()

    @rpc_method()
    async def is_open(self, run_id: str) -> bool:
        """Tell whether it is under way, or will be taken up again."""
        return run_id in self._registry.leases

    @rpc_method()
    async def spent(self, key: str) -> KeySpending:
        return self._registry.spent.get(key, KeySpending())

    @rpc_method(errors=(JournalError,))
    async def link_secret(self) -> bytes:
        """Return what links to reports are signed with: random, made once for a run store."""
        async with self._making_secret:
            if not self._secret:
                self._secret = await asyncio.to_thread(_link_secret, self._folder)
        return self._secret

    async def stats(self) -> dict[str, int]:
        """Return how many rows each table has."""
        return self._registry.stats()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _saved(self) -> None:
        """Wait for a write; one at a time, and all that comes meanwhile goes into the next one together."""
        await asyncio.shield(self._saves.submit(True))

    async def _save(self, changes: Sequence[bool]) -> Sequence[bool]:
        state = json.dumps(self._registry.state()).encode()
        await asyncio.to_thread(self._folder.save, STATE, state)
        return changes


def run_registry(run_dir: str) -> RunRegistryActor:
    """Return what calls the run registry from any thread of a replica. Raises `ClusterError` where it does not answer."""
    find = partial(get_or_create_detached_actor, RunRegistryActor, _name(run_dir), run_dir)
    return service_stub(
        RunRegistryActor,
        "run registry",
        lambda _: RpcResolver(find),
        run=lambda work: current_ray_thread().run(work),
    )


def _link_secret(folder: RunStore) -> bytes:
    found = folder.load(LINKS)
    if found is None or len(found) < SECRET_BYTES:
        found = secrets.token_bytes(SECRET_BYTES)
        folder.save(LINKS, found)
    return found


def _name(run_dir: str) -> str:
    return f"rlm_ray.serve.{hashlib.blake2b(run_dir.encode(), digest_size=6).hexdigest()}"
