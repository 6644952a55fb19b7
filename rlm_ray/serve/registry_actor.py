"""The run registry as one detached actor of the cluster, and the way to it. What it must not forget is in the run store."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import secrets
import time
from functools import partial
from typing import Any

from rlm_ray.cluster.ray_thread import current_ray_thread
from rlm_ray.cluster.services.detached_actor import (
    RpcEndpoint,
    RpcResolver,
    call_with_retry,
    get_or_create_detached_actor,
)
from rlm_ray.errors import JournalError
from rlm_ray.journal.run_store import RunStore
from rlm_ray.serve.api_keys import SECRET_BYTES
from rlm_ray.serve.run_registry import (
    AdmissionDecision,
    AdmissionRequest,
    Admitted,
    Duplicate,
    KeySpending,
    Rejected,
    ReplicaCommands,
    RunRegistry,
    registry_from_state,
)
from rlm_ray.util.codec import Codec
from rlm_ray.util.rpc import RpcAddress, RpcClient

FOLDER = "serve"
"""In the run store; no run has such a name."""
STATE = "desk.json"  # as it was first called: state of older versions is read
LONG_POLL_S = 2.0
LINKS = "link-secret"
"""Beside it: what links to reports are signed with."""
PAUSE_S = 0.02
"""Between two writes; in a burst many answers wait for the same one."""
RPC_METHODS = frozenset({"admit", "settle", "cancel", "listen", "leave", "is_open", "spent", "link_secret"})
CODEC = Codec(AdmissionRequest, Admitted, Duplicate, Rejected, ReplicaCommands, KeySpending, JournalError)


class RunRegistryActor:
    """Holds the run registry; a plain class that Ray wraps. Replies when what it did is in the run store.

    Where it cannot be written there, the `JournalError` is the answer.
    """

    def __init__(self, run_dir: str) -> None:
        self._folder = RunStore(run_dir, FOLDER)
        saved = self._folder.load(STATE)
        self._registry = RunRegistry() if saved is None else registry_from_state(json.loads(saved))
        self._saving: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._opener = RpcEndpoint(self, RPC_METHODS, CODEC)
        self._secret = b""
        self._making_secret = asyncio.Lock()

    async def address(self) -> RpcAddress:
        """Return where its RPC server is."""
        return await self._opener.address()

    async def admit(self, request: AdmissionRequest) -> AdmissionDecision | JournalError:
        answer = self._registry.admit(request, time.monotonic(), time.time())
        return await self._saved() or answer

    async def settle(
        self, run_id: str, spent: KeySpending, repeatable: bool = False, out_of_money: bool = False
    ) -> JournalError | None:
        self._registry.settle(run_id, spent, repeatable=repeatable, out_of_money=out_of_money)
        return await self._saved()

    async def cancel(self, run_id: str) -> bool:
        found = self._registry.cancel(run_id)
        self._notify()
        return found

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

    async def leave(self, replica: str) -> None:
        self._registry.leave(replica)
        self._notify()

    async def is_open(self, run_id: str) -> bool:
        """Tell whether it is under way, or will be taken up again."""
        return run_id in self._registry.leases

    async def spent(self, key: str) -> KeySpending:
        return self._registry.spent.get(key, KeySpending())

    async def link_secret(self) -> bytes | JournalError:
        """Return what links to reports are signed with: random, made once for a run store."""
        async with self._making_secret:
            if not self._secret:
                try:
                    self._secret = await asyncio.to_thread(_link_secret, self._folder)
                except JournalError as error:
                    return error
        return self._secret

    async def stats(self) -> dict[str, int]:
        """Return how many rows each table has."""
        return self._registry.stats()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _saved(self) -> JournalError | None:
        """Wait for a write; one at a time, and all that comes meanwhile goes into the next one together."""
        if self._next is None:
            self._next = asyncio.create_task(self._save_after(self._saving))
        try:
            await asyncio.shield(self._next)
        except JournalError as error:
            return error
        return None

    async def _save_after(self, before: asyncio.Task[None] | None) -> None:
        if before is not None and not before.done():
            await asyncio.wait([before])
            await asyncio.sleep(PAUSE_S)
        self._saving, self._next = self._next, None
        state = json.dumps(self._registry.state()).encode()
        await asyncio.to_thread(self._folder.save, STATE, state)


class RunRegistryClient:
    """Calls the run registry from a replica. Raises `ClusterError` where it does not answer."""

    def __init__(self, run_dir: str) -> None:
        registry = partial(get_or_create_detached_actor, RunRegistryActor, _name(run_dir), run_dir)
        self._line = RpcClient(RpcResolver(registry), CODEC)
        self._secret = b""

    async def admit(self, request: AdmissionRequest) -> AdmissionDecision:
        answer: AdmissionDecision = await self._ask("admit", request)
        return answer

    async def settle(
        self, run_id: str, spent: KeySpending, *, repeatable: bool, out_of_money: bool = False
    ) -> None:
        await self._ask("settle", run_id, spent, repeatable, out_of_money)

    async def cancel(self, run_id: str) -> bool:
        return bool(await self._ask("cancel", run_id))

    async def listen(self, replica: str, running: tuple[str, ...]) -> ReplicaCommands:
        commands: ReplicaCommands = await self._ask("listen", replica, running)
        return commands

    async def leave(self, replica: str) -> None:
        await self._ask("leave", replica)

    async def is_open(self, run_id: str) -> bool:
        return bool(await self._ask("is_open", run_id))

    async def spent(self, key: str) -> KeySpending:
        spent: KeySpending = await self._ask("spent", key)
        return spent

    async def link_secret(self) -> bytes:
        """Return what links to reports are signed with. Raises `JournalError` where it cannot be stored."""
        if not self._secret:
            self._secret = bytes(await self._ask("link_secret"))
        return self._secret

    async def _ask(self, method: str, *arguments: Any) -> Any:
        answer = await current_ray_thread().run(
            call_with_retry("run registry", self._line, method, *arguments)
        )
        if isinstance(answer, JournalError):
            raise answer
        return answer


def _link_secret(folder: RunStore) -> bytes:
    found = folder.load(LINKS)
    if found is None or len(found) < SECRET_BYTES:
        found = secrets.token_bytes(SECRET_BYTES)
        folder.save(LINKS, found)
    return found


def _name(run_dir: str) -> str:
    return f"rlm_ray.serve.{hashlib.blake2b(run_dir.encode(), digest_size=6).hexdigest()}"
