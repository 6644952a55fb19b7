"""The Serve application: `app` is what a Serve config names as `rlm_ray.serve:app`."""

from __future__ import annotations

from typing import Any

from ray import serve

from rlm_ray.serve.config import ServerConfig
from rlm_ray.serve.config_actor import ConfigRef
from rlm_ray.serve.replica import Replica, check_args

NAME = "rlm"
"""Of the only deployment; a Serve config may change its options under this name."""

AUTOSCALING = {
    "min_replicas": 1,
    "max_replicas": 8,
    "target_ongoing_requests": 200,
    "upscale_delay_s": 10.0,
    "downscale_delay_s": 600.0,
}
"""A request lasts minutes and costs a replica next to nothing, so one replica takes hundreds."""


def app(args: ServerConfig) -> serve.Application:
    """The application for these arguments. Raises `ConfigError` for those that cannot be used."""
    return application(args, {})


def application(
    args: ServerConfig, options: dict[str, Any], source: ConfigRef | None = None
) -> serve.Application:
    """The same, with other options of the deployment. Its replicas ask the `source` where there is one.

    A replica that is told to end lets its requests finish; what is under way then is taken up by another one.
    """
    check_args(args)
    deployment = serve.deployment(
        serve.ingress()(Replica),
        name=NAME,
        max_ongoing_requests=1_000,
        graceful_shutdown_timeout_s=120.0,
        graceful_shutdown_wait_loop_s=1.0,
        health_check_period_s=5.0,
        ray_actor_options={"num_cpus": 0},
        **({} if "num_replicas" in options else {"autoscaling_config": AUTOSCALING}),
    )
    return deployment.options(**options).bind(source or args)
