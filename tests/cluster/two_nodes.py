"""Run in a process of its own, once for test_traced_runs.py and test_nodes.py: a cluster of two worker nodes, and runs
in the middle of which nothing is killed, a sandbox, an actor, and in the end one of the nodes.
"""

from __future__ import annotations

import asyncio
from typing import Any

from nodes import Nodes, worker_nodes
from scripts import tell
from traced_runs import traced

from rlm_ray import RLM, Cluster
from rlm_ray.cluster.driver import ClusterDriver
from rlm_ray.testing import ModelServer
from rlm_ray.testing.responses import recursion, run_query

CHILDREN = 40
QUERY = run_query(
    f"r = recursive_map('q', [context[i:i+9] for i in range(0, {9 * CHILDREN}, 9)]); print(len(context), len(r))"
)


async def main(nodes: Nodes) -> None:
    cluster = Cluster(min_actors=2, max_actors=2)
    figures = {kind: await traced(kind, cluster) for kind in ("nothing", "sandbox", "actor")}
    tell(figures | {"node": await lost_node(nodes, cluster)})


async def lost_node(nodes: Nodes, cluster: Cluster) -> dict[str, Any]:
    """A run that loses the node its root is not on."""
    with ModelServer(recursion, latency_s=0.4) as server:
        rlm = RLM(
            model="openai/m",
            api_base=server.url,
            api_key="k",
            max_depth=2,
            max_leaf_chars=0,
            cluster=cluster,
            direct_call_below_chars=0,
            deduplicate_maps=False,
        )
        await rlm.aprewarm(2)
        census = await (await ClusterDriver.connect(cluster)).stats()
        places = {name: counts["node"] for name, counts in census.items()}
        run = await rlm.astart(QUERY, "some text " * 100)
        while server.calls < 10:
            await asyncio.sleep(0.02)
        nodes.expire(next(node for node in nodes.workers if node.node_id != places[run.actor]))
        result = await run.result()
    return {"nodes": len(set(places.values())), "answer": result.answer, "sessions": result.usage.sessions}


if __name__ == "__main__":
    with worker_nodes(2) as two_nodes:
        asyncio.run(main(two_nodes))
