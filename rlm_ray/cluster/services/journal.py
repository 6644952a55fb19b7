"""The journal actor: one detached actor on each node that has a driver, for the runs of its drivers."""

from __future__ import annotations

from functools import partial
from typing import Any

import ray

from rlm_ray.cluster.environment import forget_driver_folders, storage_environment, take_storage_environment
from rlm_ray.cluster.services.detached_actor import (
    RpcEndpoint,
    RpcResolver,
    call_with_retry,
    get_or_create_detached_actor,
)
from rlm_ray.errors import ClusterError, JournalError
from rlm_ray.journal.recorder import JournalRef
from rlm_ray.journal.server import JournalServer
from rlm_ray.util.codec import Codec
from rlm_ray.util.rpc import RpcAddress, RpcClient

METHODS = frozenset({"open", "append", "read", "hold", "close"})
"""Methods that may be called over RPC. Expected errors are returned, not raised."""
CODEC = Codec(JournalRef, JournalError)
"""Encodes the messages of these calls."""
STORAGE_TIMEOUT_S = 300.0
"""For a slow object store, which tries again by itself."""


class JournalActor(JournalServer):
    """The journal server as an actor. It is started again when it dies, and opens a run again with its next message."""

    def __init__(self) -> None:
        forget_driver_folders()
        super().__init__()
        self._opener = RpcEndpoint(self, METHODS, CODEC)

    async def address(self, environment: dict[str, str]) -> RpcAddress:
        """Return the address of its RPC server. Storages are reached with the credentials of the last caller."""
        take_storage_environment(environment)
        return await self._opener.address()


class JournalStub:
    """Calls the journal actors from any process of the cluster. Raises `JournalError`."""

    def __init__(self) -> None:
        self._lines: dict[str, RpcClient] = {}

    async def open(self, ref: JournalRef) -> int:
        """Open a run for this owner; returns the size of the journal so far."""
        size: int = await self._ask("open", ref)
        return size

    async def append(self, ref: JournalRef, data: bytes) -> int:
        """Append whole lines; returns the size of the journal then."""
        size: int = await self._ask("append", ref, data)
        return size

    async def read(self, ref: JournalRef, offset: int, wait_s: float) -> bytes:
        """Read whole lines from an offset on; waits up to `wait_s` for some."""
        data: bytes = await self._ask("read", ref, offset, wait_s)
        return data

    async def hold(self, ref: JournalRef) -> None:
        """Hold the run until it is closed, or this process is gone."""
        await self._ask("hold", ref, timeout_s=None)

    async def close(self, ref: JournalRef) -> None:
        """Close a run that is over."""
        await self._ask("close", ref)

    async def _ask(
        self, method: str, ref: JournalRef, *arguments: Any, timeout_s: float | None = STORAGE_TIMEOUT_S
    ) -> Any:
        line = self._lines.get(ref.node_id)
        if line is None:
            line = self._lines[ref.node_id] = RpcClient(_finder(ref.node_id), CODEC)
        try:
            answer = await call_with_retry("journal", line, method, ref, *arguments, timeout_s=timeout_s)
        except ClusterError as error:
            raise JournalError(ref.run_id, f"cannot be recorded: {error}") from error
        if isinstance(answer, JournalError):
            raise answer
        return answer


def journal_actor(home: str) -> Any:
    """Return the handle of this node's journal, made if there is none."""
    return get_or_create_detached_actor(JournalActor, f"rlm_ray.journal.{home}", node=home)


def _finder(home: str) -> RpcResolver:
    return RpcResolver(partial(journal_actor, home), lambda: (storage_environment(),))


def current_node_id() -> str:
    """Return the node of this process."""
    return str(ray.get_runtime_context().get_node_id())
