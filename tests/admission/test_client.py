"""Clients and the shell on a real event loop, in one process."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from rlm_ray.admission.client import AdmissionClient
from rlm_ray.admission.controller import AdmissionController
from rlm_ray.admission.protocol import AttemptOutcome, PermitRequest, RunPolicy
from rlm_ray.admission.server import AdmissionServer
from rlm_ray.core.limits import Limits, Rates
from rlm_ray.core.llm import Usage
from rlm_ray.errors import LimitReached, QuotaError


class Line:
    """A transport that can be cut, and answers that can be lost on it."""

    def __init__(self, shell):
        self.shell = shell
        self.up = True
        self.lose_next = False
        self.batches = []

    async def exchange(self, batch):
        self.batches.append(batch)
        if not self.up:
            raise ConnectionError("the line is cut")
        replies = await self.shell.exchange(batch)
        if self.lose_next or not self.up:
            self.lose_next = False
            raise ConnectionError("the answer got lost")
        return replies

    def replace(self, shell):
        """The admission died; another one starts, empty."""
        self.shell, self.up = shell, True


def ask(**more):
    return PermitRequest("run", "key", "model", 10, 10, **{"depth": 1} | more)


@asynccontextmanager
async def connected(rates=None, name="client", **limits):
    shell = AdmissionServer(AdmissionController(), "first")
    await shell.open_run(RunPolicy("run", Limits(**limits), rates or Rates()))
    line = Line(shell)
    client = AdmissionClient(name, line, coalesce_s=0.002, retry_s=0.01)
    try:
        yield client, line
    finally:
        await client.aclose()


async def call(client, **more):
    async with client.permit(ask(**more)) as permit:
        await asyncio.sleep(0)
        permit.release(AttemptOutcome.OK, Usage(7, 3), 0.25)
    return permit


async def test_a_call_is_admitted_settled_and_counted():
    async with connected() as (client, line):
        await call(client)
        await client.flush()
        total = (await line.shell.usage("run")).total
        assert (total.calls, total.tokens, total.cost_usd) == (1, 10, 0.25)


async def test_many_asks_travel_together():
    async with connected(Rates(in_flight=1000)) as (client, line):
        await asyncio.gather(*(call(client) for _ in range(500)))
        await client.flush()
        assert (await line.shell.usage("run")).total.calls == 500
        assert len(line.batches) < 200


async def test_a_refusal_is_an_exception_with_its_reason():
    async with connected(tokens=5) as (client, _):
        with pytest.raises(LimitReached, match="token limit of 5") as caught:
            await call(client)
        assert caught.value.reason == "tokens"


async def test_quota_is_an_error_of_the_model():
    async with connected() as (client, _):
        async with client.permit(ask()) as permit:
            permit.release(AttemptOutcome.QUOTA_EXHAUSTED, why="pay your bill")
        with pytest.raises(QuotaError, match="pay your bill"):
            await call(client)


async def test_a_permit_left_without_a_word_is_charged():
    async with connected() as (client, line):
        with pytest.raises(ValueError, match="broke"):
            async with client.permit(ask()):
                raise ValueError("broke")
        await client.flush()
        assert (await line.shell.usage("run")).total.unknown == 1
        assert (await line.shell.status("run")).spent.tokens == 20


async def test_a_cancelled_wait_leaves_the_queue():
    async with connected(Rates(in_flight=1)) as (client, line):
        first = await client.acquire(ask())
        waiting = [asyncio.create_task(client.acquire(ask())) for _ in range(3)]
        await asyncio.sleep(0.02)
        for task in waiting[:2]:
            task.cancel()
        await asyncio.sleep(0.02)
        first.release(AttemptOutcome.OK, Usage(1, 1))
        last = await asyncio.wait_for(waiting[2], 1)
        last.release(AttemptOutcome.OK, Usage(1, 1))
        await client.flush()
        assert (await line.shell.usage("run")).total.attempts == 2


async def test_a_grant_for_a_cancelled_wait_is_given_back():
    async with connected(Rates(in_flight=1)) as (client, line):
        task = asyncio.create_task(client.acquire(ask()))
        for _ in range(3):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait_for(call(client), 1)
        await client.flush()
        assert (await line.shell.usage("run")).total.attempts == 1


async def test_two_clients_share_one_rate():
    async with connected(Rates(in_flight=1)) as (one, line):
        two = AdmissionClient("two", line)
        await asyncio.gather(*(call(client) for client in (one, two) for _ in range(10)))
        await two.flush()
        await two.aclose()
        await one.flush()
        assert (await line.shell.usage("run")).total.calls == 20


async def test_headers_reach_the_account():
    async with connected() as (client, _):
        async with client.permit(ask()) as permit:
            permit.release(
                AttemptOutcome.OK, Usage(1, 1), headers={"llm_provider-x-ratelimit-limit-requests": "60"}
            )
        await client.flush()
        await call(client)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(call(client), 0.2)


async def test_a_lost_answer_loses_nothing_and_counts_nothing_twice():
    async with connected() as (client, line):
        await call(client)
        await client.flush()
        permit = await client.acquire(ask())
        line.lose_next = True
        permit.release(AttemptOutcome.OK, Usage(7, 3), 0.25)
        await asyncio.wait_for(client.flush(), 2)
        line.lose_next = True
        await asyncio.wait_for(call(client), 5)
        await asyncio.wait_for(client.flush(), 2)
        total = (await line.shell.usage("run")).total
        assert (total.calls, total.attempts, total.tokens) == (3, 3, 30)
        assert (await line.shell.status("run")).spent.calls == 3


async def test_while_nobody_answers_it_goes_on_at_half_the_rate():
    async with connected() as (client, line):
        for _ in range(20):
            await call(client)
        await client.flush()
        line.up = False
        done = [asyncio.create_task(call(client)) for _ in range(20)]
        await asyncio.sleep(0.3)
        assert 1 <= sum(task.done() for task in done) <= 3
        line.up = True
        await asyncio.wait_for(asyncio.gather(*done), 2)
        await asyncio.wait_for(client.flush(), 2)
        total = (await line.shell.usage("run")).total
        assert (total.calls, total.attempts) == (40, 40)


async def test_alone_it_spends_no_more_than_its_share():
    async with connected(tokens=100) as (client, line):
        await call(client)
        await client.flush()
        line.up = False
        done = [asyncio.create_task(call(client)) for _ in range(10)]
        await asyncio.sleep(0.2)
        assert sum(task.done() for task in done) <= 2
        for task in done:
            task.cancel()
        await asyncio.gather(*done, return_exceptions=True)


async def test_a_new_admission_is_told_what_was_spent_and_what_is_under_way():
    async with connected(Rates(in_flight=2), tokens=1000) as (client, line):
        for _ in range(3):
            await call(client)
        held = await client.acquire(ask())
        waiting = [asyncio.create_task(call(client)) for _ in range(4)]
        await asyncio.sleep(0.05)
        await client.flush()
        line.up = False
        second = AdmissionServer(AdmissionController(), "second")
        await asyncio.sleep(0.05)
        line.replace(second)
        await asyncio.wait_for(asyncio.gather(*waiting), 5)
        held.release(AttemptOutcome.OK, Usage(7, 3), 0.25)
        await asyncio.wait_for(client.flush(), 2)
        total = (await second.usage("run")).total
        assert (total.calls, total.tokens, total.cost_usd) == (8, 80, 2.0)
        assert (await second.status("run")).spent.tokens == 80


async def test_a_restart_that_nobody_noticed_is_noticed_by_the_epoch(monkeypatch):
    monkeypatch.setattr("rlm_ray.admission.controller.RECOVERY_GRACE_S", 0.05)
    async with connected(tokens=1000) as (client, line):
        await call(client)
        await client.flush()
        line.replace(AdmissionServer(AdmissionController(), "second"))
        await asyncio.wait_for(asyncio.gather(*(call(client) for _ in range(5))), 2)
        await asyncio.wait_for(client.flush(), 2)
        assert (await line.shell.usage("run")).total.calls == 6


async def test_a_restart_is_noticed_while_there_is_nothing_to_say_but_permits_are_out(monkeypatch):
    monkeypatch.setattr("rlm_ray.admission.client.HEARTBEAT_S", 0.02)
    async with connected(tokens=1000) as (client, line):
        permit = await client.acquire(ask())
        admission = AdmissionController()
        line.replace(AdmissionServer(admission, "second"))
        async with asyncio.timeout(2):
            while permit.ask.request_id not in admission._permits:  # noqa: ASYNC110 - nothing there tells of it
                await asyncio.sleep(0.01)
        permit.release(AttemptOutcome.OK, Usage(7, 3))
        await client.flush()
        assert (await line.shell.usage("run")).total.tokens == 10


async def test_who_was_taken_for_dead_asks_again(monkeypatch):
    monkeypatch.setattr("rlm_ray.admission.client.RESEND_AFTER_S", 0.05)
    async with connected(Rates(in_flight=1)) as (client, line):
        line.shell._hold_s = 0.06
        first = await client.acquire(ask())
        waiting = asyncio.create_task(call(client))
        await asyncio.sleep(0.03)
        await line.shell.forget_holder("client")
        await asyncio.wait_for(waiting, 2)
        first.release(AttemptOutcome.OK, Usage(7, 3))
        await client.flush()
        total = (await line.shell.usage("run")).total
        assert (total.calls, total.tokens, total.unknown) == (2, 20, 0)
