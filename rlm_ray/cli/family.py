"""The processes below this one, for a quick end: Ray's own goodbye takes more than a second.

Only a Ray that this process started is below it; a cluster it merely uses is not.
"""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path


def kill_descendants() -> None:
    """SIGKILL to every process below this one."""
    for pid in descendants(os.getpid(), _parents()):
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def descendants(pid: int, parents: dict[int, int]) -> set[int]:
    """All processes whose parents lead to `pid`; itself not among them."""
    found = {pid}
    size = 0
    while len(found) > size:
        size = len(found)
        found |= {child for child, parent in parents.items() if parent in found}
    return found - {pid}


def _parents() -> dict[int, int]:
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):  # it may end while we look
                parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
    return parents
