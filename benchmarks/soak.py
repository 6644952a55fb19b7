"""Mixed work for as long as is said, on one cluster: what there is more of in the end than after the first minutes.

    python benchmarks/soak.py [--minutes 30] [--json FILE]

All at once and again and again: trees asked, the same question from the response cache, batches of rows, chats through
Serve, trees cancelled at a random moment, session actors killed, whole drivers killed while their runs are under way.
Every minute, and when all is quiet at the end, a line shows what is held: memory, descriptors and processes of
everything that Ray started and of this process, and how many rows each table of the detached actors has (admission,
journal, cache, run registry). Memory and descriptors are compared with the first line after `WARM_MINUTES`.

Exits with 1 if a question was answered wrong, if runs, permits, reservations or sandboxes are left in the end, or if
processes or descriptors have grown by more than a few.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import leaks
import ray
import serve as chats

from rlm_ray import RLM, Cluster
from rlm_ray.cluster.detached_actor import service_stats
from rlm_ray.cluster.driver import ClusterDriver
from rlm_ray.cluster.ray_calls import current_ray_thread
from rlm_ray.errors import RLMError
from rlm_ray.serve import ServerConfig
from rlm_ray.serve.launcher import LocalServer, deploy
from rlm_ray.testing import ServerProcess
from rlm_ray.testing.responses import run_query

CPUS = 8
CLUSTER = Cluster(min_actors=2, max_actors=2, sessions_per_actor=64)
MODEL = "openai/soak"
ROWS = 40
WARM_MINUTES = 2
EVERY_S = 60.0
QUIET_S = 180.0
"""The longest that is waited at the end: the admission forgets killed drivers after a minute."""
SPARE_PROCESSES = 4
SPARE_DESCRIPTORS = 40
"""Connections to the provider are kept open for a while."""
EMPTY = frozenset({"runs", "permits", "waiting", "reservations", "drivers", "strays"})
"""Tables that have no rows when nothing runs."""
DRIVER = """
import sys
from rlm_ray import RLM
print("asking", flush=True)
RLM(deduplicate_maps=False, direct_call_below_chars=0, model={model!r}, max_depth=2, api_base=sys.argv[1], api_key="k", run_dir=sys.argv[2]).run(sys.argv[3], "text " * 500)
"""


@dataclass(frozen=True)
class Line:
    """What is held at a moment."""

    minutes: float
    done: dict[str, int]
    processes: int
    descriptors: int
    mb: float
    by_actor_mb: dict[str, float]
    rows: dict[str, int] = field(default_factory=dict)
    """Of all tables of the detached actors, by actor and table."""


class Soak:
    """The work, and what it leaves."""

    def __init__(self, url: str, site_url: str, folder: Path, seed: int) -> None:
        self._url, self._site_url, self._folder = url, site_url, folder
        self._draw = random.Random(seed)
        self._began = time.monotonic()
        self.done: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.lines: list[Line] = []

    def rlm(self, **settings: Any) -> RLM:
        options: dict[str, Any] = {
            "api_base": self._url,
            "api_key": "k",
            "run_dir": str(self._folder / "runs"),
        }
        return RLM(
            deduplicate_maps=False,
            direct_call_below_chars=0,
            model=MODEL,
            max_depth=2,
            cluster=CLUSTER,
            **options,
            **settings,
        )

    async def run(self, minutes: float) -> None:
        """All kinds of work until the time is over."""
        await self.measure()
        works: list[tuple[Callable[[], Awaitable[None]], float]] = [
            (self.ask, 0.2), (self.ask_cached, 0.5), (self.batch, 2.0), (self.chat, 1.0), (self.cancel, 0.5),
            (self.kill_actor, 25.0), (self.kill_driver, 40.0),
        ]  # fmt: skip
        ends_at = time.monotonic() + 60 * minutes
        async with asyncio.TaskGroup() as group:
            for work, pause_s in works:
                group.create_task(self._again(work, pause_s, ends_at))
            group.create_task(self._measure_until(ends_at))

    async def ask(self) -> None:
        """A root with four children."""
        pieces = "[context[i * 100 : i * 100 + 900] for i in range(4)]"
        question = run_query(f"print(len(recursive_map('{secrets.token_hex(4)} what is it?', {pieces})))")
        result = await self.rlm(max_leaf_chars=0).arun(question, leaks.CONTEXT)
        self._expect(result.answer == "session done", result)

    async def ask_cached(self) -> None:
        """One of a few questions that others ask as well."""
        rlm = self.rlm(cache=str(self._folder / "cache"), max_leaf_chars=100)
        question = f"what is it, number {self._draw.randrange(20)}?"
        result = await rlm.arun(question, leaks.CONTEXT)
        self._expect(result.answer == "session done", result)

    async def batch(self) -> None:
        """Rows that are one call each."""
        texts = [f"text {number} {secrets.token_hex(4)}" for number in range(ROWS)]
        results = await self.rlm(max_leaf_chars=100_000).amap("what is it?", texts)
        failed = [result for result in results if not result.answer]
        if failed:  # its actors were killed too often: that row says so, the others are answered
            self.done["batch rows failed"] += len(failed)
            print(f"batch: {len(failed)} of {ROWS} rows failed: {failed[0].why}", flush=True)

    async def chat(self) -> None:
        """Through Serve."""
        chat = chats.Chat(self._draw.randrange(10**6))
        await chats.play(chat, self._site_url)
        self._expect(chat.right, chat)

    async def cancel(self) -> None:
        """A wide tree, ended at a random moment."""
        question = run_query(
            "print(len(recursive_map('what is it?', [context[i : i + 900] for i in range(32)])))"
        )
        run = await self.rlm(max_leaf_chars=0).astart(question, leaks.CONTEXT)
        work = asyncio.create_task(run.result())
        await asyncio.sleep(self._draw.uniform(0, 2))
        work.cancel()
        with suppress(asyncio.CancelledError):
            await work

    async def kill_actor(self) -> None:
        """One of the session actors, by SIGKILL."""
        counts = await (await ClusterDriver.connect(CLUSTER)).stats()
        if counts:
            pid = self._draw.choice(list(counts.values()))["pid"]
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    async def kill_driver(self) -> None:
        """A process of its own, killed while its run is under way."""
        question = run_query(
            "print(len(recursive_map('what is it?', [context[i : i + 900] for i in range(32)])))"
        )
        driver = await asyncio.create_subprocess_exec(
            sys.executable, "-c", DRIVER.format(model=MODEL), self._url, str(self._folder / "runs"), question,
            env={**os.environ, "RAY_ADDRESS": ray.get_runtime_context().gcs_address},
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert driver.stdout is not None
        await driver.stdout.readline()
        await asyncio.sleep(self._draw.uniform(6, 12))
        with suppress(ProcessLookupError):
            driver.kill()
        await driver.wait()

    async def measure(self) -> Line:
        """What is held now."""
        below = leaks._below(os.getpid()) | {os.getpid()}  # noqa: SLF001 - of the sibling benchmark
        by_actor = {}
        for name, pid in leaks._actors().items():  # noqa: SLF001
            with suppress(OSError):
                by_actor[name] = round(leaks._private_mb(pid), 1)  # noqa: SLF001
        tables = await current_ray_thread().run(service_stats())
        rows = {
            f"{_short(actor)} {table}": count for actor, row in tables.items() for table, count in row.items()
        }
        line = Line(
            round((time.monotonic() - self._began) / 60, 1), dict(self.done), len(below), _sum(below, _descriptors),
            round(_sum(below, leaks._private_mb), 1), by_actor, rows,  # noqa: SLF001
        )  # fmt: skip
        self.lines.append(line)
        _show(line)
        return line

    async def quiet(self) -> Line:
        """Measure when nothing is left, or after `QUIET_S`."""
        deadline = time.monotonic() + QUIET_S
        while time.monotonic() < deadline and await self._left():  # noqa: ASYNC110 - of other processes
            await asyncio.sleep(5)
        return await self.measure()

    async def _left(self) -> list[str]:
        tables = await current_ray_thread().run(service_stats())
        left = [
            f"{_short(actor)} has {count} {table}"
            for actor, rows in tables.items()
            for table, count in rows.items()
            if table in EMPTY and count
        ]
        for name, counts in (await (await ClusterDriver.connect(CLUSTER)).stats()).items():
            left += [
                f"{name} has {counts[kind]} {kind}"
                for kind in ("sessions", "batches", "sandboxes")
                if counts[kind]
            ]
        return left

    async def verdict(self) -> list[str]:
        """What should not be."""
        first = next((line for line in self.lines if line.minutes >= WARM_MINUTES), self.lines[0])
        last = self.lines[-1]
        grown = [
            f"{what} grew from {before} to {after}"
            for what, before, after, spare in (
                ("processes", first.processes, last.processes, SPARE_PROCESSES),
                ("descriptors", first.descriptors, last.descriptors, SPARE_DESCRIPTORS),
            )
            if after > before + spare
        ]
        return [*self.wrong[:10], *await self._left(), *grown]

    async def _again(self, work: Callable[[], Awaitable[None]], pause_s: float, ends_at: float) -> None:
        name = getattr(work, "__name__", "work")
        while time.monotonic() < ends_at:
            try:
                await work()
                self.done[name] += 1
            except RLMError as error:  # its actors were killed too often: said, counted, no reason to stop
                self.done[f"{name} failed"] += 1
                print(f"{name}: {error}", flush=True)
            await asyncio.sleep(self._draw.uniform(0, 2 * pause_s))

    async def _measure_until(self, ends_at: float) -> None:
        while time.monotonic() < ends_at:
            await asyncio.sleep(min(EVERY_S, max(0.0, ends_at - time.monotonic())))
            await self.measure()

    def _expect(self, is_right: bool, what: object) -> None:
        if not is_right:
            self.wrong.append(f"wrong: {what!r:.300}")
            print(self.wrong[-1], flush=True)


def _short(actor: str) -> str:
    """`rlm_ray.journal.0123.v2` is the journal."""
    return actor.split(".")[1]


def _descriptors(pid: int) -> float:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def _sum(pids: set[int], measure: Callable[[int], float]) -> int:
    total = 0.0
    for pid in pids:
        with suppress(OSError):  # it may end meanwhile
            total += measure(pid)
    return round(total)


def _show(line: Line) -> None:
    done = ", ".join(f"{name} {count}" for name, count in sorted(line.done.items()))
    rows = ", ".join(f"{name} {count}" for name, count in sorted(line.rows.items()))
    print(
        f"{line.minutes:5.1f} min  {line.processes} processes  {line.descriptors} fds  {line.mb:,.0f} MB  [{done}]"
    )
    print(f"           rows: {rows}", flush=True)


async def _main(options: argparse.Namespace, server: ServerProcess, folder: Path) -> tuple[Soak, list[str]]:
    await RLM(cluster=CLUSTER).aprewarm()
    soak = Soak(server.url, options.site_url, folder, options.seed)
    await soak.run(options.minutes)
    print("quiet:", flush=True)
    await soak.quiet()
    return soak, await soak.verdict()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    server_options = ["--script", "recursion", "--latency-s", "0.1"]
    with tempfile.TemporaryDirectory() as folder, ServerProcess(server_options) as server:
        ray.init(num_cpus=CPUS, include_dashboard=False, log_to_driver=False)
        settings = {
            "model": "openai/root",
            "params": {"api_base": server.url, "api_key": "k"},
            "cluster": {"sessions_per_actor": 64, "max_actors": 1, "min_actors": 1},
        }
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        site = LocalServer(ServerConfig(run_dir=f"{folder}/runs", settings=settings), port=port)
        options.site_url = site.url
        with deploy(site):
            soak, wrong = asyncio.run(_main(options, server, Path(folder)))
    if options.json:
        options.json.write_text(
            json.dumps({"lines": [asdict(line) for line in soak.lines], "wrong": wrong}, indent=1)
        )
    print("nothing is left, nothing has grown" if not wrong else "\n".join(wrong))
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
