"""Actors that belong to the cluster and not to a driver: found by name, made if there is none, started again if they
die, and asked over a line.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from rlm_ray.cluster.gone import ACTOR_GONE
from rlm_ray.codec import Codec
from rlm_ray.errors import ClusterError
from rlm_ray.line import CALL_TIMEOUT_S, PROTOCOL, Address, Line, LineTransport

NAMESPACE = "rlm_ray"
ATTEMPTS = 40
RETRY_S = 0.25


def here(*, soft: bool) -> NodeAffinitySchedulingStrategy:
    """The node of this process; `soft`: rather than others, but others if need be."""
    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=soft)


def lasting_actor(cls: type[Any], name: str, *arguments: Any, node: str = "") -> Any:
    """The handle of the one actor of this name, on `node` or here. It takes no CPU from the scheduler."""
    place = NodeAffinitySchedulingStrategy(node, soft=True) if node else here(soft=True)
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


class LineOpener:
    """An actor's own end of its line, opened when somebody first asks for the address.

    A Ray call for every message would cost ten times the CPU.
    """

    def __init__(self, shell: object, methods: frozenset[str], codec: Codec) -> None:
        self._line = Line(shell, methods, secrets.token_bytes(32), codec)
        self._opening: asyncio.Task[Address] | None = None

    async def address(self) -> Address:
        if self._opening is None:
            self._opening = asyncio.ensure_future(self._line.listen(ray.util.get_node_ip_address()))
        return await asyncio.shield(self._opening)


class Finder:
    """Finds the line of a lasting actor, through whatever `make` answers: its handle, made if there is none."""

    def __init__(self, make: Callable[[], Any], tell: Callable[[], tuple[Any, ...]] = tuple) -> None:
        """`tell` gives what the actor is told with the question; one that was started again has forgotten it."""
        self._make, self._tell = make, tell
        self._handle: Any = None

    async def __call__(self) -> Address:
        if self._handle is None:
            self._handle = self._make()
        try:
            address: Address = await self._handle.address.remote(*self._tell())
        except ACTOR_GONE:
            self._handle = None  # the next call finds the new one, or makes it
            raise
        return address


async def insist(
    name: str, line: LineTransport, method: str, *arguments: Any, timeout_s: float | None = CALL_TIMEOUT_S
) -> Any:
    """Ask; one that died is replaced meanwhile, so ask again. Raises `ClusterError`."""
    for _ in range(ATTEMPTS):
        try:
            return await line.call(method, *arguments, timeout_s=timeout_s)
        except TimeoutError as error:
            raise ClusterError(f"the {name} of the cluster does not answer: {error}") from error
        except (OSError, *ACTOR_GONE) as error:
            lost = error
            await asyncio.sleep(RETRY_S)
    raise ClusterError(f"the {name} of the cluster does not answer: {lost}") from lost
