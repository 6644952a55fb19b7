"""A run's time limit and a call's `timeout` hold whatever a provider does. The clock of the loop is virtual."""

import asyncio
import time

import pytest
from virtual_time import in_virtual_time

from rlm_ray.admission.client import AdmissionClient
from rlm_ray.admission.controller import AdmissionController
from rlm_ray.admission.protocol import RunPolicy
from rlm_ray.admission.server import AdmissionServer
from rlm_ray.config import Settings
from rlm_ray.core.limits import Limits, Rates
from rlm_ray.core.llm import Message, ModelRequest
from rlm_ray.core.output_limit import OutputLimit
from rlm_ray.errors import LimitReached, ModelUnavailableError, TransientModelError
from rlm_ray.journal.call_recorder import CallSite
from rlm_ray.journal.recorder import NullRecorder
from rlm_ray.llm.gateway import Gateway
from rlm_ray.llm.run_context import LATE_S, Deadline, RunContext, in_time

REQUEST = ModelRequest("m", (Message("user", "hi"),), params={"timeout": 100.0})


class Habit:
    """A provider that does the same each time."""

    def __init__(self, error=None):
        self.error = error
        self.requests = 0

    async def complete(self, request):
        self.requests += 1
        if self.error is not None:
            raise self.error
        await asyncio.Event().wait()

    def cost_usd(self, model, usage):
        return 0.0

    def output_limit(self, model):
        return OutputLimit()

    def provider_name(self, model):
        return "habit"


def transient(kind, status=None, wait_s=None):
    return TransientModelError("m", "not now", status, kind, wait_s)


HABITS = {
    "429 for ever": transient("rate_limited", 429),
    "429 with Retry-After: 600": transient("rate_limited", 429, 600.0),
    "503 for ever": transient("server_error", 503),
    "503 with Retry-After: 600": transient("server_error", 503, 600.0),
    "529 for ever": transient("server_error", 529),
    "connection refused": transient("connection"),
    "time-out after time-out": transient("timeout", 408),
    "silence": None,
}


async def asked(habit, limits, *, role="turn", rates=None, attempts=1_000):
    rates = rates or Rates()
    loop = asyncio.get_running_loop()
    shell = AdmissionServer(AdmissionController(), "epoch", clock=loop.time)
    client = AdmissionClient("holder", shell, clock=loop.time)
    gateway = Gateway(Habit(habit), client)
    await shell.open_run(RunPolicy("run", Limits(), rates))
    run = RunContext("run", Settings(limits=limits, rates=rates, max_attempts=attempts), time.time())
    driver = asyncio.create_task(shell.hold_run("run"))
    try:
        await gateway.complete(REQUEST, run, CallSite((), 1, role), NullRecorder())
    finally:
        driver.cancel()
        await client.aclose()


@pytest.mark.parametrize("role", ["turn", "leaf", "direct", "last"])
@pytest.mark.parametrize("habit", HABITS)
def test_no_habit_of_a_provider_outlasts_the_time_limit(habit, role):
    async def run():
        with pytest.raises(LimitReached, match=r"time limit of 20 s is over; raise limits\.time_s") as caught:
            await asked(HABITS[habit], Limits(time_s=20.0), role=role)
        assert caught.value.reason == "time_s"

    late_s = LATE_S if role == "last" else 0.0
    assert in_virtual_time(run()) == pytest.approx(20.0 + late_s, abs=0.5)


def test_a_call_that_waits_for_its_turn_ends_with_the_time_of_its_run():
    async def run():
        rates = Rates(in_flight=1)
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(refused(rates))

    async def refused(rates):
        with pytest.raises(LimitReached):
            await asked(None, Limits(time_s=20.0), rates=rates)

    assert in_virtual_time(run()) == pytest.approx(20.0, abs=0.5)


def test_an_attempt_takes_its_timeout_in_all():
    async def run():
        with pytest.raises(ModelUnavailableError, match="no whole answer within 100 s; raise call_timeout_s"):
            await asked(None, Limits(), attempts=6)

    assert in_virtual_time(run()) == pytest.approx(6 * 100.0, abs=60)


@pytest.mark.parametrize(("time_s", "kept_s"), [(2.0, 0.1), (100.0, 5.0), (600.0, 30.0), (86_400.0, 30.0)])
def test_a_part_of_the_time_is_kept_for_the_last_call(time_s, kept_s):
    deadline = Deadline.of(1e9, Limits(time_s=time_s))
    assert deadline.at - deadline.last_call_at == pytest.approx(kept_s)


async def test_what_is_over_in_time_is_left_alone():
    done = []
    for limits in (Limits(time_s=5.0), Limits()):
        async with in_time(Deadline.of(time.time(), limits)):
            done.append(limits)
    assert len(done) == 2


async def test_a_timeout_of_the_block_itself_is_not_taken_for_the_deadline():
    with pytest.raises(TimeoutError, match="its own"):
        async with in_time(Deadline.of(time.time(), Limits(time_s=5.0))):
            raise TimeoutError("its own")
