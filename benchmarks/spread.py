"""Where the child sessions of one root run, by node and actor, and how long that takes.

The pool begins with one warm actor, as a run of a fresh driver does. `--nodes 0` is this machine as it is; else a
cluster of so many nodes of one CPU each is started on it.

    python benchmarks/spread.py [--nodes 4] [--children 60 600] [--latency-s 1] [--runs 1]
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rlm_ray import RLM
from rlm_ray.cluster.driver import ClusterDriver
from rlm_ray.testing import ServerProcess
from rlm_ray.testing.responses import run_query


def _program(children: int) -> str:
    pieces = f"[context[i:i+9] for i in range(0, {9 * children}, 9)]"
    return f"r = recursive_map('q', {pieces}); print(len(context), len(r))"


async def _run(rlm: RLM, children: int) -> None:
    started = time.perf_counter()
    result = await rlm.arun(run_query(_program(children)), "some text " * children)
    seconds = time.perf_counter() - started
    assert result.answer == "session done", result
    census = await (await ClusterDriver.connect(rlm.settings.cluster)).stats()
    actors = Counter(opened.actor for node in result.tree.nodes.values() for opened in node.session_starts)
    print(f"{children} children, {seconds:.2f} s: {sum(actors.values())} sessions")
    for actor, sessions in sorted(actors.items()):
        node = census[actor]["node"][:8] if actor in census else "gone"
        print(f"  node {node}  actor {actor}  {sessions:4} sessions")
    print(flush=True)


async def _main(options: argparse.Namespace) -> None:
    command = ["--script", "recursion", "--latency-s", str(options.latency_s)]
    with ServerProcess(command) as server:
        settings: dict[str, Any] = {
            "api_base": server.url,
            "api_key": "none",
            "max_depth": 2,
            "max_leaf_chars": 0,
        }
        rlm = RLM(deduplicate_maps=False, direct_call_below_chars=0, model="openai/benchmark", **settings)
        await rlm.aprewarm()
        for children in options.children:
            for _ in range(options.runs):
                await _run(rlm, children)


@contextmanager
def _nodes(count: int) -> Iterator[None]:
    if not count:
        yield
        return
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(count):
            cluster.add_node(num_cpus=1, wait=False)
        cluster.wait_for_nodes()
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        yield
    finally:
        ray.shutdown()
        cluster.shutdown()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--children", type=int, nargs="*", default=[60])
    parser.add_argument("--latency-s", type=float, default=1.0)
    parser.add_argument("--runs", type=int, default=1)
    options = parser.parse_args()
    with _nodes(options.nodes):
        asyncio.run(_main(options))


if __name__ == "__main__":
    main()
