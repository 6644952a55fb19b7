"""The pool grows with demand and shrinks when idle."""

from __future__ import annotations

import asyncio
import time

import pytest

from rlm_ray import RLM, Cluster
from rlm_ray.cluster.engine import Engine
from rlm_ray.testing.scripts import run_query

WIDE = run_query("print(len(context)); r = recursive_map('q', [context[i:i+9] for i in range(0, 900, 9)])")


async def actors(cluster):
    return await (await Engine.connect(cluster)).census()


async def until_there_are(count, cluster):
    deadline = time.monotonic() + 30
    while len(await actors(cluster)) != count:
        assert time.monotonic() < deadline, f"{len(await actors(cluster))} actors, not {count}"
        await asyncio.sleep(0.1)


@pytest.fixture
async def two_again(cluster):
    yield
    await RLM(cluster=cluster).awarm(2)


async def test_idle_actors_are_given_back_and_come_again_with_a_wide_map(ask, cluster, server, two_again):
    await RLM(cluster=cluster).awarm(2)
    shrinking = Cluster(min_actors=1, max_actors=2, idle_s=1)
    await until_there_are(1, shrinking)
    wide = ask(server, cluster=Cluster(min_actors=1, max_actors=2))
    assert await wide.acompletion(WIDE, "some words " * 100) == "session done"
    await until_there_are(2, wide.settings.cluster)


async def test_actors_at_work_are_not_given_back(ask, cluster, server, two_again):
    busy = ask(server, cluster=Cluster(min_actors=1, max_actors=2, idle_s=1))
    query = run_query("import time\nt = time.time()\nwhile time.time() - t < 3: pass\nprint(len(context))")
    answers = await asyncio.gather(*(busy.acompletion(query, "some words " * 100) for _ in range(4)))
    assert answers == ["session done"] * 4
