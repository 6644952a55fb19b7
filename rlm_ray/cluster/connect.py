"""Which Ray this process uses: a running cluster if there is one (`Cluster.address`, `RAY_ADDRESS`, or one started on
this machine with `ray start`); otherwise Ray starts on this machine and stops with this process.
"""

from __future__ import annotations

import logging
import os
import socket
import tempfile
from pathlib import Path

import ray

from rlm_ray.errors import ClusterError

LOCAL = "local"
CONNECT_TIMEOUT_S = 5.0


def connect_ray(address: str | None = None) -> None:
    """Connect this process to the cluster of this address, of `RAY_ADDRESS`, of this machine, or to a new one."""
    if ray.is_initialized():
        return
    address = find_address(address or os.environ.get("RAY_ADDRESS", ""))
    try:
        ray.init(
            address=address,
            include_dashboard=False if address == LOCAL else None,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
        where = "this machine" if address == LOCAL else address
        raise ClusterError(f"cannot use Ray at {where}: {error}") from error


def find_address(wanted: str, folder: Path | None = None) -> str:
    """The cluster to connect to: the one wanted, one that runs on this machine, or a new one.

    Ray itself tries for minutes to reach a cluster that is gone, also one whose address an earlier `ray start` left
    in its folder, and says so in its own log only.
    """
    if wanted:
        if not _answers(wanted):
            raise ClusterError(
                f"nothing answers at {wanted}; check RAY_ADDRESS (or cluster.address), or unset it to start Ray here"
            )
        return wanted
    left = (
        folder or Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir(), "ray")
    ) / "ray_current_cluster"
    running = left.read_text().strip() if left.exists() else ""
    return running if running and _answers(running) else LOCAL


def _answers(address: str) -> bool:
    """Somebody listens there; an address without a port (`auto`, `local`) is Ray's to find."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return True
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_TIMEOUT_S).close()
    except OSError:
        return False
    return True
