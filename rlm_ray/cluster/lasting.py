"""Actors that belong to the cluster and not to a driver: found by name, made if there is none, started again if they die."""

from __future__ import annotations

from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

NAMESPACE = "rlm_ray"


def here(*, soft: bool) -> NodeAffinitySchedulingStrategy:
    """The node of this process; `soft`: rather than others, but others if need be."""
    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=soft)


def lasting_actor(cls: type[Any], name: str, *arguments: Any) -> Any:
    """The handle of the one actor of this name. It takes no CPU from the scheduler."""
    return (
        ray.remote(cls)
        .options(
            name=name,
            namespace=NAMESPACE,
            get_if_exists=True,
            lifetime="detached",
            num_cpus=0,
            max_restarts=-1,
            max_concurrency=100_000,
            scheduling_strategy=here(soft=True),
        )
        .remote(*arguments)
    )
