"""An error about one message of an exchange is that one's own."""

import asyncio

import pytest

from rlm_ray.admission.client import AdmissionClient
from rlm_ray.admission.controller import AdmissionController
from rlm_ray.admission.protocol import AttemptOutcome, PermitRequest, RunPolicy
from rlm_ray.admission.server import AdmissionServer
from rlm_ray.core.limits import Rates
from rlm_ray.core.llm import Usage
from rlm_ray.errors import RemoteCallError


class Failing(AdmissionController):
    """Cannot judge asks for the model `poison`, nor take in their settles."""

    def request(self, ask, now):
        if ask.model == "poison":
            raise ZeroDivisionError("no")
        super().request(ask, now)


class Refusing:
    """A way to the admission on which batches with a poisoned ask are answered with an error."""

    def __init__(self, shell):
        self._shell = shell

    async def exchange(self, batch):
        if any(ask.model == "poison" for ask in batch.asks):
            raise RemoteCallError("a call of exchange cannot be sent: object is no message type")
        return await self._shell.exchange(batch)


async def answered(client, model):
    async with client.permit(PermitRequest("run", "key", model, 10, 10)) as permit:
        permit.release(AttemptOutcome.OK, Usage(7, 3))
    return model


@pytest.mark.parametrize("where", ["at the admission", "on the way"])
async def test_one_ask_that_fails_fails_alone_and_the_others_of_its_batch_are_granted(where):
    shell = AdmissionServer(Failing() if where == "at the admission" else AdmissionController(), "epoch")
    await shell.open_run(RunPolicy("run", rates=Rates(in_flight=100)))
    client = AdmissionClient("client", shell if where == "at the admission" else Refusing(shell))
    models = ["a", "poison", "b", "poison", "c"]
    async with asyncio.timeout(5):
        got = await asyncio.gather(*(answered(client, model) for model in models), return_exceptions=True)
        await client.flush()
    assert [type(each).__name__ for each in got] == [
        "str",
        "RemoteCallError",
        "str",
        "RemoteCallError",
        "str",
    ]
    assert (await shell.usage("run")).total.calls == 3
    await client.aclose()
