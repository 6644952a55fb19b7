"""The direct way to the shell, on a real loop."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from rlm_ray.admission.admission import Admission
from rlm_ray.admission.client import AdmissionClient
from rlm_ray.admission.protocol import Ask, Batch, Outcome, RunTerms
from rlm_ray.admission.shell import AdmissionShell
from rlm_ray.admission.transport import METHODS, AdmissionTransport
from rlm_ray.core.limits import Limits, Rates
from rlm_ray.core.model import Usage
from rlm_ray.line import Line

TERMS = RunTerms("run", Limits(), Rates(in_flight=100))


@asynccontextmanager
async def served(epoch="first"):
    shell = AdmissionShell(Admission(), epoch)
    await shell.open_run(TERMS)
    line = Line(shell, METHODS, b"secret")
    try:
        yield shell, line, await line.listen("127.0.0.1")
    finally:
        await line.close()


async def call(client):
    async with client.permit(Ask("run", "key", "model", 10, 10)) as permit:
        permit.settle(Outcome.OK, Usage(7, 3))


async def test_calls_go_through_it():
    async with served() as (shell, _, address):
        transport = AdmissionTransport(lambda: asyncio.sleep(0, address))
        client = AdmissionClient("client", transport)
        await asyncio.gather(*(call(client) for _ in range(200)))
        await client.flush()
        assert (await shell.usage("run")).total.calls == 200
        await client.aclose()
        await transport.aclose()


async def test_who_does_not_know_the_token_is_not_heard():
    async with served() as (_, _, address):
        transport = AdmissionTransport(lambda: asyncio.sleep(0, replace(address, token=b"guess!")))
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(transport.exchange(Batch("client", None)), 2)
        await transport.aclose()


async def test_a_line_that_breaks_is_found_again():
    addresses = []
    transport = AdmissionTransport(lambda: asyncio.sleep(0, addresses[-1]))
    client = AdmissionClient("client", transport, retry_s=0.02)
    async with served() as (_, _, address):
        addresses.append(address)
        await asyncio.gather(*(call(client) for _ in range(5)))
        await client.flush()
    async with served("second") as (shell, _, address):
        addresses.append(address)
        await asyncio.wait_for(asyncio.gather(*(call(client) for _ in range(5))), 5)
        await asyncio.wait_for(client.flush(), 2)
        assert (await shell.usage("run")).total.calls == 10
        await client.aclose()
        await transport.aclose()
