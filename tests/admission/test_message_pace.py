"""Many clients: the more messages come to the admission, the more each of them brings."""

import asyncio

import pytest
from virtual_time import in_virtual_time

from rlm_ray.admission.client import AdmissionClient
from rlm_ray.admission.controller import AdmissionController
from rlm_ray.admission.protocol import AttemptOutcome, PermitRequest, RunPolicy
from rlm_ray.admission.server import MAX_INTERVAL_S, AdmissionServer, MessagePacer
from rlm_ray.core.limits import Rates
from rlm_ray.core.llm import Usage


def intervals(pacer, clients, *messages_each):
    """The interval after each second, in which each client sends so many messages."""
    found = []
    for second, each in enumerate(messages_each):
        for turn in range(each):
            for client in range(clients):
                pacer.count(str(client), second + turn / each)
        pacer.count("0", second + 1.0)
        found.append(pacer.interval_s)
    return found


@pytest.mark.parametrize(
    ("clients", "per_client_s", "interval_s"),
    [
        (1, 98, 0.0),
        (4, 24, 0.0),
        (4, 26, 0.04),
        (40, 5, 0.4),
        (98, 1, 0.0),
        (100, 2, MAX_INTERVAL_S),
    ],
)
def test_clients_collect_so_long_that_all_together_keep_to_the_rate(clients, per_client_s, interval_s):
    assert intervals(MessagePacer(100.0), clients, per_client_s, per_client_s)[-1] == interval_s


def test_clients_collect_until_they_send_half_as_much():
    assert intervals(MessagePacer(100.0), 10, 6, 20, 6, 6, 4, 6) == [0.0, 0.1, 0.1, 0.1, 0.0, 0.0]


class CountingServer(AdmissionServer):
    """Counts messages; clients are asked to collect when more than `most` come in a second."""

    def __init__(self, most):
        loop = asyncio.get_running_loop()
        super().__init__(AdmissionController(), "epoch", clock=loop.time, max_messages_per_s=most)
        self.messages = 0

    async def exchange(self, batch):
        self.messages += 1
        return await super().exchange(batch)


async def messages_of(most, *, clients=20, calls_at_once=4, calls_each=20, rates=None):
    """The messages of clients that keep some calls of a second or so under way each."""
    loop = asyncio.get_running_loop()
    server = CountingServer(most)
    await server.open_run(RunPolicy("run", rates=rates or Rates()))

    async def caller(client, number):
        for turn in range(calls_each):
            async with client.permit(PermitRequest("run", "key", "model", 10, 10)) as permit:
                await asyncio.sleep(0.5 + (number * 7 + turn * 3) % 11 / 11)
                permit.release(AttemptOutcome.OK, Usage(7, 3), 0.25)

    members = [AdmissionClient(f"client-{number}", server, clock=loop.time) for number in range(clients)]
    async with asyncio.TaskGroup() as group:
        for number, client in enumerate(members):
            for place in range(calls_at_once):
                group.create_task(caller(client, number * calls_at_once + place))
    for client in members:
        await client.flush()
        await client.aclose()
    usage = await server.usage("run")
    assert usage.total.calls == clients * calls_at_once * calls_each
    assert server._controller.stats()["permits"] == 0
    return server.messages


@pytest.mark.parametrize("rates", [Rates(in_flight=1000), Rates(in_flight=40)], ids=["free", "scarce"])
def test_busy_clients_send_fewer_messages_and_every_call_is_counted(rates):
    counts = {}

    async def work(most):
        counts[most] = await messages_of(most, rates=rates)

    straight_s = in_virtual_time(work(10_000.0))
    paced_s = in_virtual_time(work(40.0))
    assert counts[40.0] < 0.75 * counts[10_000.0]
    assert paced_s < 1.5 * straight_s  # a call takes about a second, and clients collect for half of one


@pytest.mark.parametrize(
    ("messages", "seconds", "interval_s"),
    [(100, 1.0, 0.0), (101, 1.0, 0.01), (200, 2.0, 0.0), (202, 2.0, 0.01)],
)
def test_clients_collect_where_more_messages_come_than_may(messages, seconds, interval_s):
    pacer = MessagePacer(max_per_s=100)
    pacer.count("c", 10.0)
    for _ in range(messages - 1):
        pacer.count("c", 10.0)
    pacer.count("c", 10.0 + seconds)
    assert pacer.interval_s == pytest.approx(interval_s)
