"""A run is open at the admission as long as its driver drives it: however it ends, it is closed there with it."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest
from waiting import until

from rlm_ray.cluster.driver import ClusterDriver
from rlm_ray.cluster.services import admission_actor
from rlm_ray.errors import ActorLostError, RLMError
from rlm_ray.testing import ModelServer
from rlm_ray.testing.responses import Failure, Hang, recursion, run_query

pytestmark = pytest.mark.ray

CHILDREN = run_query("recursive_map('look', [context[i*900:(i+1)*900] for i in range(4)])")
TEXT = "some text " * 400


async def runs_open():
    return (await admission_actor().stats.remote())["runs"]


async def runs_closed(before):
    return await runs_open() == before


@pytest.fixture
async def before(cluster):
    """None of other tests' runs is open: one whose driver was killed stays for 60 to 80 s."""
    await ClusterDriver.connect(cluster)
    await until(lambda: runs_closed(0), 120)
    return 0


@pytest.fixture
def slow():
    """A provider that answers the root, and keeps its children waiting."""
    with ModelServer(
        lambda request: recursion(request) if "RUN:" in str(request.messages) else Hang(600)
    ) as server:
        yield server


async def started(ask, server, **options):
    """A run whose children are at work."""
    run = await ask(server, max_depth=2, max_leaf_chars=200, **options).astart(CHILDREN, TEXT)
    result = asyncio.create_task(run.result())
    await until(lambda: server.in_flight >= 4)
    assert await runs_open() >= 1
    return run, result


@pytest.mark.parametrize("times", [1, 2, 5])
async def test_cancelled_run_is_closed_however_often_it_is_cancelled(ask, slow, before, times):
    _, result = await started(ask, slow)
    for _ in range(times):
        result.cancel()
        await asyncio.sleep(0)
    await asyncio.gather(result, return_exceptions=True)
    await until(lambda: runs_closed(before))
    await until(lambda: slow.in_flight == 0)
    assert await runs_open() == before  # nothing that ended late has opened it again


@pytest.mark.parametrize("is_recorded", [True, False])
async def test_run_whose_actor_is_killed_is_closed_with_its_end(ask, slow, before, cluster, is_recorded):
    """Without a record the run is over, with one it goes on elsewhere until it is cancelled."""
    run, result = await started(ask, slow, run_dir=is_recorded)
    engine = await ClusterDriver.connect(cluster)
    calls = slow.calls
    os.kill((await engine.stats())[run.actor]["pid"], signal.SIGKILL)
    if is_recorded:
        await until(lambda: slow.calls >= calls + 4)
        assert await runs_open() == before + 1
        result.cancel()
    with pytest.raises((ActorLostError, asyncio.CancelledError)):
        await result
    await until(lambda: runs_closed(before))
    await engine.grow_to(2)


async def test_run_that_ends_with_an_error_is_closed(ask, before):
    with (
        ModelServer(lambda _: Failure(401, "no such key")) as server,
        pytest.raises(RLMError, match="no such key"),
    ):
        await ask(server, max_depth=0).arun("what is it?", "a text")
    assert await runs_open() == before


async def test_run_whose_end_is_known_to_the_caller_is_closed_already(ask, before):
    with ModelServer(recursion) as server:
        assert (await ask(server, max_depth=1).arun("what is it?", "a text")).answer == "session done"
    assert await runs_open() == before
