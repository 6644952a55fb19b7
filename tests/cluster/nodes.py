"""Several nodes on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray.cluster_utils import Cluster

HEAD = {
    "num_cpus": 0,
    "include_dashboard": False,
    "dashboard_agent_listen_port": 0,
    "_system_config": {"health_check_period_ms": 1_000, "health_check_initial_delay_ms": 1_000},
}
"""It runs no session actor, and leaves the usual port to others. A lost node is noticed after 5 s instead of 15."""


@dataclass(frozen=True)
class Nodes:
    cluster: Cluster
    workers: list[Any]

    def expire(self, node: Any) -> None:
        """As if its machine had lost power."""
        self.cluster.remove_node(node, allow_graceful=False)


@contextmanager
def worker_nodes(count: int) -> Iterator[Nodes]:
    """A head without CPUs and so many nodes of one CPU each, with this process connected to them."""
    cluster = Cluster(initialize_head=True, head_node_args=HEAD)
    try:
        workers = [cluster.add_node(num_cpus=1, wait=False) for _ in range(count)]
        cluster.wait_for_nodes()
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        yield Nodes(cluster, workers)
    finally:
        ray.shutdown()
        cluster.shutdown()
