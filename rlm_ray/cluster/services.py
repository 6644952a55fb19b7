"""The detached actors of a cluster, and the stubs that call them: admission, journal, response cache.

Each is a plain class, served by an actor. A stub has the type of that class: `stub.open_run(policy)` in any process is
`AdmissionServer.open_run(policy)` in the actor. In a Ray that a driver of ours has started one actor serves all of them; in
other clusters each has its own, the journal on every node with a driver.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import uuid
from collections.abc import Mapping
from functools import cache, partial
from types import MappingProxyType
from typing import Any, TypeAlias

import ray

from rlm_ray.admission.controller import AdmissionController
from rlm_ray.admission.server import AdmissionServer
from rlm_ray.cluster.detached_actor import (
    NAMESPACE,
    RpcEndpoint,
    RpcResolver,
    current_node_id,
    detached_actors,
    get_or_create_detached_actor,
    service_stub,
)
from rlm_ray.cluster.environment import forget_driver_folders, storage_environment, take_storage_environment
from rlm_ray.errors import ClusterError, JournalError
from rlm_ray.journal.server import JournalRef, JournalServer
from rlm_ray.llm.response_cache import ResponseCache, ResponseCacheClient
from rlm_ray.util.rpc import RpcAddress

Server: TypeAlias = AdmissionServer | JournalServer | ResponseCache

ADMISSION, JOURNAL, CACHE = "admission", "journal", "response cache"
LOCAL_SERVICES = "rlm_ray.services"


class ServiceHost:
    """Serves what it is asked for: an admission, a journal, response caches. Each start of it begins with empty ones.

    An admission that was started again has a new epoch, and learns from its clients what is under way; a journal opens a run
    again with its next message.
    """

    def __init__(self, *services: str) -> None:
        """Begin with these; others are made when their address is first asked for."""
        forget_driver_folders()
        self._servers: dict[tuple[str, str], tuple[Server, RpcEndpoint]] = {}
        for service in services:
            self._server(service)

    async def address(
        self, service: str, folder: str = "", environment: Mapping[str, str] = MappingProxyType({})
    ) -> RpcAddress:
        """Return the address of the RPC server of a service; a cache is that of a folder.

        Storages are reached with the credentials in the environment of the last caller.
        """
        take_storage_environment(dict(environment))
        _, endpoint = self._server(service, folder)
        return await endpoint.address()

    async def stats(self) -> dict[str, int]:
        """Count the rows of each table; what two services call the same has the name of the second before it."""
        counts: dict[str, int] = {}
        for (service, _), (server, _) in self._servers.items():
            for table, rows in (await server.stats()).items():
                counts[f"{service} {table}" if table in counts else table] = rows
        return counts

    async def calls(self) -> dict[str, dict[str, int]]:
        """Count the messages that came to each service since this start, by method."""
        return {service: endpoint.calls for (service, _), (_, endpoint) in self._servers.items()}

    def _server(self, service: str, folder: str = "") -> tuple[Server, RpcEndpoint]:
        if (service, folder) not in self._servers:
            server = _make_server(service, folder)
            self._servers[service, folder] = server, RpcEndpoint(server, type(server))
        return self._servers[service, folder]


def _make_server(service: str, folder: str) -> Server:
    if service == ADMISSION:
        return AdmissionServer(AdmissionController(random.random), uuid.uuid4().hex)
    return JournalServer() if service == JOURNAL else ResponseCache(folder)


class LocalServices(ServiceHost):
    """All services of a Ray that a driver of ours has started: one process starts sooner than three."""


class AdmissionActor(ServiceHost):
    """The one admission of a cluster, which all drivers share."""


class JournalActor(ServiceHost):
    """The journal of the runs whose drivers are on one node."""


class CacheActor(ServiceHost):
    """The response cache of one folder, on the machine of the driver that first asked for it."""


def local_services() -> Any:
    """Return the handle of the services of a Ray that this process has just started; makes them if there are none."""
    name = f"{LOCAL_SERVICES}.{current_node_id()}"
    return get_or_create_detached_actor(LocalServices, name, ADMISSION, JOURNAL)


def _find_local_services(node_id: str = "") -> Any:
    """Return their handle where the cluster has them, on this node if one is named; else None."""
    for actor in detached_actors():
        if actor.is_ours and actor.name.startswith(f"{LOCAL_SERVICES}.{node_id}"):
            with contextlib.suppress(ValueError):  # it was ended meanwhile
                return ray.get_actor(actor.name, namespace=NAMESPACE)
    return None


def admission_actor() -> Any:
    """Return the handle of who serves the cluster's admission; makes it if there is none."""
    return _find_local_services() or get_or_create_detached_actor(
        AdmissionActor, "rlm_ray.admission", ADMISSION
    )


def admission_stub() -> AdmissionServer:
    """Return what calls the cluster's admission. Raises `ClusterError` where it does not answer."""
    return service_stub(
        AdmissionServer, "admission", lambda _: RpcResolver(admission_actor, lambda: (ADMISSION,))
    )


def journal_actor(node_id: str) -> Any:
    """Return the handle of who serves a node's journal; makes it if there is none."""
    return _find_local_services(node_id) or get_or_create_detached_actor(
        JournalActor, f"rlm_ray.journal.{node_id}", JOURNAL, node=node_id
    )


def journal_stub() -> JournalServer:
    """Return what calls the journals, each on the node of its `JournalRef`. Raises `JournalError`."""
    return service_stub(
        JournalServer, "journal", _resolve_journal, key_of=_node_of, to_error=_to_journal_error
    )


def _resolve_journal(node_id: str) -> RpcResolver:
    return RpcResolver(partial(journal_actor, node_id), lambda: (JOURNAL, "", storage_environment()))


def _node_of(ref: JournalRef, *_: object) -> str:
    return ref.node_id


def _to_journal_error(error: ClusterError, ref: JournalRef, *_: object) -> JournalError:
    return JournalError(ref.run_id, f"cannot be recorded: {error}")


def cache_actor(folder: str) -> Any:
    """Return the handle of who serves the folder's cache; makes it if there is none."""
    name = f"rlm_ray.llm.response_cache.{hashlib.sha256(folder.encode()).hexdigest()[:12]}"
    return _find_local_services() or get_or_create_detached_actor(CacheActor, name)


@cache
def response_cache(folder: str) -> ResponseCacheClient:
    """Return this process's client of a folder's cache."""
    find = partial(cache_actor, folder)
    return ResponseCacheClient(
        service_stub(ResponseCache, CACHE, lambda _: RpcResolver(find, lambda: (CACHE, folder)), attempts=2)
    )
