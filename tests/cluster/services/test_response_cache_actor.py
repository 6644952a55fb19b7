"""An identical call waits for the one under way, and takes it over when whoever makes that is gone."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest
from waiting import until

from rlm_ray.cluster.driver import ClusterDriver
from rlm_ray.testing import ModelServer
from rlm_ray.testing.responses import Hang

pytestmark = pytest.mark.ray

QUESTION, TEXT = "what is it?", "a text"
SECONDS = 20
"""Of an hour that an identical call would be blocked by a reservation that nobody ends."""


@pytest.fixture
def hanging():
    """A model that never answers the first call, and every other at once."""
    asked = []

    def script(request):
        asked.append(request)
        return Hang(600) if len(asked) == 1 else "an answer"

    with ModelServer(script) as server:
        yield server


@pytest.fixture
async def engine(cluster):
    """Both actors are there again afterwards."""
    engine = await ClusterDriver.connect(cluster)
    yield engine
    await engine.grow_to(2)


@pytest.fixture
def rlm(ask, hanging, tmp_path):
    return ask(hanging, max_depth=0, cache=str(tmp_path / "cache"), run_dir=str(tmp_path / "runs"))


async def test_the_reservation_of_a_cancelled_caller_is_taken_over_at_once(rlm, hanging):
    first = asyncio.create_task((await rlm.astart(QUESTION, TEXT)).result())
    await until(lambda: hanging.calls == 1)
    second = asyncio.create_task((await rlm.astart(QUESTION, TEXT)).result())
    first.cancel()
    async with asyncio.timeout(SECONDS):
        assert (await second).answer == "an answer"
    third = await rlm.arun(QUESTION, TEXT)
    assert (third.answer, third.usage.cache_hits, hanging.calls) == ("an answer", 1, 2)


async def test_the_reservation_of_a_killed_actor_is_taken_over_within_seconds(rlm, hanging, engine):
    first = await rlm.astart(QUESTION, TEXT)
    answer = asyncio.create_task(first.result())
    await until(lambda: hanging.calls == 1)
    second = asyncio.create_task((await rlm.astart(QUESTION, TEXT)).result())
    census = await engine.stats()
    os.kill(census[first.actor]["pid"], signal.SIGKILL)
    async with asyncio.timeout(SECONDS):
        assert (await second).answer == "an answer"
        assert (await answer).answer == "an answer"
    assert hanging.calls == 2
