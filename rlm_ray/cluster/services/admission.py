"""The one admission of a cluster, as a named Ray actor that outlives drivers and comes back when it dies.

It takes no CPU from the scheduler. All drivers of a cluster share it, so their runs share rates. Whoever finds it
gone makes it anew; it starts empty and learns from its clients what is under way. `AdmissionStub` is the way to it from
any process.
"""

from __future__ import annotations

import asyncio
import logging
import random
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from rlm_ray.admission.controller import AdmissionController
from rlm_ray.admission.protocol import ClientMessage, Refused, RunPolicy, RunStatus, ServerMessage
from rlm_ray.admission.server import AdmissionServer
from rlm_ray.cluster.environment import forget_driver_folders
from rlm_ray.cluster.services.detached_actor import (
    RETRY_S,
    RpcEndpoint,
    RpcResolver,
    call_with_retry,
    get_or_create_detached_actor,
)
from rlm_ray.core.usage import RunUsage
from rlm_ray.util.codec import Codec
from rlm_ray.util.rpc import RpcAddress, RpcClient

NAME = "rlm_ray.admission"
METHODS = frozenset(
    {"exchange", "open_run", "open_sessions", "close_run", "usage", "status", "hold_run", "forget_holder"}
)
"""Methods that may be called over RPC."""
CODEC = Codec(ClientMessage, ServerMessage, RunPolicy, Refused, RunUsage, RunStatus)
"""Encodes the messages of these calls."""

_log = logging.getLogger(__name__)


class AdmissionActor(AdmissionServer):
    """The admission as an actor; each start of it has a new epoch."""

    def __init__(self) -> None:
        forget_driver_folders()
        super().__init__(AdmissionController(random.random), uuid.uuid4().hex)
        self._opener = RpcEndpoint(self, METHODS, CODEC)

    async def address(self) -> RpcAddress:
        """Return the address of its RPC server."""
        return await self._opener.address()


class AdmissionStub:
    """Calls the admission actor from any process of the cluster.

    Raises `ConnectionError`, or what Ray raises, when the actor is gone.
    """

    def __init__(self, resolve: Callable[[], Awaitable[RpcAddress]] | None = None) -> None:
        """Call the actor at the address that `resolve` finds; None: the cluster's."""
        self._line = RpcClient(resolve or RpcResolver(admission_actor), CODEC)

    async def aclose(self) -> None:
        await self._line.aclose()

    async def exchange(self, batch: ClientMessage) -> ServerMessage:
        """Carry the message of an `AdmissionClient`; not sent again here where the actor is gone."""
        reply: ServerMessage = await self._line.call("exchange", batch)
        return reply

    async def open_run(self, policy: RunPolicy) -> None:
        """Open a run, with its budget and its rates."""
        await self._call("open_run", policy)

    async def open_sessions(self, policy: RunPolicy, count: int) -> Refused | None:
        """Count more sessions; returns the refusal where the run may not have so many."""
        refused: Refused | None = await self._call("open_sessions", policy, count)
        return refused

    async def usage(self, run_id: str) -> RunUsage:
        """Return what a run has used so far."""
        usage: RunUsage = await self._call("usage", run_id)
        return usage

    async def status(self, run_id: str) -> RunStatus | None:
        """Return the status of an open run: what is under way, what waits and for what."""
        status: RunStatus | None = await self._call("status", run_id)
        return status

    async def hold_run(self, run_id: str) -> None:
        """Hold a run as its driver, until this is cancelled: where this process is gone the run is closed."""
        while True:
            try:
                await call_with_retry("admission", self._line, "hold_run", run_id, timeout_s=None)
            except Exception as error:  # noqa: BLE001 - whatever it was: not held, the run would be closed under its driver
                _log.debug("run %s is not held at the admission: %s", run_id, error)
            await asyncio.sleep(RETRY_S)

    async def close_run(self, run_id: str) -> RunUsage:
        """Close a run and return its usage."""
        usage: RunUsage = await self._call("close_run", run_id)
        return usage

    async def forget_holder(self, holder: str) -> None:
        """Drop a client that died; its permits come back."""
        await self._call("forget_holder", holder)

    async def _call(self, method: str, *arguments: Any) -> Any:
        return await call_with_retry("admission", self._line, method, *arguments)


def admission_actor() -> Any:
    """Return the handle of the cluster's admission actor; makes it if there is none."""
    return get_or_create_detached_actor(AdmissionActor, NAME)
