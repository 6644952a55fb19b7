"""The process of a session actor is killed as the kernel kills what takes too much memory: its work goes on elsewhere,
and what kills its actors again and again is given up with a sentence that says so.
"""

from __future__ import annotations

import asyncio
import os
import signal

import pytest
from deep_tree import ANSWER, CALLS, LEAVES, TEXT, TREE
from scripts import run_script
from waiting import until

from rlm_ray.cluster.driver import ClusterDriver
from rlm_ray.events.records import SessionOpened
from rlm_ray.journal.run_store import RunStore
from rlm_ray.testing import ModelServer
from rlm_ray.testing.responses import recursion, run_query

pytestmark = pytest.mark.ray


@pytest.fixture
def slow():
    """A model that takes its time, so that there is a middle to strike at."""
    with ModelServer(recursion, latency_s=0.2) as server:
        yield server


@pytest.fixture
async def engine(cluster):
    """Both actors are there again afterwards."""
    engine = await ClusterDriver.connect(cluster)
    yield engine
    await engine.grow_to(2)


async def kill(engine, *actors):
    """What the kernel does to a process when memory is short."""
    for name, counts in (await engine.stats()).items():
        if name in actors:
            os.kill(counts["pid"], signal.SIGKILL)


async def test_a_root_whose_actor_is_killed_by_the_kernel_goes_on_from_its_record(ask, slow, engine):
    run = await ask(slow, max_depth=2, max_leaf_chars=200).astart(TREE, TEXT)
    await until(lambda: slow.calls >= 20)
    in_flight = slow.in_flight
    await kill(engine, run.actor)
    result = await run.result()
    assert result.answer == ANSWER
    assert slow.calls <= CALLS + max(in_flight, result.usage.repaid_calls)


async def kill_its_actors(engine, folder, path):
    """Wherever the session of this path is begun, its actor is killed a moment later."""
    killed = 0
    while True:
        begun = [r for r in records(folder) if isinstance(r, SessionOpened) and r.path == path]
        if len(begun) > killed:
            killed = len(begun)
            await kill(engine, begun[-1].actor)
        await asyncio.sleep(0.02)


def records(folder):
    return folder.records() if folder.exists() else []


async def test_a_child_that_kills_its_actors_again_and_again_is_given_up_and_its_siblings_are_not(
    ask, slow, engine
):
    query = run_query(
        f"r = recursive_map('''{LEAVES}''', [context[i*900:(i+1)*900] for i in range(4)], on_error='return')",
        "FINAL('|'.join(map(str, r)))",
    )
    run = await ask(slow, max_depth=2, max_leaf_chars=200).astart(query, TEXT)
    folder = RunStore(run.settings.run_dir, run.run_id)
    killing = asyncio.create_task(kill_its_actors(engine, folder, (3,)))
    result = await run.result()
    killing.cancel()
    *others, given_up = result.answer.split("|")
    assert others == ["46 47 48 49 50 51 52 53"] * 3
    assert "the actors of this child died 3 times; it may need more memory than a node has" in given_up


@pytest.mark.skipif(
    "RLM_RAY_TEST_MEMORY" not in os.environ,
    reason="RLM_RAY_TEST_MEMORY=1: whom Ray's monitor kills depends on the machine",
)
def test_a_run_outlives_what_the_memory_monitor_of_ray_kills(tmp_path):
    figures = run_script("short_of_memory.py", tmp_path)
    assert figures["answer"] == " ".join(["session done"] * 8)
    assert figures["killed_by"] == "OutOfMemoryError"
    assert figures["calls"] <= 2 + 2 * 8 * 2
