"""Which Ray this process uses: a running cluster if there is one (`Cluster.address`, `RAY_ADDRESS`, or one that this
user started on this machine with `ray start`); otherwise Ray starts on this machine and stops with this process.
"""

from __future__ import annotations

import logging
import os
import socket
import tempfile
from pathlib import Path

import ray

from rlm_ray.cluster.found_cluster import running_cluster
from rlm_ray.cluster.job_config import driver_job_config, trusted_start
from rlm_ray.cluster.token_mode import follow_token_mode
from rlm_ray.errors import ClusterError

LOCAL = "local"
AUTO = "auto"
CONNECT_TIMEOUT_S = 5.0


def connect_ray(address: str | None = None) -> None:
    """Connect this process to the cluster of this address, of `RAY_ADDRESS`, of this machine, or to a new one."""
    if ray.is_initialized():
        return
    address = find_address(address or os.environ.get("RAY_ADDRESS", ""))
    if address != LOCAL:
        follow_token_mode(address)
    try:
        with trusted_start():
            ray.init(
                address=address,
                include_dashboard=False if address == LOCAL else None,
                log_to_driver=False,
                logging_level=logging.ERROR,
                # A Ray client's server has no folder of this machine.
                job_config=None if "://" in address else driver_job_config(),
            )
    except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
        where = "this machine" if address == LOCAL else address
        raise ClusterError(f"cannot use Ray at {where}: {error}") from error


def find_address(wanted: str, folder: Path | None = None) -> str:
    """The cluster to connect to: the one wanted, one of this user's that runs on this machine, or a new one.

    Ray itself tries for minutes to reach a cluster that is gone, also one whose address an earlier `ray start` left
    in its folder, and says so in its own log only.
    """
    if wanted and wanted != AUTO:
        if not _answers(wanted):
            raise ClusterError(
                f"nothing answers at {wanted}; check RAY_ADDRESS (or cluster.address), or unset it to start Ray here"
            )
        return wanted
    folder = folder or Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir(), "ray")
    running = running_cluster(folder)
    if running and _answers(running):
        return running
    if wanted:
        why = "no Ray that you started runs on this machine; run `ray start --head`, or give the cluster's host:port"
        raise ClusterError(f"{why} as RAY_ADDRESS (or cluster.address)")
    return LOCAL


def _answers(address: str) -> bool:
    """Somebody listens there; an address without a port (`local`) is Ray's to find."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return True
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_TIMEOUT_S).close()
    except OSError:
        return False
    return True
