"""The detached actors of a cluster, and the stubs that call them: admission, journal, response cache.

Each is a plain class that Ray wraps here. A stub has the type of that class: `stub.open_run(policy)` in any process is
`AdmissionServer.open_run(policy)` in the actor.
"""

from __future__ import annotations

import hashlib
import random
import uuid
from functools import cache, partial
from typing import Any

from rlm_ray.admission.controller import AdmissionController
from rlm_ray.admission.server import AdmissionServer
from rlm_ray.cluster.detached_actor import (
    RpcEndpoint,
    RpcResolver,
    get_or_create_detached_actor,
    service_stub,
)
from rlm_ray.cluster.environment import forget_driver_folders, storage_environment, take_storage_environment
from rlm_ray.errors import ClusterError, JournalError
from rlm_ray.journal.server import JournalRef, JournalServer
from rlm_ray.llm.response_cache import ResponseCache, ResponseCacheClient
from rlm_ray.util.rpc import RpcAddress


class AdmissionActor(AdmissionServer):
    """The one admission of a cluster, which all drivers share. Each start of it has a new epoch: it is empty, and learns from
    its clients what is under way."""

    def __init__(self) -> None:
        forget_driver_folders()
        super().__init__(AdmissionController(random.random), uuid.uuid4().hex)
        self._endpoint = RpcEndpoint(self, AdmissionServer)

    async def address(self) -> RpcAddress:
        """Return the address of its RPC server."""
        return await self._endpoint.address()


def admission_actor() -> Any:
    """Return the handle of the cluster's admission; makes it if there is none."""
    return get_or_create_detached_actor(AdmissionActor, "rlm_ray.admission")


def admission_stub() -> AdmissionServer:
    """Return what calls the cluster's admission. Raises `ClusterError` where it does not answer."""
    return service_stub(AdmissionServer, "admission", lambda _: RpcResolver(admission_actor))


class JournalActor(JournalServer):
    """The journal of the runs whose drivers are on one node. Started again, it opens a run again with its next message."""

    def __init__(self) -> None:
        forget_driver_folders()
        super().__init__()
        self._endpoint = RpcEndpoint(self, JournalServer)

    async def address(self, environment: dict[str, str]) -> RpcAddress:
        """Return the address of its RPC server. Storages are reached with the credentials of the last caller."""
        take_storage_environment(environment)
        return await self._endpoint.address()


def journal_actor(node_id: str) -> Any:
    """Return the handle of a node's journal; makes it if there is none."""
    return get_or_create_detached_actor(JournalActor, f"rlm_ray.journal.{node_id}", node=node_id)


def journal_stub() -> JournalServer:
    """Return what calls the journals, each on the node of its `JournalRef`. Raises `JournalError`."""
    return service_stub(
        JournalServer, "journal", _resolve_journal, key_of=_node_of, to_error=_to_journal_error
    )


def _resolve_journal(node_id: str) -> RpcResolver:
    return RpcResolver(partial(journal_actor, node_id), lambda: (storage_environment(),))


def _node_of(ref: JournalRef, *_: object) -> str:
    return ref.node_id


def _to_journal_error(error: ClusterError, ref: JournalRef, *_: object) -> JournalError:
    return JournalError(ref.run_id, f"cannot be recorded: {error}")


class CacheActor(ResponseCache):
    """The response cache of one folder, on the machine of the driver that first asked for it."""

    def __init__(self, folder: str) -> None:
        forget_driver_folders()
        super().__init__(folder)
        self._endpoint = RpcEndpoint(self, ResponseCache)

    async def address(self) -> RpcAddress:
        """Return the address of its RPC server."""
        return await self._endpoint.address()


def cache_actor(folder: str) -> Any:
    """Return the handle of the folder's cache; makes it if there is none."""
    name = f"rlm_ray.llm.response_cache.{hashlib.sha256(folder.encode()).hexdigest()[:12]}"
    return get_or_create_detached_actor(CacheActor, name, folder)


@cache
def response_cache(folder: str) -> ResponseCacheClient:
    """Return this process's client of a folder's cache."""
    find = partial(cache_actor, folder)
    return ResponseCacheClient(
        service_stub(ResponseCache, "response cache", lambda _: RpcResolver(find), attempts=2)
    )
