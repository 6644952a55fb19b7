"""Run in a process of its own for test_nodes.py: a root with many children on nodes that begin without a session actor
but one, and one node whose CPU somebody else holds.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import ray
from nodes import Nodes, worker_nodes
from scripts import tell

from rlm_ray import RLM
from rlm_ray.cluster.driver import ClusterDriver
from rlm_ray.testing import ModelServer
from rlm_ray.testing.responses import recursion, run_query

CHILDREN = 40


def fan(children: int) -> str:
    return run_query(
        f"r = recursive_map('q', [context[i:i+9] for i in range(0, {9 * children}, 9)]); print(len(r))"
    )


class Neighbour:
    """Holds a CPU."""

    def node(self) -> str:
        return str(ray.get_runtime_context().get_node_id())


async def main(nodes: Nodes) -> None:
    neighbour = ray.remote(Neighbour).options(num_cpus=1).remote()
    held = await neighbour.node.remote()
    with ModelServer(recursion, latency_s=1.5) as server:
        rlm = RLM(
            model="openai/m",
            api_base=server.url,
            api_key="k",
            max_depth=2,
            max_leaf_chars=0,
            direct_call_below_chars=0,
            deduplicate_maps=False,
        )
        await rlm.aprewarm()
        few = await ran(rlm, 6)
        many = await ran(rlm, CHILDREN)
    tell({"nodes": len(nodes.workers), "held": held, "few": few, "many": many})


async def ran(rlm: RLM, children: int) -> dict[str, Any]:
    result = await rlm.arun(fan(children), "some text " * 100)
    census = await (await ClusterDriver.connect(rlm.settings.cluster)).stats()
    actors = Counter(opened.actor for node in result.tree.nodes.values() for opened in node.session_starts)
    by_node = Counter({census[actor]["node"]: 0 for actor in actors})
    for actor, sessions in actors.items():
        by_node[census[actor]["node"]] += sessions
    return {"answer": result.answer, "by_node": dict(by_node)}


if __name__ == "__main__":
    with worker_nodes(3) as three_nodes:
        asyncio.run(main(three_nodes))
