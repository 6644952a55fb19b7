"""The Serve application and its replica: everything put together from the arguments of the application.

`app` is what a Serve config names as `rlm_ray.serve:app`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlm_ray.config import Settings, settings_from
from rlm_ray.core.limits import Limits
from rlm_ray.errors import ConfigError, RLMError
from rlm_ray.serve.api_keys import KeyStore, read_keys
from rlm_ray.serve.config import (
    KEYS_VARIABLE,
    ModelRegistry,
    ServerConfig,
    apply_request_options,
    make_model_registry,
    min_limits,
)
from rlm_ray.serve.config_actor import ConfigRef, take_config
from rlm_ray.serve.context_loader import ContextLoader, LoadExecutor
from rlm_ray.serve.context_uris import allowed_uris
from rlm_ray.serve.file_store import FileStore
from rlm_ray.serve.http.api import create_app
from rlm_ray.serve.http.auth import Origins
from rlm_ray.serve.http.run_service import RunService
from rlm_ray.serve.registry_actor import run_registry
from rlm_ray.serve.run_launcher import RunLauncher
from rlm_ray.serve.run_manager import RunManager
from rlm_ray.serve.run_store import StoredRequest
from rlm_ray.util.log_format import use_log_format

if TYPE_CHECKING:
    from fastapi import FastAPI
    from ray import serve

SWEEP_S = 3600.0

_log = logging.getLogger(__name__)


class Replica:
    """Puts the service together; a plain class that `application` wraps as the ingress of a Serve application."""

    def __init__(self, source: ServerConfig | ConfigRef) -> None:
        args = source if isinstance(source, ServerConfig) else take_config(source)
        self._args = args
        self._models = load_models(args)
        use_log_format(self._models.base.log_format)
        self._keys = load_keys(args)
        run_dir = self._models.base.run_dir
        self._registry = run_registry(run_dir)
        self._runs = RunManager(RunLauncher(self._settings, run_dir), self._registry, args.max_runs)
        self._files = FileStore(run_dir, args.file_bytes, args.file_days)

    def __serve_build_asgi_app__(self) -> FastAPI:
        args = self._args
        loader = ContextLoader(self._files, tuple(args.context_uris), args.file_bytes)
        loads = LoadExecutor(args.loads_per_key, args.load_timeout_s)
        service = RunService(
            self._models,
            self._runs,
            self._registry,
            self._files,
            loader,
            loads,
            args.keep_alive_s,
            args.direct_without_context,
        )
        return create_app(service, self._keys, args, self._serving)

    @asynccontextmanager
    async def _serving(self) -> AsyncIterator[None]:
        sweeping = asyncio.create_task(self._sweep())
        try:
            async with self._runs.lifespan():
                yield
        finally:
            sweeping.cancel()

    async def _sweep(self) -> None:
        while True:
            try:
                await asyncio.to_thread(self._files.delete_expired, time.time())
            except RLMError as error:
                _log.warning("expired files are dropped later: %s", error)
            await asyncio.sleep(SWEEP_S)

    def _settings(self, request: StoredRequest) -> Settings:
        """Return the settings of a run: its model's, its own options, and what its key may do."""
        settings = self._models.settings(request.model)
        if settings is None:
            raise ConfigError("model", f"{request.model!r} is not served any more")
        wanted = apply_request_options(settings, request.options)
        if request.params:
            wanted = settings_from(request.params, base=wanted)
        key = self._keys.get(request.key)
        return replace(
            wanted,
            limits=min_limits(wanted.limits, Limits(cost_usd=request.cost_usd)),
            tenant=request.key,
            weight=key.weight if key is not None else 1.0,
        )


def check_args(args: ServerConfig) -> KeyStore:
    """Return the keys of a deployment. Raises `ConfigError` for arguments that cannot be used, before anything is
    started.
    """
    load_models(args)
    allowed_uris(args.context_uris)
    keys = load_keys(args)
    Origins(args.cors_origins, has_keys=bool(keys))
    return keys


def load_models(args: ServerConfig) -> ModelRegistry:
    return make_model_registry(args.settings, args.models, args.allow_models, args.run_dir)


def load_keys(args: ServerConfig) -> KeyStore:
    """Read the keys from the file, or the environment; with none only this machine may ask."""
    if not args.keys_file:
        text = os.environ.get(KEYS_VARIABLE, "")
        return read_keys(text, KEYS_VARIABLE) if text else KeyStore()
    try:
        return read_keys(Path(args.keys_file).expanduser().read_text("utf-8"), args.keys_file)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("keys_file", f"cannot be read: {error}") from error


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


def app(args: ServerConfig | dict[str, Any]) -> serve.Application:
    """Return the application for these arguments. Raises `ConfigError` for those that cannot be used.

    Serve gives the `args` of a config as they stand there: it makes a model of them only where it can read the annotation,
    which is a text in a module like this one.
    """
    return application(ServerConfig.model_validate(args), {})


def application(
    args: ServerConfig, options: dict[str, Any], source: ConfigRef | None = None
) -> serve.Application:
    """Return the application with other options of the deployment. Its replicas ask the `source` for the
    configuration where there is one.

    A replica that is told to end lets its requests finish; what is under way then is taken up by another one.
    """
    from ray import serve  # takes seconds

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
