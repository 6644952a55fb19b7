"""How much time the engine adds to the critical path of a recursion tree.

The model is a server on loopback in a process of its own that answers after 200 ms, so a tree of two root turns and
one level of plain calls cannot take less than 0.6 s. Each line is the median of several warm runs.

    python benchmarks/recursion.py [--runs 5] [--only NAME ...] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlm_ray import RLM, Cluster
from rlm_ray.testing import ServerProcess
from rlm_ray.testing.responses import run_query

LATENCY_S = 0.2
CLUSTER = Cluster(min_actors=2, max_actors=2, sessions_per_actor=512)
PIECES = "[context[i:i+{size}] for i in range(0, {size} * {count}, {size})]"


@dataclass(frozen=True)
class Case:
    name: str
    critical_path_s: float
    reach_s: float
    work: Callable[[RLM], Awaitable[None]]
    settings: dict[str, Any]


async def _ask(rlm: RLM, program: str, context: str) -> None:
    result = await rlm.arun(run_query(program), context)
    assert result.answer == "session done", result


def _fan_out(count: int, size: int = 500) -> Callable[[RLM], Awaitable[None]]:
    pieces = PIECES.format(size=size, count=count)
    program = f"a = recursive_map('what is it?', {pieces}); assert len(a) == {count}; print(a[0])"
    context = "The quick brown fox jumps over the lazy dog. " * (count * size // 45 + 1)
    return lambda rlm: _ask(rlm, program, context)


def _roots(count: int) -> Callable[[RLM], Awaitable[None]]:
    async def work(rlm: RLM) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(count):
                group.create_task(_ask(rlm, "print(len(context))", f"a short text, number {number} " * 200))

    return work


def _large(text: str) -> Callable[[RLM], Awaitable[None]]:
    return lambda rlm: _ask(rlm, "print(len(context), context.count('fox'))", text)


def cases() -> list[Case]:
    large = "The quick brown fox jumps over the lazy dog. " * (100_000_000 // 45)
    sessions: dict[str, Any] = {"max_depth": 2, "max_leaf_chars": 0}
    return [
        Case("1 root, recursive_map over 500 leaves", 0.6, 2.1, _fan_out(500), {}),
        Case("1 root, 32 child sessions of 2 turns", 0.8, 1.3, _fan_out(32), sessions),
        Case("1 root, 256 child sessions of 2 turns", 0.8, 3.5, _fan_out(256), sessions),
        Case("64 root sessions of 2 turns at once", 0.4, 1.1, _roots(64), {}),
        Case("1 session over a 100 MB context, 2 turns", 0.4, 0.9, _large(large), {}),
    ]


async def _median(case: Case, url: str, runs: int) -> list[float]:
    rlm = RLM(
        deduplicate_maps=False,
        direct_call_below_chars=0,
        model="openai/benchmark",
        api_base=url,
        api_key="none",
        cluster=CLUSTER,
        **case.settings,
    )
    times = []
    for _ in range(runs + 1):
        started = time.perf_counter()
        await case.work(rlm)
        times.append(time.perf_counter() - started)
    return times[1:]  # the first one warms caches and connections


async def _engine_time(runs: int) -> float:
    """Milliseconds of our own per turn, with a model that answers at once."""
    turns = 20
    programs = ["print(len(context))"] * turns
    with ServerProcess(["--script", "recursion", "--latency-s", "0"]) as server:
        rlm = RLM(
            model="openai/benchmark", api_base=server.url, api_key="none", cluster=CLUSTER, max_iterations=99
        )
        times = []
        for _ in range(runs + 1):
            started = time.perf_counter()
            await rlm.arun(run_query(*programs), "a text " * 1000)
            times.append(time.perf_counter() - started)
    return statistics.median(times[1:]) / (turns + 1) * 1000


def _memory_per_child(children: int) -> tuple[float, int]:
    """MB of private memory of each child session over one 100 MB context, all alive at once."""
    command = [sys.executable, str(Path(__file__).with_name("memory.py")), "--children", str(children)]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    figures = json.loads(out.splitlines()[-1])
    return figures["mb_per_child"], figures["alive"]


def _cold_ask() -> float:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "small.txt"
        path.write_text("The fox is red. The dog is lazy. The sky is blue.\n" * 40)
        command = [
            str(Path(sys.executable).with_name("rlm-ray")),
            "ask",
            "What colour is the fox?",
            str(path),
        ]
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        return time.perf_counter() - started


async def _table(runs: int, only: list[str]) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    print(f"{'work':45} {'critical':>8} {'reach':>6} {'median':>7}  runs")
    with ServerProcess(["--script", "recursion", "--latency-s", str(LATENCY_S)]) as server:
        await RLM(cluster=CLUSTER).aprewarm()
        for case in cases():
            if only and not any(word in case.name for word in only):
                continue
            times = await _median(case, server.url, runs)
            median = statistics.median(times)
            rows.append({"work": case.name, "reach_s": case.reach_s, "median_s": round(median, 3)})
            each = " ".join(f"{t:.2f}" for t in times)
            print(
                f"{case.name:45} {case.critical_path_s:7.1f}s {case.reach_s:5.1f}s {median:6.2f}s  {each}",
                flush=True,
            )
    return rows


async def _main(options: argparse.Namespace) -> list[dict[str, object]]:
    rows = await _table(options.runs, options.only)
    if not options.only:
        per_turn = await _engine_time(options.runs)
        print(f"engine time per turn, model of 0 ms: {per_turn:.1f} ms")
        rows.append({"work": "engine ms per turn", "median_s": per_turn / 1000})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=[], help="parts of the names of the lines to run")
    parser.add_argument("--children", type=int, default=100, help="child sessions in the memory figure")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = asyncio.run(_main(options))
    if not options.only:
        import ray

        ray.shutdown()  # the figures below start Ray for themselves
        each, alive = _memory_per_child(options.children)
        print(f"memory per child session over a 100 MB context, {alive} at once: {each:.1f} MB")
        cold = [_cold_ask() for _ in range(3)]
        print(f"cold `rlm-ray ask`, offline model, small file: {statistics.median(cold):.1f} s")
        rows.append({"work": "memory MB per child", "value": each})
        rows.append({"work": "cold ask", "median_s": statistics.median(cold)})
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
