"""What a benchmark's processes take: memory and CPU of this one and of all that it started, by role."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

PAGE, TICKS = os.sysconf("SC_PAGESIZE"), os.sysconf("SC_CLK_TCK")
CORES = len(os.sched_getaffinity(0))
ROLES = {
    "ray::SessionActor": "actors",
    "ray::LocalServices": "services",
    "ray::JournalActor": "journal",
    "ray::AdmissionActor": "admission",
    "ray::Pool": "pool",
    "ray::MapWorker": "actors",
}
"""By the beginning of a process's title; what is below one of these counts with it."""


class Census:
    """Looks when it is asked; `server` is the process of the model."""

    def __init__(self, server: int = 0) -> None:
        self._driver, self._server = os.getpid(), server

    def look(self) -> tuple[dict[str, float], dict[str, float]]:
        """Megabytes, and seconds of CPU."""
        parents, roles = self._processes()
        roles |= {self._driver: "driver", self._server: "server"}
        megabytes: dict[str, float] = defaultdict(float)
        seconds: dict[str, float] = defaultdict(float)
        for pid in parents:
            role = self._role(pid, parents, roles)
            if role:
                megabytes[role] += _megabytes(pid)
                seconds[role] += cpu_s(pid)
        return megabytes, seconds

    def private_mb(self) -> dict[str, float]:
        """Megabytes of their own, by role: without files and shared memory that they have mapped."""
        parents, roles = self._processes()
        roles |= {self._driver: "driver", self._server: "server"}
        megabytes: dict[str, float] = defaultdict(float)
        for pid in parents:
            megabytes[self._role(pid, parents, roles)] += _private_mb(pid)
        return megabytes

    def _processes(self) -> tuple[dict[int, int], dict[int, str]]:
        parents: dict[int, int] = {}
        roles: dict[int, str] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                pid = int(entry.name)
                try:
                    parents[pid] = int(_stat(pid)[1])
                    title = (entry / "cmdline").read_bytes().decode("utf-8", "replace")
                except OSError:
                    continue
                found = next((role for begins, role in ROLES.items() if title.startswith(begins)), "")
                if found:
                    roles[pid] = found
        return parents, roles

    def _role(self, pid: int, parents: dict[int, int], roles: dict[int, str]) -> str:
        """Its own or that of the nearest above it; Ray itself where that is this process; empty for a stranger."""
        nearest = ""
        first = pid
        while pid in parents:
            nearest = nearest or roles.get(pid, "")
            if pid == self._driver:
                return nearest if first == pid or nearest != "driver" else "Ray itself"
            pid = parents[pid]
        return ""


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text("utf-8").rsplit(")", 1)[1].split()


def _megabytes(pid: int) -> float:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]) * PAGE / 1e6
    except OSError:
        return 0.0


def _private_mb(pid: int) -> float:
    try:
        _, resident, shared, *_ = map(int, Path(f"/proc/{pid}/statm").read_text("ascii").split())
    except OSError:
        return 0.0
    return (resident - shared) * PAGE / 1e6


def cpu_s(pid: int) -> float:
    try:
        return sum(map(int, _stat(pid)[11:15])) / TICKS  # with the children that it has waited for
    except OSError:
        return 0.0
