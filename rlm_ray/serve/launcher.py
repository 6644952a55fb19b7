"""Serving from this machine: a Serve config read, Ray found or started, and the service up until it is stopped."""

from __future__ import annotations

import errno
import logging
import signal
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]  # it comes with Ray, without types
from pydantic import ValidationError
from ray import serve
from ray.serve.schema import ServeDeploySchema

from rlm_ray.cluster.ray_init import connect_ray, starts_here
from rlm_ray.errors import ClusterError, ConfigError
from rlm_ray.serve.config import ServerConfig
from rlm_ray.serve.config_actor import ConfigHolder, hold_config
from rlm_ray.serve.http.auth import is_local
from rlm_ray.serve.replica import NAME, application, check_args

IMPORT_PATH = "rlm_ray.serve:app"
HOST, PORT = "127.0.0.1", 8000


@dataclass(frozen=True, slots=True)
class LocalServer:
    """The configuration of a service, and the address it listens at."""

    args: ServerConfig
    host: str = HOST
    port: int = PORT
    options: dict[str, Any] = field(default_factory=dict)
    """Of the deployment."""

    def check(self) -> None:
        """Check the settings. Raises `ConfigError` before anything is started."""
        keys = check_args(self.args)
        if not is_local(self.host) and not keys:
            why = f"{self.host} can be reached by others, and there are no keys; set keys_file, or serve 127.0.0.1"
            raise ConfigError("host", why)
        if not 0 < self.port < 65_536:
            raise ConfigError("port", f"must be from 1 to 65535; got {self.port}")

    def check_address(self) -> None:
        """Raise `ConfigError` where this machine cannot listen at the address; Ray would say so after half a minute, in its own log."""
        try:
            family, kind, protocol, _, place = socket.getaddrinfo(
                self.host, self.port, type=socket.SOCK_STREAM
            )[0]
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(place)
        except OSError as error:
            what = "is in use: stop what listens there, or give another --port"
            if error.errno != errno.EADDRINUSE:
                what = f"cannot be listened at ({(error.strerror or str(error)).lower()}); give another --host or --port"
            raise ConfigError("address", f"{self.host}:{self.port} {what}") from error

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"


def load_serve_config(path: Path) -> LocalServer:
    """Read the YAML that `serve deploy` takes, with one application. Raises `ConfigError`."""
    try:
        plain = yaml.safe_load(path.read_text("utf-8"))
        config = ServeDeploySchema.model_validate(plain)
        [one] = config.applications
        args = ServerConfig.model_validate(one.args)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(str(path), f"cannot be read: {error}") from error
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        raise ConfigError(str(path), f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    except ValueError as error:
        raise ConfigError(str(path), "must have exactly one application") from error
    if one.import_path != IMPORT_PATH:
        raise ConfigError(str(path), f"serves {one.import_path!r}; this command serves {IMPORT_PATH}")
    given = (plain.get("http_options") or {}).get
    options = {}
    for deployment in one.deployments:
        if deployment.name != NAME:
            raise ConfigError(str(path), f"has a deployment {deployment.name!r}; the only one is {NAME!r}")
        options = deployment.model_dump(exclude_unset=True, exclude={"name"})
    return LocalServer(args, given("host", HOST), given("port", PORT), options)


def serve_forever(site: LocalServer, ready: Callable[[], None]) -> None:
    """Start, say when it is `ready`, and return when this process is told to end."""
    site.check()
    if starts_here():
        site.check_address()
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    with deploy(site):
        ready()
        stopped.wait()
        serve.shutdown()


def deploy(site: LocalServer) -> ConfigHolder:
    """Have the service up; replicas can start for as long as what is returned is held. Raises `ClusterError`."""
    connect_ray()
    config = hold_config(site.args)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    serve.start(http_options={"host": site.host, "port": site.port})
    try:
        serve.run(application(site.args, site.options, config.ref), name=NAME, route_prefix="/")
    except RuntimeError as error:
        raise ClusterError(f"the service does not start: {error}") from error
    return config
