"""A Ray of this user's own that stays: `rlm-ray up` starts it, `rlm-ray down` ends it, and questions in between begin at once.

This module, run as a program, is the keeper: a driver that starts Ray on loopback, with the services, the shared pool and
its session actors, notes where it is and waits for SIGTERM. Ray ends with it. The note lies where Ray has its own, and is
believed as that is (`ray_init.py`): where this user wrote it and owns who listens there.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import ray

from rlm_ray.cluster.driver import ClusterDriver
from rlm_ray.cluster.ray_init import (
    LOCAL,
    NOTE_FILE,
    address_in,
    loopback,
    own_text,
    ray_folder,
    resolve_address,
)
from rlm_ray.config import Cluster
from rlm_ray.errors import ClusterError
from rlm_ray.util.filesystem import write_private
from rlm_ray.util.process_stat import read_process_stat

END_S, POLL_S = 30.0, 0.05
READY = "ready"


@dataclass(frozen=True, slots=True)
class Keeper:
    """The keeper that runs."""

    address: str
    pid: int
    started: str
    """When the kernel says it was started: a later process may have its number."""


def find_keeper() -> Keeper | None:
    """Return the keeper that this user has started; None where none runs."""
    text = own_text(ray_folder() / NOTE_FILE)
    with contextlib.suppress(ValueError, OSError):
        address, pid, started = text.split()
        if _is_alive(int(pid), started):
            return Keeper(address, int(pid), started)
    return None


def start_keeper(cluster: Cluster, models: Sequence[str]) -> Keeper:
    """Start a keeper, and wait until its session actors are ready. Raises `ClusterError` where it does not come up."""
    if (running := resolve_address("")) != LOCAL:
        raise ClusterError(f"a Ray cluster of yours runs at {running} already, and runs use that one")
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "rlm_ray.cluster.local_cluster"],
        cwd="/",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    said = _said_by(process, json.dumps({"cluster": asdict(cluster), "models": list(models)}).encode())
    keeper = find_keeper() if said.endswith(READY) else None
    process.wait()
    if keeper is None:
        raise ClusterError(f"the cluster does not start: {said or 'it ended without a word'}")
    return keeper


def end_keeper() -> bool:
    """End the keeper and its Ray, and wait for it; False where none runs."""
    keeper = find_keeper()
    if keeper is None:
        return False
    os.kill(keeper.pid, signal.SIGTERM)
    deadline = time.monotonic() + END_S
    while _is_alive(keeper.pid, keeper.started):
        if time.monotonic() > deadline:
            os.kill(keeper.pid, signal.SIGKILL)  # Ray ends with it
        time.sleep(POLL_S)
    return True


def _said_by(process: subprocess.Popen[bytes], given: bytes) -> str:
    """Give it what it reads, and return the last line that it said before it was ready or ended."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(given)
    process.stdin.close()
    said = ""
    for line in process.stdout:
        said = line.decode("utf-8", "replace").strip() or said
        if said == READY:
            return said
    return said


def _is_alive(pid: int, started: str) -> bool:
    """Tell whether the process of this number that was started then still runs."""
    stat = read_process_stat(pid)
    return stat is not None and not stat.has_ended and stat.started == started


async def _keep(cluster: Cluster, models: Sequence[str]) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    with loopback(only=True):
        engine = await ClusterDriver.connect(replace(cluster, address=LOCAL), models=models, pool="kept")
    await engine.grow_to(cluster.min_actors)
    address = ray.get_runtime_context().gcs_address
    note = _write_note(address)
    _say(READY)
    _close_output()
    try:
        await ended.wait()
    finally:
        if address_in(own_text(note)) == address:
            note.unlink(missing_ok=True)


def _write_note(address: str) -> Path:
    """Note this process as the keeper. Raises `ClusterError` where another one was sooner: nobody would ever end this one."""
    if (sooner := find_keeper()) is not None:
        raise ClusterError(f"a cluster is up at {sooner.address} already; `rlm-ray down` ends it")
    note, stat = ray_folder() / NOTE_FILE, read_process_stat(os.getpid())
    assert stat is not None  # it is this process
    write_private(note, f"{address} {os.getpid()} {stat.started}\n".encode())
    return note


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _close_output() -> None:
    """Let go of who has started this: it waits for the end of what is said."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (1, 2):
        os.dup2(nothing, descriptor)
    os.close(nothing)


def main() -> None:
    """Keep a cluster as standard input says, until SIGTERM."""
    given = json.loads(sys.stdin.buffer.read())
    if (
        os.fork()
    ):  # `rlm-ray up` ends with all that is below it; nothing has been started yet that a fork would lose
        os._exit(0)
    try:
        asyncio.run(_keep(Cluster(**given["cluster"]), given["models"]))
    except ClusterError as error:
        _say(str(error))
        raise SystemExit(1) from error


if __name__ == "__main__":
    main()
