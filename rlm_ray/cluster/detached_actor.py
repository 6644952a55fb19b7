"""Detached actors, which belong to the cluster and not to a driver: found by name, made if there is none, started again
if they die, and called over RPC.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import re
import secrets
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any, TypeAlias, TypeVar, cast

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from rlm_ray.cluster.ray_calls import ACTOR_DIED_ERRORS, current_ray_thread
from rlm_ray.cluster.ray_init import LOCAL, connect_ray, resolve_address
from rlm_ray.errors import ClusterError, RLMError, VersionMismatchError
from rlm_ray.util.rpc import PROTOCOL, RpcAddress, RpcClient, RpcServer
from rlm_ray.util.rpc_service import service_of

NAMESPACE = "rlm_ray"
ATTEMPTS = 40
RETRY_S = 0.25
CENSUS_S = 5.0
UNKNOWN = -1
"""The count for an actor that does not answer."""

ServerT = TypeVar("ServerT")
Resolve: TypeAlias = Callable[[], Awaitable[RpcAddress]]

_VERSION = re.compile(r"\.v(\d+)$")


def node_affinity(*, soft: bool) -> NodeAffinitySchedulingStrategy:
    """Return the strategy for the node of this process; `soft`: rather than others, but others if need be."""
    return NodeAffinitySchedulingStrategy(current_node_id(), soft=soft)


def current_node_id() -> str:
    """Return the node of this process."""
    return str(ray.get_runtime_context().get_node_id())


def get_or_create_detached_actor(cls: type[Any], name: str, *arguments: Any, node: str = "") -> Any:
    """Return the handle of the one actor of this name, on `node` or here; makes it if there is none. It takes no CPU."""
    place = NodeAffinitySchedulingStrategy(node, soft=True) if node else node_affinity(soft=True)
    return (
        ray.remote(cls)
        .options(
            name=f"{name}.v{PROTOCOL}",
            namespace=NAMESPACE,
            get_if_exists=True,
            lifetime="detached",
            num_cpus=0,
            max_restarts=-1,
            max_concurrency=100_000,
            scheduling_strategy=place,
        )
        .remote(*arguments)
    )


@dataclass(frozen=True, slots=True)
class DetachedActor:
    """A detached actor on the cluster, made by any version."""

    name: str
    protocol: int

    @property
    def is_ours(self) -> bool:
        """Tell whether it was made by a version with this protocol."""
        return self.protocol == PROTOCOL

    def __str__(self) -> str:
        return f"{self.name} (protocol {self.protocol})"


def detached_actors() -> list[DetachedActor]:
    """List the detached actors of all versions. The names of versions before the second protocol have no version, or end in v1."""
    named = ray.util.list_named_actors(all_namespaces=True)
    names = sorted(each["name"] for each in named if each["namespace"] == NAMESPACE)
    found = [(name, _VERSION.search(name)) for name in names if name.startswith("rlm_ray.")]
    return [DetachedActor(name, int(version[1]) if version else 1) for name, version in found]


def check_version() -> None:
    """Raise `VersionMismatchError` where the cluster has detached actors of another version.

    Two admissions side by side would each give out the whole rate of an account.
    """
    others = [actor for actor in detached_actors() if not actor.is_ours]
    if others:
        raise VersionMismatchError(
            f"this cluster runs detached actors of another version of rlm_ray ({', '.join(map(str, others[:5]))}); "
            f"this process is rlm-ray {version('rlm-ray')} (protocol {PROTOCOL}), and two versions on one cluster would not "
            "share rates, budgets and records: use that version here too, or when its runs are over end its actors with "
            "`rlm-ray shutdown --all-versions --force`"
        )


async def service_stats() -> dict[str, dict[str, int]]:
    """Count the rows of each table of each detached actor of this version; `UNKNOWN` runs where it does not answer."""
    names = [actor.name for actor in detached_actors() if actor.is_ours]
    return dict(zip(names, await asyncio.gather(*map(_stats_of, names)), strict=True))


async def end_detached_actors(address: str | None, *, force: bool, all_versions: bool) -> list[str]:
    """End the detached actors of a running cluster; returns their names. Raises `ClusterError` where runs are under way, unless `force`."""
    return await current_ray_thread().run(
        _end_detached_actors(address, force=force, all_versions=all_versions)
    )


async def _end_detached_actors(address: str | None, *, force: bool, all_versions: bool) -> list[str]:
    if not ray.is_initialized() and resolve_address(address or os.environ.get("RAY_ADDRESS", "")) == LOCAL:
        raise ClusterError("no Ray cluster runs here; set RAY_ADDRESS to the one whose actors shall end")
    connect_ray(address)
    actors = [actor for actor in detached_actors() if actor.is_ours or all_versions]
    if not force:
        runs = {name: _runs_of(tables) for name, tables in (await service_stats()).items()}
        if any(runs.values()):
            said = ", ".join(f"{name} {_runs_in_words(count)}" for name, count in runs.items() if count)
            raise ClusterError(
                f"runs are under way on this cluster ({said}); wait for their end, or use --force"
            )
        if unknown := [actor for actor in actors if not actor.is_ours]:
            raise ClusterError(
                f"{', '.join(map(str, unknown))}: another version's, so whether runs are under way there cannot be told; "
                "look yourself, and use --force"
            )
    for actor in actors:
        with contextlib.suppress(ValueError):  # it ended by itself
            ray.kill(ray.get_actor(actor.name, namespace=NAMESPACE), no_restart=True)
    return [actor.name for actor in actors]


def _runs_of(tables: dict[str, int]) -> int:
    """Return how many runs an actor has that somebody drives, or `UNKNOWN`: several services of one actor have the same ones.

    A run without a driver is none that goes on: its driver is gone, or it ended just before the admission was started again.
    """
    driven = tables.get("runs", 0) - tables.get("driverless", 0)
    return max(driven, *(rows for table, rows in tables.items() if table.endswith(" runs")), UNKNOWN)


def _runs_in_words(runs: int) -> str:
    return "does not answer" if runs < 0 else "has 1 run" if runs == 1 else f"has {runs} runs"


async def _stats_of(name: str) -> dict[str, int]:
    try:
        async with asyncio.timeout(CENSUS_S):
            rows: dict[str, int] = await ray.get_actor(name, namespace=NAMESPACE).stats.remote()
    except (TimeoutError, ValueError, ray.exceptions.RayError):
        return {"runs": UNKNOWN}
    return rows


class RpcEndpoint:
    """The RPC server of an actor, opened when its address is first asked for.

    A Ray call for every message would cost ten times the CPU.
    """

    def __init__(self, actor: object, server: type[Any]) -> None:
        """Serve the methods that `server`, a class of the actor, marks with `rpc_method`."""
        service = service_of(server)
        self._server = RpcServer(actor, frozenset(service.methods), secrets.token_bytes(32), service.codec)
        self._opening: asyncio.Task[RpcAddress] | None = None

    @property
    def calls(self) -> dict[str, int]:
        """Count the calls that came in, by method."""
        return dict(self._server.calls)

    async def address(self) -> RpcAddress:
        if self._opening is None:
            self._opening = asyncio.ensure_future(self._server.listen(ray.util.get_node_ip_address()))
        return await asyncio.shield(self._opening)


class RpcResolver:
    """Finds the RPC address of a detached actor; `make` returns its handle, and makes it if there is none."""

    def __init__(self, make: Callable[[], Any], tell: Callable[[], tuple[Any, ...]] = tuple) -> None:
        """Take with `tell` the arguments of the call for the address; an actor that was started again has lost them."""
        self._make, self._tell = make, tell
        self._handle: Any = None

    async def __call__(self) -> RpcAddress:
        if self._handle is None:
            self._handle = self._make()
        try:
            address: RpcAddress = await self._handle.address.remote(*self._tell())
        except ACTOR_DIED_ERRORS:
            self._handle = None  # the next call finds the new one, or makes it
            raise
        except ray.exceptions.TaskCancelledError as error:
            # Ray cancels what a cancelled task has asked for; this client serves other sessions of the process, too
            raise ConnectionError("the question for the address was cancelled with who asked it") from error
        return address


def service_stub(
    server: type[ServerT], name: str, resolve: Callable[[str], Resolve], **options: Any
) -> ServerT:
    """Return what calls the methods of a server in its actor as if it were here; see `ServiceStub`."""
    return cast("ServerT", ServiceStub(server, name, resolve, **options))


class ServiceStub:
    """Calls the methods of a service, again where its actor died: it is replaced meanwhile."""

    def __init__(  # noqa: PLR0913 - how services differ
        self,
        server: type[Any],
        name: str,
        resolve: Callable[[str], Resolve],
        *,
        attempts: int = ATTEMPTS,
        key_of: Callable[..., str] = lambda *_: "",
        to_error: Callable[..., RLMError] | None = None,
        run: Callable[[Coroutine[Any, Any, Any]], Awaitable[Any]] = lambda work: work,
    ) -> None:
        """`resolve` finds the address of an actor. Where a service has several, `key_of` tells from the arguments of a call
        which one is meant. `to_error` turns a `ClusterError` and those arguments into the error of the service. `run` carries
        out a call, where it belongs to another thread."""
        self._server, self._service, self._name = server, service_of(server), name
        self._resolve, self._key_of = resolve, key_of
        self._attempts, self._to_error, self._run = attempts, to_error, run
        self._clients: dict[str, RpcClient] = {}

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        if name.startswith("_") or name not in self._service.methods:
            raise AttributeError(f"{self!r} has no method {name}")
        return partial(self._call, name)

    async def aclose(self) -> None:
        """Close the connections."""
        for client in self._clients.values():
            await client.aclose()

    async def _call(self, name: str, *arguments: Any, **named: Any) -> Any:
        if named:  # they travel in order
            bound = inspect.signature(getattr(self._server, name)).bind(self, *arguments, **named)
            bound.apply_defaults()
            arguments = bound.args[1:]
        key = self._key_of(*arguments)
        if key not in self._clients:
            self._clients[key] = RpcClient(self._resolve(key), self._service.codec)
        try:
            return await self._run(self._repeat(self._clients[key], name, *arguments))
        except ClusterError as error:
            if self._to_error is None:
                raise
            raise self._to_error(error, *arguments) from error

    async def _repeat(self, client: RpcClient, name: str, *arguments: Any) -> Any:
        method = self._service.methods[name]
        for left in reversed(range(self._attempts if method.is_repeated else 1)):
            try:
                return await client.call(name, *arguments, timeout_s=method.timeout_s)
            except (OSError, *ACTOR_DIED_ERRORS) as error:
                if not method.is_repeated:
                    raise
                if not left or isinstance(error, TimeoutError):
                    raise ClusterError(f"the {self._name} of the cluster does not answer: {error}") from error
                await asyncio.sleep(RETRY_S)
        raise AssertionError
