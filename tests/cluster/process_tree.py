"""Processes below a process of the suite, and their end. Any of them may have ended since it was listed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

ENDED = (FileNotFoundError, ProcessLookupError)


def children_of(pid: int) -> list[int]:
    """The children of every thread of a process: none when it has ended."""
    found: list[int] = []
    with suppress(*ENDED):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += [int(child) for child in (task / "children").read_text().split()]
    return found


def descendants_of(pid: int) -> list[int]:
    """The children of a process, their children, and so on."""
    children = children_of(pid)
    return children + [below for child in children for below in descendants_of(child)]


def title_of(pid: int) -> bytes:
    """The command line of a process: empty when it has ended."""
    with suppress(*ENDED):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def kill_processes(pids: Iterable[int]) -> list[int]:
    """Send SIGKILL and return those that had not ended before."""
    killed = []
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)
    return killed


def kill_repls(census: dict[str, dict[str, Any]]) -> list[int]:
    """Kill the processes that run cells and return them: below an actor are zygotes, below those the REPLs."""
    zygotes = [zygote for actor in census.values() for zygote in children_of(actor["pid"])]
    return kill_processes(repl for zygote in zygotes for repl in children_of(zygote))
