"""The one admission of a cluster, as a named Ray actor that outlives drivers and comes back when it dies.

It takes no CPU from the scheduler. All drivers of a cluster share it, so their runs share rates. Whoever finds it
gone makes it anew; it starts empty and learns from its clients what is under way.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import uuid
from typing import Any

import ray

from rlm_ray.admission.admission import Admission
from rlm_ray.admission.line import Address, Line, LineTransport
from rlm_ray.admission.protocol import Batch, Refused, Replies, RunTerms
from rlm_ray.admission.shell import AdmissionShell
from rlm_ray.core.usage import RunUsage

NAME = "rlm_ray.admission.v1"
NAMESPACE = "rlm_ray"


class AdmissionActor(AdmissionShell):
    """A new life of it has a new epoch."""

    def __init__(self) -> None:
        super().__init__(Admission(random.random), uuid.uuid4().hex)
        self._line = Line(self, secrets.token_bytes(32))
        self._address: asyncio.Task[Address] | None = None

    async def address(self) -> Address:
        """Where its line is: a Ray call for every batch would cost ten times the CPU."""
        if self._address is None:
            self._address = asyncio.ensure_future(self._line.listen(ray.util.get_node_ip_address()))
        return await asyncio.shield(self._address)


class RemoteAdmission:
    """The way to the admission actor from any process of the cluster."""

    def __init__(self) -> None:
        self._handle: Any = None
        self._line = LineTransport(self._find)

    async def exchange(self, batch: Batch) -> Replies:
        """What an `AdmissionClient` needs. Raises `ConnectionError`, or what Ray raises, when the actor is gone."""
        return await self._line.exchange(batch)

    async def open_run(self, terms: RunTerms) -> None:
        await self._call("open_run", terms)

    async def open_sessions(self, run_id: str, count: int) -> Refused | None:
        refused: Refused | None = await self._call("open_sessions", run_id, count)
        return refused

    async def usage(self, run_id: str) -> RunUsage:
        usage: RunUsage = await self._call("usage", run_id)
        return usage

    async def close_run(self, run_id: str) -> RunUsage:
        usage: RunUsage = await self._call("close_run", run_id)
        return usage

    async def forget_holder(self, holder: str) -> None:
        await self._call("forget_holder", holder)

    async def _find(self) -> Address:
        address: Address = await self._call("address")
        return address

    async def _call(self, method: str, *arguments: Any) -> Any:
        if self._handle is None:
            self._handle = admission_actor()
        try:
            return await getattr(self._handle, method).remote(*arguments)
        except ray.exceptions.RayActorError:
            self._handle = None  # the next call finds the new one, or makes it
            raise


def admission_actor() -> Any:
    """The handle of the cluster's admission, made if there is none."""
    return (
        ray.remote(AdmissionActor)
        .options(
            name=NAME,
            namespace=NAMESPACE,
            get_if_exists=True,
            lifetime="detached",
            num_cpus=0,
            max_restarts=-1,
            max_concurrency=100_000,
        )
        .remote()
    )
