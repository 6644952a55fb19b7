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
from rlm_ray.cluster.lasting import lasting_actor
from rlm_ray.core.usage import RunUsage
from rlm_ray.errors import ClusterError

NAME = "rlm_ray.admission.v1"
ATTEMPTS = 40
RETRY_S = 0.25


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
    """The way to the admission actor from any process of the cluster.

    Raises `ConnectionError`, or what Ray raises, when the actor is gone.
    """

    def __init__(self) -> None:
        self._handle: Any = None
        self._line = LineTransport(self._find)

    async def exchange(self, batch: Batch) -> Replies:
        return await self._line.exchange(batch)

    async def open_run(self, terms: RunTerms) -> None:
        """Tell it of a run: its budget and its rates."""
        await self._insist("open_run", terms)

    async def open_sessions(self, run_id: str, count: int) -> Refused | None:
        """Count more sessions; the refusal where the run may not have so many."""
        refused: Refused | None = await self._insist("open_sessions", run_id, count)
        return refused

    async def usage(self, run_id: str) -> RunUsage:
        """What a run has used so far."""
        usage: RunUsage = await self._insist("usage", run_id)
        return usage

    async def close_run(self, run_id: str) -> RunUsage:
        """End a run; what it has used."""
        usage: RunUsage = await self._insist("close_run", run_id)
        return usage

    async def forget_holder(self, holder: str) -> None:
        """A client died; its permits come back."""
        await self._insist("forget_holder", holder)

    async def _insist(self, method: str, *arguments: Any) -> Any:
        """Ask; one that died is replaced meanwhile, so ask again."""
        for _ in range(ATTEMPTS):
            try:
                return await self._line.call(method, *arguments)
            except (OSError, ray.exceptions.RayActorError) as error:
                lost = error
                await asyncio.sleep(RETRY_S)
        raise ClusterError(f"the admission of the cluster does not answer: {lost}") from lost

    async def _find(self) -> Address:
        if self._handle is None:
            self._handle = admission_actor()
        try:
            address: Address = await self._handle.address.remote()
        except ray.exceptions.RayActorError:
            self._handle = None  # the next call finds the new one, or makes it
            raise
        return address


def admission_actor() -> Any:
    """The handle of the cluster's admission, made if there is none."""
    return lasting_actor(AdmissionActor, NAME)
