"""What Ray's own head process holds in its memory."""

from __future__ import annotations

from pathlib import Path

import ray


def canaries_in_the_gcs(*canaries):
    """Those that stand in the memory of the process that holds all that Ray knows of its actors and jobs."""
    (gcs,) = ray._private.worker._global_node.all_processes["gcs_server"]
    found = set()
    with Path(f"/proc/{gcs.process.pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{gcs.process.pid}/maps").read_text().splitlines():
            start, stop = (int(at, 16) for at in line.split()[0].split("-"))
            if "rw" not in line.split()[1] or "[v" in line:
                continue
            for at in range(start, stop, 1 << 24):
                memory.seek(at)
                try:
                    block = memory.read(min(stop - at, (1 << 24) + 64))
                except OSError:
                    break
                found |= {canary for canary in canaries if canary.encode() in block}
    return found
