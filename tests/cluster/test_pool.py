"""The pool grows with demand and shrinks when idle."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time

import pytest
import ray
from scripts import run_script
from waiting import until

from rlm_ray import RLM, Cluster
from rlm_ray.cluster.driver import ClusterDriver
from rlm_ray.cluster.pool import POOL_NAME, cpu_holders
from rlm_ray.testing import ModelServer
from rlm_ray.testing.responses import recursion, run_query

pytestmark = pytest.mark.ray

WIDE = run_query("print(len(context)); r = recursive_map('q', [context[i:i+9] for i in range(0, 900, 9)])")


async def actors(cluster):
    return await (await ClusterDriver.connect(cluster)).stats()


async def until_there_are(count, cluster):
    deadline = time.monotonic() + 30
    while len(await actors(cluster)) != count:
        assert time.monotonic() < deadline, f"{len(await actors(cluster))} actors, not {count}"
        await asyncio.sleep(0.1)


@pytest.fixture
async def two_again(cluster):
    yield
    await RLM(cluster=cluster).aprewarm(2)


async def test_idle_actors_are_given_back_and_come_again_with_a_wide_map(ask, cluster, server, two_again):
    await RLM(cluster=cluster).aprewarm(2)
    shrinking = Cluster(min_actors=1, max_actors=2, idle_timeout_s=1)
    await until_there_are(1, shrinking)
    wide = ask(server, cluster=Cluster(min_actors=1, max_actors=2))
    deadline = time.monotonic() + 60
    while (
        len(await actors(wide.settings.cluster)) != 2
    ):  # the CPU of the actor given back is not free at once
        assert time.monotonic() < deadline
        assert await wide.acompletion(WIDE, "some words " * 100) == "session done"


async def test_slots_of_a_run_whose_driver_is_gone_are_taken_back_at_the_second_check(ask, cluster, server):
    await RLM(cluster=cluster).aprewarm(1)
    pool, engine = ray.get_actor(POOL_NAME), await ClusterDriver.connect(cluster)
    run = await ask(server).astart(run_query("recursive_map('q', ['piece'] * 60)"), "some words")
    held = asyncio.create_task(engine.run_on_ray_thread(engine.admission.hold_run("held")))
    for run_id in ("gone", "gone", "held"):
        await pool.acquire_root_slot.remote(64, run_id)

    async def taken():
        await pool.return_driverless.remote()
        return (await pool.stats.remote())["taken_slots"]

    assert await taken() >= 1
    assert await taken() in {1, 2}  # the one that is held, and that of the run, which may be over
    assert (await run.result()).answer == "session done"
    assert await taken() == 1
    held.cancel()

    async def empty():
        return await taken() == 0

    await until(empty)


async def test_actors_at_work_are_not_given_back(ask, cluster, server, two_again):
    busy = ask(server, cluster=Cluster(min_actors=1, max_actors=2, idle_timeout_s=1))
    query = run_query("import time\nt = time.time()\nwhile time.time() - t < 3: pass\nprint(len(context))")
    answers = await asyncio.gather(*(busy.acompletion(query, "some words " * 100) for _ in range(4)))
    assert answers == ["session done"] * 4


async def test_an_actor_at_work_on_plain_calls_is_not_given_back_however_long_they_take(
    ask, cluster, two_again
):
    await RLM(cluster=cluster).aprewarm(2)
    before = {counts["pid"] for counts in (await actors(cluster)).values()}
    with ModelServer(recursion, latency_s=2.5) as slow:
        rlm = ask(slow, cluster=Cluster(min_actors=1, max_actors=2, idle_timeout_s=1))
        run = await rlm.astart(WIDE, "some words " * 100)
        result = await run.result()
    assert result.answer == "session done"
    assert result.usage.repaid_calls == 0
    assert slow.calls == result.usage.total.calls
    assert {counts["pid"] for counts in (await actors(cluster)).values()} <= before


async def test_an_actor_that_dies_while_it_is_given_back_does_not_end_the_giving_back(cluster, two_again):
    await RLM(cluster=cluster).aprewarm(2)
    pids = [counts["pid"] for counts in (await actors(cluster)).values()]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)  # asked to end, they do not answer
    shrinking = Cluster(min_actors=1, max_actors=2, idle_timeout_s=1)
    await ClusterDriver.connect(shrinking)
    await asyncio.sleep(3)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(60):
        while len(await actors(cluster)) != 2:
            await RLM(cluster=cluster).aprewarm(2)
    await until_there_are(1, shrinking)


async def test_who_holds_cpus_is_said_without_actors_that_take_none(cluster):
    engine = await ClusterDriver.connect(cluster)
    await engine.grow_to(1)
    said = await engine.run_on_ray_thread(asyncio.to_thread(cpu_holders))
    assert "session actor(s) of this driver" in said
    assert not re.search(
        r"Pool|LocalServices|AdmissionActor|JournalActor|CacheActor|RunRegistryActor|ConfigActor|SessionActor",
        said,
    )


def test_a_driver_that_waits_for_a_cpu_is_told_who_holds_it_and_goes_on_when_it_is_free():
    found = run_script("busy_cluster.py")
    assert found["said"].startswith(
        "waiting for a session actor, which needs 1 CPU: 0 of the 1 CPUs of the cluster are free"
    )
    assert f"1 actor(s) Greedy of the driver {found['driver']} at " in found["said"]
    connecting, *_, waiting = found["told"]
    assert connecting.startswith("Ray: connecting to the cluster at ")
    assert f"waiting for {waiting}" == found["said"]
    assert (found["answer"] != "", found["exit"]) == (True, 0)
    assert found["seconds"] < 30
