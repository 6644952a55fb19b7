"""The driver's end of the pool: its handle, and what the pool was last told from here."""

from __future__ import annotations

import math

import ray

from rlm_ray.cluster.admission import admission_actor
from rlm_ray.cluster.environment import provider_environment
from rlm_ray.cluster.lasting import here
from rlm_ray.cluster.pool import Pool
from rlm_ray.config import Cluster

POOL_NAME = "rlm_ray.pool"


class PoolHandle:
    """Makes the pool of this connection if it is not there yet, with its first actors on the way.

    Held as long as the process is connected: without a handle left the pool would end.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._environment = provider_environment()
        self._cluster: Cluster | None = None
        self.noticed_at = -math.inf
        """When somebody was last told what is waited for."""
        options = {
            "name": POOL_NAME,
            "get_if_exists": True,
            "num_cpus": 0,
            "max_concurrency": 100_000,
            # it dies with this process; no other node's loss should take it
            "scheduling_strategy": here(soft=False),
        }
        self.actor = ray.remote(Pool).options(**options).remote(cluster)
        self.actor.set_environment.remote(self._environment)
        admission_actor()

    def configure(self, cluster: Cluster) -> None:
        """Tell the pool its sizes where they are new."""
        if self._cluster != cluster:
            self._cluster = cluster
            self.actor.configure.remote(cluster)

    async def refresh_environment(self) -> None:
        """Keys may be set, changed or removed after the actors have started."""
        environment = provider_environment()
        if self._environment != environment:
            self._environment = environment
            await self.actor.set_environment.remote(environment)
