"""Run by test_killed_actors.py in a process of its own: Ray's memory monitor kills what it chooses when the actor of a
root takes too much."""

from __future__ import annotations

import asyncio
import os
import sys
import time

import ray
from ray._common.utils import get_system_memory
from ray._private.utils import get_used_memory
from scripts import tell

from rlm_ray import RLM, Cluster
from rlm_ray.cluster.driver import ClusterDriver
from rlm_ray.testing import ModelServer
from rlm_ray.testing.responses import recursion, run_query

HEADROOM = 2 << 30
"""So much is free for the cluster: its actors take half of that."""
QUERY = run_query("r = recursive_map('q', [context[i*9:i*9+9] for i in range(8)])", "FINAL(' '.join(r))")


async def main() -> None:
    cluster = Cluster(min_actors=2, max_actors=2)
    with ModelServer(recursion, latency_s=0.4) as server:
        rlm = RLM(
            model="openai/m", api_base=server.url, api_key="k", max_depth=2, max_leaf_chars=0, cluster=cluster, direct_call_below_chars=0, deduplicate_maps=False,
            run_dir=sys.argv[1],
        )  # fmt: skip
        await rlm.aprewarm(2)
        engine = await ClusterDriver.connect(cluster)
        run = await rlm.astart(QUERY, "some text " * 100)
        handles = await engine.run_on_ray_thread(handles_of(engine))
        while server.calls < 6:  # noqa: ASYNC110 - for what happens in other processes
            await asyncio.sleep(0.02)
        eating = handles[run.actor].__ray_call__.remote(eat)
        kind = ""
        try:
            await eating
        except ray.exceptions.RayError as error:
            kind = type(error).__name__
        result = await run.result()
        tell({"answer": result.answer, "killed_by": kind, "calls": server.calls})


async def handles_of(engine: ClusterDriver) -> dict:
    return await engine._pool.handles.remote()


def eat(_: object) -> None:
    """Take more memory than there is, a little slower than the monitor looks."""
    taken = []
    for _ in range(60):
        taken.append(b"x" * (100 << 20))
        time.sleep(0.02)


if __name__ == "__main__":
    threshold = (get_used_memory() + HEADROOM) / get_system_memory()
    os.environ |= {"RAY_memory_usage_threshold": str(threshold), "RAY_memory_monitor_refresh_ms": "50"}
    asyncio.run(main())
    ray.shutdown()
