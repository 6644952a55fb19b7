"""Which Ray this process uses: a running cluster if there is one (`Cluster.address`, `RAY_ADDRESS`, or one that this
user started on this machine with `ray start`); otherwise Ray starts on this machine and stops with this process.

The cluster that `ray start` left the address of, in a folder that every user of the machine may write to.

It is believed only where this user wrote the address, and, where it is of this machine, owns who listens there: our
keys go to it, and its code runs as ours.

Whether the cluster to connect to wants Ray's token, found out by asking it without one.

The first Ray that a user starts by a driver leaves a token in `~/.ray`; every later `ray start` makes a cluster that
wants it, but a driver with an explicit address sends it only where `RAY_AUTH_MODE=token` says so.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray._private import parameter, ray_constants, worker
from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available
from ray._private.grpc_utils import init_grpc_channel
from ray._private.node import Node

from rlm_ray.cluster.environment import driver_job_config, trusted_start
from rlm_ray.errors import ClusterError

LOCAL = "local"
AUTO = "auto"
CONNECT_TIMEOUT_S = 5.0


ADDRESS_FILE = "ray_current_cluster"
NOTE_FILE = "rlm_ray_cluster"
"""Where `rlm-ray up` notes its own."""
_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_LISTENS = "0A"
_PROBE = "/ray.rpc.NodeInfoGcsService/CheckAlive"
_TIMEOUT_S = 5.0
_TRIES, _PAUSE_S = 4, 0.5
_VARIABLE = "RAY_AUTH_MODE"
_NO_RAY = frozenset(["UNIMPLEMENTED", "UNAVAILABLE"])
"""What gRPC says of a server that speaks HTTP, or something else. A Ray that is slow or wants a token says other words."""

_logger = logging.getLogger(__name__)
_print_to_stdstream: Callable[..., None] = worker.print_to_stdstream


def connect_ray(address: str | None = None, tell: Callable[[str], None] = lambda _: None) -> bool:
    """Connect this process to the cluster of this address, of `RAY_ADDRESS`, of this machine, or to a new one.

    `tell` is told what is waited for. Returns whether it has started a new one.
    """
    if ray.is_initialized():
        return False
    address = resolve_address(address or os.environ.get("RAY_ADDRESS", ""))
    if address != LOCAL:
        tell(f"Ray: connecting to the cluster at {address}")
        follow_token_mode(address)
    else:
        tell("Ray: it starts on this machine, which takes some seconds")
    worker.print_to_stdstream = log_raylet_messages
    try:
        with trusted_start(), few_processes(), loopback(only=address == _kept_address()):
            ray.init(
                address=address,
                include_dashboard=False if address == LOCAL else None,
                log_to_driver=False,
                logging_level=logging.ERROR,
                # A Ray client's server has no folder of this machine.
                job_config=None if "://" in address else driver_job_config(),
            )
    except Exception as error:  # a node of Ray that starts too slowly is a bare Exception
        where = "this machine" if address == LOCAL else address
        raise ClusterError(f"cannot use Ray at {where}: {error}") from error
    return address == LOCAL


def log_raylet_messages(data: dict[str, Any], *args: Any, **options: Any) -> None:
    """Log what Ray reports of its nodes (many workers started, a worker died): stdout is for answers.

    Ray prints it to the driver's stdout, with `log_to_driver=False`, too; what else it prints is printed as before.
    """
    if data.get("pid") == "raylet":
        _logger.info("Ray: %s", "\n".join(data["lines"]).strip())
    else:
        _print_to_stdstream(data, *args, **options)


@contextmanager
def loopback(*, only: bool) -> Iterator[None]:
    """Have this node's address be that of loopback, as on macOS: Ray takes the machine's own in its place otherwise."""
    given = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = given and not only
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = given


def _kept_address() -> str:
    """Return the address that `rlm-ray up` has noted; empty where there is none."""
    return address_in(own_text(ray_folder() / NOTE_FILE))


@contextmanager
def few_processes() -> Iterator[None]:
    """Have a Ray that starts in here leave out what one machine has no use for: the autoscaler, the dashboard's server, which
    serves nobody, and the monitor of logs, which nobody is shown. Each is a Python process, and Ray waits for the server."""
    params, start = parameter.RayParams, Node.start_api_server
    parameter.RayParams = partial(params, no_monitor=True, include_log_monitor=False)
    Node.start_api_server = lambda _, **__: None
    try:
        yield
    finally:
        parameter.RayParams, Node.start_api_server = params, start


def resolve_address(wanted: str, folder: Path | None = None) -> str:
    """Return the cluster to connect to: the one wanted, one of this user's that runs on this machine, or a new one.

    Ray itself tries for minutes to reach a cluster that is gone, also one whose address an earlier `ray start` left
    in its folder, and says so in its own log only.
    """
    if wanted and wanted != AUTO:
        _check_form(wanted)
        if not _is_listening(wanted):
            raise ClusterError(
                f"nothing answers at {wanted}; check RAY_ADDRESS (or cluster.address), or unset it to start Ray here"
            )
        return wanted
    running = running_cluster(folder or ray_folder())
    if running and _is_listening(running):
        return running
    if wanted:
        why = "no Ray that you started runs on this machine; run `ray start --head`, or give the cluster's host:port"
        raise ClusterError(f"{why} as RAY_ADDRESS (or cluster.address)")
    return LOCAL


def _check_form(address: str) -> None:
    """Raise `ClusterError` for what is no address of a cluster: that of Ray's dashboard, which `ray job` takes, or a word."""
    if address.startswith(("http://", "https://")):
        why = "is the address of a dashboard, as `ray job` takes it; a run wants host:port of `ray start --head`, 6379 unless you said another"
        raise ClusterError(f"{address} {why} (RAY_ADDRESS or cluster.address)")
    if address != LOCAL and "://" not in address and not address.rpartition(":")[2].isdigit():
        raise ClusterError(
            f"{address!r} is no address of a Ray cluster; write it as host:port (RAY_ADDRESS or cluster.address)"
        )


def starts_here() -> bool:
    """Tell whether `connect_ray` without an address would start a Ray of its own on this machine."""
    return not ray.is_initialized() and resolve_address(os.environ.get("RAY_ADDRESS", "")) == LOCAL


def _is_listening(address: str) -> bool:
    """Tell whether somebody listens there; an address without a port (`local`) is Ray's to find."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return True
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_TIMEOUT_S).close()
    except OSError:
        return False
    return True


def ray_folder() -> Path:
    """Return Ray's folder on this machine."""
    return Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir(), "ray")


def running_cluster(folder: Path) -> str:
    """Return the address left in Ray's folder; empty where there is none, or it is somebody else's."""
    addresses = (address_in(own_text(folder / name)) for name in (NOTE_FILE, ADDRESS_FILE))
    return next((address for address in addresses if address and _is_own(address)), "")


def address_in(text: str) -> str:
    """Return the address that such a file begins with."""
    return text.split(maxsplit=1)[0] if text.strip() else ""


def own_text(path: Path) -> str:
    """Read a plain file that this user wrote."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(fd, encoding="utf-8") as file:
            status = os.fstat(fd)
            if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid():
                return file.read().strip()
    return ""


def _is_own(address: str) -> bool:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) >= 1 << 16:
        return False
    if not _is_of_this_machine(host.strip("[]")):
        return True
    owners = listeners(int(port))
    return owners is None or owners == {os.geteuid()}


def _is_of_this_machine(host: str) -> bool:
    with contextlib.suppress(OSError):
        family, kind, protocol, _, (ip, *_) = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.bind((ip, 0))
            return True
    return False


def listeners(port: int) -> set[int] | None:
    """Return the users who listen at a port of this machine; None where the kernel does not tell."""
    rows, told = [], False
    for table in _TABLES:
        with contextlib.suppress(OSError):
            rows += [line.split() for line in table.read_text("ascii").splitlines()[1:]]
            told = True
    here = f":{port:04X}"
    users = {int(row[7]) for row in rows if row[1].endswith(here) and row[3] == _LISTENS}
    return users if told else None


def follow_token_mode(address: str) -> None:
    """Send the token to a cluster that wants it. Raises `ClusterError` where it does and there is none, and where no Ray answers."""
    if "://" in address:
        return
    code = _probe(address)
    if code in _NO_RAY:
        why = "what answers there is no Ray; give host:port of `ray start --head`, 6379 unless you said another (the dashboard has another port)"
        raise ClusterError(f"cannot use Ray at {address}: {why}")
    if os.environ.get(_VARIABLE) or code != "UNAUTHENTICATED":
        return
    logging.getLogger(maybe_enable_token_auth_if_token_available.__module__).setLevel(logging.ERROR)
    if not maybe_enable_token_auth_if_token_available(warn_if_disabled=False):
        why = "it wants a token; give that of its `ray get-auth-token` as RAY_AUTH_TOKEN, or its file as RAY_AUTH_TOKEN_PATH"
        raise ClusterError(f"cannot use Ray at {address}: {why}")


def _probe(address: str) -> str:
    """Ask a cluster something without a token, and return gRPC's word for how it failed; empty where it did not.

    One that is just starting is asked again.
    """
    for _ in range(_TRIES):
        code = _ask(address)
        if code != "UNAVAILABLE":
            break
        time.sleep(_PAUSE_S)
    return code


def _ask(address: str) -> str:
    channel = init_grpc_channel(address)
    try:
        channel.unary_unary(_PROBE)(b"", timeout=_TIMEOUT_S)
    except Exception as error:  # noqa: BLE001 - gRPC's own classes are not ours to import; Ray will say the rest
        return _code(error)
    finally:
        channel.close()
    return ""


def _code(error: Any) -> str:
    return str(error.code().name) if hasattr(error, "code") else ""


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """What a command tells about the cluster it is connected to."""

    ray_version: str
    cpus: float
    """Free or not."""
    nodes: int


def describe_cluster() -> ClusterFacts:
    """Return the facts of the cluster that this process is connected to."""
    return ClusterFacts(ray.__version__, float(ray.cluster_resources().get("CPU", 0)), len(ray.nodes()))
