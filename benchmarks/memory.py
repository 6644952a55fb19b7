"""What a child session costs in memory when many of them hold one large context.

    python benchmarks/memory.py --children 1000

A root over a 100 MB context asks `recursive_map(queries, [context] * N)`. Every child looks at the context and then
waits in its second model call, until all N are alive. The figure is the private memory (PSS, which counts shared
pages by their share) of the actors' process trees, less what they had with the root alone, divided by N.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

from rlm_ray import RLM, Cluster, Rates
from rlm_ray.cluster.driver import ClusterDriver
from rlm_ray.testing import ServerProcess
from rlm_ray.testing.responses import run_query

MEGABYTES = 100
TEXT = "The quick brown fox jumps over the lazy dog. "


def _tree(pids: set[int]) -> set[int]:
    """These processes and all below them."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except (OSError, IndexError):
                continue
    found, size = set(pids), 0
    while len(found) > size:
        size = len(found)
        found |= {pid for pid, parent in parents.items() if parent in found}
    return found


def _pss_mb(pids: set[int]) -> float:
    total = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


async def _measure(children: int) -> dict[str, float]:
    cluster = Cluster(min_actors=2, max_actors=2, sessions_per_actor=children)
    context = TEXT * (MEGABYTES * 1_000_000 // len(TEXT))
    with ServerProcess(["--script", "benchmarks.memory:waiting"]) as server:
        settings: dict[str, Any] = {"api_base": server.url, "api_key": "none", "timeout": 600.0}
        rates = Rates(in_flight=2 * children + 10)  # all of them wait in a model call at once
        rlm = RLM(
            deduplicate_maps=False,
            direct_call_below_chars=0,
            model="openai/m",
            cluster=cluster,
            rates=rates,
            max_depth=2,
            **settings,
        )
        await rlm.aprewarm(2)
        engine = await ClusterDriver.connect(cluster)
        program = f"r = recursive_map('CHILD', [context] * {children}); print(len(r), len(context))"
        run = await rlm.astart(run_query("print(len(context))", "print(1)", program), context)
        await _until(lambda: server.stats()["calls"] >= 3, 60)
        before = _pss_mb(_tree({c["pid"] for c in (await engine.stats()).values()}))
        started = time.perf_counter()
        await _until(lambda: server.stats()["calls"] >= 3 + 2 * children, 600)
        seconds = time.perf_counter() - started
        census = await engine.stats()
        alive = sum(c["sandboxes"] for c in census.values())
        after = _pss_mb(_tree({c["pid"] for c in census.values()}))
        await run.stop()
        await run.result()
    return {
        "children": children,
        "alive": alive,
        "seconds_until_all_alive": round(seconds, 1),
        "mb_before": round(before),
        "mb_with_all": round(after),
        "mb_per_child": round((after - before) / children, 2),
    }


async def _until(condition, seconds: float) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + seconds
    while not await asyncio.to_thread(condition):
        if time.monotonic() > deadline:
            raise TimeoutError("the children did not all come alive")
        await asyncio.sleep(0.2)


def waiting(request):  # type: ignore[no-untyped-def]
    """A script: the root follows its question; children look once and then wait for ever in their second call."""
    from rlm_ray.testing import Hang
    from rlm_ray.testing.responses import recursion

    if "CHILD" not in str(request.messages[1]["content"])[:60]:
        return recursion(request)
    return "```python\nprint(len(context))\n```" if request.turn == 1 else Hang(600)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--children", type=int, default=100)
    options = parser.parse_args()
    figures = asyncio.run(_measure(options.children))
    print(json.dumps(figures))
    os._exit(0)  # Ray's goodbye to a thousand waiting sessions takes longer than the measurement


if __name__ == "__main__":
    main()
