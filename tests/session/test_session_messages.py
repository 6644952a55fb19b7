"""How many messages a session sends: what it costs the admission and the journal, and what they can hold of such sessions."""

import asyncio
from dataclasses import replace

import pytest
from run_lives import Life
from virtual_time import in_virtual_time

from rlm_ray.admission.client import AdmissionClient
from rlm_ray.admission.controller import AdmissionController
from rlm_ray.admission.server import AdmissionServer
from rlm_ray.core.limits import Rates
from rlm_ray.llm.gateway import Gateway

LATENCY_S = 0.2


class CountedLife(Life):
    """Counts messages to the admission and the journal; a model call takes `LATENCY_S`."""

    def __post_init__(self):
        super().__post_init__()
        self.exchanges = self.appends = 0
        clock = asyncio.get_running_loop().time
        self.shell = AdmissionServer(AdmissionController(), "epoch", clock=clock)
        exchange, complete, open_run = self.shell.exchange, self.provider.complete, self.shell.open_run

        async def counted(batch):
            self.exchanges += 1
            return await exchange(batch)

        async def delayed(request):
            await asyncio.sleep(LATENCY_S)
            return await complete(request)

        async def open_wide(policy):
            await open_run(replace(policy, rates=Rates(in_flight=1000)))

        self.shell.exchange, self.provider.complete, self.shell.open_run = counted, delayed, open_wide
        self.client = AdmissionClient("holder", self.shell, clock=clock)
        self.gateway = Gateway(self.provider, self.client)

    async def append(self, ref, data):
        self.appends += 1
        return await super().append(ref, data)


def messages_of(program):
    """Messages to the admission, to the journal, and model calls of a root that writes these cells."""
    found = []

    async def work():
        life = CountedLife(programs={"ROOT": program, "C": ["look", "final"]})
        assert (await life.run()).stop_reason == "answered"
        found.extend((life.exchanges, life.appends, life.calls_made))

    in_virtual_time(work())
    return tuple(found)


@pytest.mark.parametrize("turns", [1, 2, 8, 20])
def test_a_turn_is_one_message_to_the_admission_and_two_to_the_journal(turns):
    program = ["look"] * (turns - 1) + ["final"]
    assert messages_of(program) == (turns + 1, 2 * turns + 1, turns)


def test_sub_calls_of_one_map_share_their_messages():
    exchanges, appends, calls = messages_of([f"leaves {' '.join(f'x{n}' for n in range(200))}", "final"])
    assert calls == 202
    assert (exchanges, appends) == (4, 7)


def test_child_sessions_of_one_map_share_their_messages():
    exchanges, appends, calls = messages_of([f"children {' '.join(['C'] * 100)}", "final"])
    assert calls == 202
    assert (exchanges, appends) == (5, 9)
