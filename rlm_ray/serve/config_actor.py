"""What a service is started with, kept by an actor of whoever started it, so that a replica on any node can ask for it.

What is bound to a deployment lies in Ray's GCS, in clear, for as long as the service is up; so would keys that stand in the
settings. And a replica has the environment of the machine it is on, not the one that `rlm-ray serve` was called in. Both
go to this actor in a call, and to replicas as the answer of one: they are in the memory of these processes only.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from typing import Any, Self

import ray

from rlm_ray.cluster.detached_actor import node_affinity
from rlm_ray.cluster.environment import provider_environment, take_storage_environment
from rlm_ray.errors import ClusterError
from rlm_ray.serve.config import KEYS_VARIABLE, ServerConfig

NAMESPACE = "rlm_ray.serve"
ANSWER_S = 30.0


class ConfigActor:
    """Holds the configuration; a plain class that Ray wraps. It ends with the process that started it."""

    def __init__(self) -> None:
        self._held: tuple[ServerConfig, dict[str, str]] | None = None

    def put(self, config: ServerConfig, environment: dict[str, str]) -> None:
        """Keep the configuration and the environment, in memory only."""
        self._held = config, environment

    def get(self) -> tuple[ServerConfig, dict[str, str]] | None:
        """Return what was put; None where the actor was started again since then."""
        return self._held


@dataclass(frozen=True, slots=True)
class ConfigRef:
    """The name of the actor that a replica asks: all that is bound to the deployment."""

    name: str


@dataclass(frozen=True, slots=True)
class ConfigHolder:
    """Keeps the actor alive for as long as this is held."""

    ref: ConfigRef
    actor: Any

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        ray.kill(self.actor)


def hold_config(config: ServerConfig) -> ConfigHolder:
    """Start the actor beside this process, with the configuration and what of this environment replicas need."""
    ref = ConfigRef(f"config-{secrets.token_hex(8)}")
    actor = (
        ray.remote(ConfigActor)
        .options(
            name=ref.name, namespace=NAMESPACE, num_cpus=0, scheduling_strategy=node_affinity(soft=False)
        )
        .remote()
    )
    environment = provider_environment()
    if KEYS_VARIABLE in os.environ:
        environment[KEYS_VARIABLE] = os.environ[KEYS_VARIABLE]
    ray.get(actor.put.remote(config, environment))
    return ConfigHolder(ref, actor)


def take_config(ref: ConfigRef) -> ServerConfig:
    """Ask for the configuration, and have this process use the environment. Raises `ClusterError` where nobody knows it."""
    try:
        held: tuple[ServerConfig, dict[str, str]] | None = ray.get(
            ray.get_actor(ref.name, namespace=NAMESPACE).get.remote(), timeout=ANSWER_S
        )
    except (ValueError, ray.exceptions.RayError) as error:
        raise ClusterError(_GONE) from error
    if held is None:
        raise ClusterError(_GONE)
    config, environment = held
    take_storage_environment(environment)
    return config


_GONE = "the `rlm-ray serve` that started this service has ended, and with it its keys; start it again"
