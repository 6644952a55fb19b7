"""How much time the engine adds to the critical path of a recursion tree, and what CPU it takes.

The model is a server on loopback in a process of its own that answers after 200 ms, so a tree of two root turns and
one level of plain calls cannot take less than 0.6 s. Each line is the median of several warm runs, and every answer is
checked. CPU is that of this process and of all that it started, the model's server excepted.

    python benchmarks/recursion.py [--runs 5] [--only NAME ...] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from census import Census
from figures import (
    CHILD_CPU,
    CHILDREN_32,
    CHILDREN_256,
    LARGE,
    LEAF_CPU,
    LEAVES,
    ROOT_CPU,
    ROOTS,
    Figure,
    median_figure,
    write_figures,
)

from rlm_ray import RLM, Cluster
from rlm_ray.testing import ServerProcess
from rlm_ray.testing.responses import run_query

LATENCY_S = 0.2
CLUSTER = Cluster(min_actors=2, max_actors=2, sessions_per_actor=512)
TEXT = "The quick brown fox jumps over the lazy dog. "
PIECES = "[context[i:i+{size}] for i in range(0, {size} * {count}, {size})]"
ENGINE_TURNS = 21


@dataclass(frozen=True)
class Case:
    name: str
    critical_path_s: float
    reach_s: float
    work: Callable[[RLM], Awaitable[None]]
    settings: dict[str, Any]
    unit: str = ""
    """What its CPU is divided by; empty where that says nothing."""
    units: int = 1


async def _ask(rlm: RLM, programs: tuple[str, str], context: str, answer: str) -> None:
    result = await rlm.arun(run_query(*programs), context)
    assert result.answer == answer, result


def _fan_out(count: int, item: str) -> Callable[[RLM], Awaitable[None]]:
    """A map over so many pieces; the second turn counts the answers that are right."""
    pieces = PIECES.format(size=500, count=count)
    programs = (
        f"a = recursive_map('what is it?', {pieces}); print(a[0])",
        f"FINAL(str(sum({item!r} in x for x in a)) + ' right')",
    )
    context = TEXT * (count * 500 // len(TEXT) + 1)
    return lambda rlm: _ask(rlm, programs, context, f"{count} right")


def _roots(count: int) -> Callable[[RLM], Awaitable[None]]:
    async def work(rlm: RLM) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(count):
                text = f"a short text, number {number} " * 200
                programs = ("print(len(context))", "FINAL(str(len(context)))")
                group.create_task(_ask(rlm, programs, text, str(len(text))))

    return work


def _large(text: str) -> Callable[[RLM], Awaitable[None]]:
    programs = ("n = context.count('fox'); print(len(context), n)", "FINAL(str(n))")
    answer = str(text.count("fox"))  # counted once: it takes as long as the cell does
    return lambda rlm: _ask(rlm, programs, text, answer)


def cases() -> list[Case]:
    large = TEXT * (100_000_000 // len(TEXT))
    sessions: dict[str, Any] = {"max_depth": 2, "max_leaf_chars": 0}
    leaves, child = _fan_out(500, "leaf answer"), "session done"
    return [
        Case(LEAVES, 0.6, 1.0, leaves, {}, LEAF_CPU, 500),
        Case(CHILDREN_32, 0.8, 1.0, _fan_out(32, child), sessions),
        Case(CHILDREN_256, 0.8, 1.8, _fan_out(256, child), sessions, CHILD_CPU, 256),
        Case(ROOTS, 0.4, 0.7, _roots(64), {}, ROOT_CPU, 64),
        Case(LARGE, 0.4, 0.6, _large(large), {}),
    ]


async def _measure(case: Case, server: ServerProcess, runs: int) -> list[Figure]:
    rlm = RLM(
        deduplicate_maps=False,
        direct_call_below_chars=0,
        model="openai/benchmark",
        api_base=server.url,
        api_key="none",
        cluster=CLUSTER,
        **case.settings,
    )
    census, times, cpu_ms = Census(server.pid), [], []
    for run in range(runs + 1):
        before_s, started = _ours_s(census), time.perf_counter()
        await case.work(rlm)
        took_s = time.perf_counter() - started
        if run:  # the first one warms caches and connections
            times.append(took_s)
            cpu_ms.append(1000 * (_ours_s(census) - before_s) / case.units)
    seconds = median_figure(
        "time", case.name, "ours", times, "s", critical_path=case.critical_path_s, reach=case.reach_s
    )
    if not case.unit:
        return [seconds]
    return [seconds, median_figure("cpu", case.unit, "ours", cpu_ms, "ms")]


def _ours_s(census: Census) -> float:
    return sum(seconds for role, seconds in census.look()[1].items() if role != "server")


async def _engine_time(runs: int) -> list[Figure]:
    """Milliseconds of our own per turn, with a model that answers at once: what passes, and what CPU it takes."""
    programs = ["print(len(context))"] * (ENGINE_TURNS - 1)
    with ServerProcess(["--script", "recursion", "--latency-s", "0"]) as server:
        rlm = RLM(
            model="openai/benchmark", api_base=server.url, api_key="none", cluster=CLUSTER, max_iterations=99
        )
        census, times, cpu = Census(server.pid), [], []
        for _ in range(runs + 1):
            before_s, started = _ours_s(census), time.perf_counter()
            await rlm.arun(run_query(*programs), "a text " * 1000)
            times.append(1000 * (time.perf_counter() - started) / ENGINE_TURNS)
            cpu.append(1000 * (_ours_s(census) - before_s) / ENGINE_TURNS)
    return [
        median_figure("other", "engine time a turn, model of 0 ms", "ours", times[1:], "ms", reach=5.0),
        median_figure("cpu", "turn of a session", "ours", cpu[1:], "ms", reach=5.0),
    ]


def _memory_per_child(children: int) -> Figure:
    """MB of private memory of each child session over one 100 MB context, all alive at once."""
    command = [sys.executable, str(Path(__file__).with_name("memory.py")), "--children", str(children)]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    figures = json.loads(out.splitlines()[-1])
    work = f"memory of a child session over a 100 MB context, {figures['alive']} at once"
    return Figure("other", work, "ours", figures["mb_per_child"], "MB", reach=8.0)


async def _table(runs: int, only: list[str]) -> list[Figure]:
    figures: list[Figure] = []
    print(f"{'work':45} {'critical':>8} {'reach':>6} {'median':>7}  runs")
    with ServerProcess(["--script", "recursion", "--latency-s", str(LATENCY_S)]) as server:
        await RLM(cluster=CLUSTER).aprewarm()
        for case in cases():
            if only and not any(word in case.name for word in only):
                continue
            measured = await _measure(case, server, runs)
            figures += measured
            each = " ".join(f"{t:.2f}" for t in measured[0].runs)
            cpu = f"; {measured[1].value:.1f} ms of CPU a {case.unit}" if case.unit else ""
            print(
                f"{case.name:45} {case.critical_path_s:7.1f}s {case.reach_s:5.1f}s {measured[0].value:6.2f}s"
                f"  {each}{cpu}",
                flush=True,
            )
    return figures


async def _main(options: argparse.Namespace) -> list[Figure]:
    figures = await _table(options.runs, options.only)
    if not options.only:
        engine = await _engine_time(options.runs)
        print(f"a turn with a model of 0 ms: {engine[0].value:.1f} ms, {engine[1].value:.1f} ms of CPU")
        figures += engine
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=[], help="parts of the names of the lines to run")
    parser.add_argument("--children", type=int, default=100, help="child sessions in the memory figure")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    figures = asyncio.run(_main(options))
    if not options.only:
        import ray

        ray.shutdown()  # the figure below starts Ray for itself
        memory = _memory_per_child(options.children)
        print(f"{memory.work}: {memory.value:.1f} MB")
        figures.append(memory)
    write_figures(options.json, figures)


if __name__ == "__main__":
    main()
