"""Run by test_nodes.py in a process of its own: a cluster of two worker nodes, and one of them lost in the middle of a run."""

from __future__ import annotations

import asyncio
import json
import time

import ray
from ray.cluster_utils import Cluster as Nodes

from rlm_ray import RLM, Cluster
from rlm_ray.cluster.engine import Engine
from rlm_ray.testing import ModelServer
from rlm_ray.testing.scripts import recursion, run_query

CHILDREN = 40
QUERY = run_query(
    f"r = recursive_map('q', [context[i:i+9] for i in range(0, {9 * CHILDREN}, 9)]); print(len(context), len(r))"
)


async def main(nodes: Nodes) -> None:
    workers = [nodes.add_node(num_cpus=1) for _ in range(2)]
    ray.init(address=nodes.address, log_to_driver=False, logging_level="ERROR")
    cluster = Cluster(min_actors=2, max_actors=2)
    with ModelServer(recursion, latency_s=0.4) as server:
        rlm = RLM(
            model="openai/m", api_base=server.url, api_key="k", max_depth=2, leaf_chars=0, cluster=cluster
        )
        await rlm.awarm(2)
        census = await (await Engine.connect(cluster)).census()
        places = {name: counts["node"] for name, counts in census.items()}
        run = await rlm.astart(QUERY, "some text " * 100)
        while server.calls < 10:
            await asyncio.sleep(0.02)
        other = next(node for node in workers if node.node_id != places[run.actor])
        nodes.remove_node(other, allow_graceful=False)
        started = time.monotonic()
        result = await run.result()
    print(
        json.dumps(
            {
                "nodes": len(set(places.values())),
                "answer": result.answer,
                "seconds_after_loss": round(time.monotonic() - started, 1),
                "sessions": result.usage.sessions,
            }
        )
    )


if __name__ == "__main__":
    cluster_of_nodes = Nodes(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        asyncio.run(main(cluster_of_nodes))
    finally:
        ray.shutdown()
        cluster_of_nodes.shutdown()
