"""A batch over many rows: rows per second, and memory over time.

    python benchmarks/batch.py --rows 100000                       # synthetic rows, scripted server, one call each
    python benchmarks/batch.py --jsonl rows.jsonl.gz --depth 1     # documents, a session each
    python benchmarks/batch.py --rows 100000 --nobody              # no model and no Ray: what the driver itself takes

Memory is the resident set of this process and, together, of the session actors with the sandboxes below them, at every
tenth of the rows: the driver's must not grow with the number of rows.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from rlm_ray.config import Cluster, Settings
from rlm_ray.core.context import Context
from rlm_ray.core.usage import RunUsage
from rlm_ray.corpus.asking import Asks
from rlm_ray.corpus.batch import Batch, Work
from rlm_ray.corpus.figures import Figures
from rlm_ray.corpus.formats import format_of
from rlm_ray.corpus.output import Output
from rlm_ray.corpus.rows import Corpus, open_corpus
from rlm_ray.corpus.task import Summary, Task
from rlm_ray.corpus.template import Template
from rlm_ray.job import open_job
from rlm_ray.run import new_run_id
from rlm_ray.session import Completion
from rlm_ray.testing import ServerProcess

PAGE = os.sysconf("SC_PAGESIZE")
WORDS = "the quick brown fox jumps over the lazy dog "


def synthetic(rows: int, chars: int) -> Iterator[dict[str, str]]:
    text = (WORDS * (chars // len(WORDS) + 1))[:chars]
    for number in range(rows):
        yield {"id": f"row-{number}", "text": text}


class Nobody:
    """Answers at once, in this process: what is left is the driver's own work."""

    run_id, trace_id, concurrency = "nobody", "", 128

    async def ask(self, row: int, query: str, context: Context) -> Completion:  # noqa: ARG002 - part of the face
        await asyncio.sleep(0)
        return Completion(f"an answer to row {row}", "answered", turns=1)

    async def plain(self, row: int, number: int, query: str, text: str) -> str:  # noqa: ARG002 - part of the face
        return ""

    async def usage(self) -> RunUsage:
        return RunUsage()


@asynccontextmanager
async def nobody(settings: Settings, run_id: str, query: str) -> AsyncIterator[Asks]:  # noqa: ARG001
    yield Nobody()


def job(settings: Settings, run_id: str, query: str) -> AbstractAsyncContextManager[Asks]:
    return open_job(settings, query, run_id=run_id)


class Samples:
    """Memory at every tenth of the rows, inside a `with` block."""

    def __init__(self, rows: int) -> None:
        self._step = max(rows // 10, 1)
        self._over = threading.Event()
        self._figures = Figures()
        self._began = time.perf_counter()

    def __call__(self, batch: Batch) -> Samples:
        self._figures, self._began = batch.figures, time.perf_counter()
        return self

    def __enter__(self) -> None:
        print(f"{'rows':>9} {'seconds':>8} {'rows/s':>8} {'driver MB':>10} {'actors MB':>10}", flush=True)
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._say()

    def _watch(self) -> None:
        wanted = 1
        while not self._over.wait(0.05):
            if self._figures.done >= wanted:
                self._say()
                wanted = (self._figures.done // self._step + 1) * self._step

    def _say(self) -> None:
        seconds, done = time.perf_counter() - self._began, self._figures.done
        figures = (megabytes(os.getpid()), actors_megabytes())
        print(
            f"{done:>9,} {seconds:>8.1f} {done / seconds:>8.1f} {figures[0]:>10.0f} {figures[1]:>10.0f}",
            flush=True,
        )


def megabytes(pid: int) -> float:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]) * PAGE / 1e6
    except (OSError, IndexError):
        return 0.0


def actors_megabytes() -> float:
    """Of the session actors of this run's Ray and the sandboxes below them."""
    parents, actors = {}, set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int(
                    (entry / "stat").read_text("utf-8").rsplit(")", 1)[1].split()[1]
                )
                if (entry / "cmdline").read_bytes().startswith(b"ray::SessionHost"):
                    actors.add(int(entry.name))
            except (OSError, IndexError):
                continue
    return sum(map(megabytes, below(actors & below({os.getpid()}, parents), parents)))


def below(pids: set[int], parents: dict[int, int]) -> set[int]:
    """These processes and all that they started."""
    found, size = set(pids), -1
    while len(found) > size:
        size = len(found)
        found |= {pid for pid, parent in parents.items() if parent in found}
    return found


async def measure(corpus: Corpus, rows: int, settings: Settings, options: argparse.Namespace) -> Summary:
    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder) / f"answers.{options.format}")
        work = Work(Template.parse("What is this about?"), limit=options.limit)
        task = Task(
            settings, corpus, work, Output(out, format_of(out, None)), nobody if options.nobody else job
        )
        return await task.run(new_run_id(), watch=Samples(rows))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--chars", type=int, default=500, help="of a synthetic row")
    parser.add_argument("--jsonl", help="documents instead of synthetic rows")
    parser.add_argument("--limit", type=int)
    parser.add_argument(
        "--depth", type=int, default=0, help="0: a call for each row; 1: a session with a REPL"
    )
    parser.add_argument("--latency-s", type=float, default=0.05)
    parser.add_argument("--actors", type=int, default=2)
    parser.add_argument("--format", default="jsonl", choices=["jsonl", "parquet"])
    parser.add_argument(
        "--offline", action="store_true", help="the offline model instead of the scripted server"
    )
    parser.add_argument("--nobody", action="store_true")
    options = parser.parse_args()
    corpus = open_corpus(options.jsonl or synthetic(options.rows, options.chars))
    rows = options.limit or (sum(1 for _ in open_corpus(options.jsonl)) if options.jsonl else options.rows)
    script = "echo" if options.depth == 0 else "recursion"
    with ServerProcess(["--script", script, "--latency-s", str(options.latency_s)]) as server:
        with tempfile.TemporaryDirectory() as runs:
            settings = settings_of(options, server.url, runs)
            summary = asyncio.run(measure(corpus, rows, settings, options))
        calls = server.stats()["calls"]
    print(
        json.dumps(
            summary.as_dict() | {"calls_at_the_server": calls, "rows_per_s": summary.rows / summary.seconds}
        )
    )
    os._exit(0)  # Ray's goodbye is not measured


def settings_of(options: argparse.Namespace, url: str, runs: str) -> Settings:
    params: dict[str, Any] = {} if options.offline else {"api_base": url, "api_key": "none"}
    return Settings(
        model="offline/extractive" if options.offline else "openai/m",
        max_depth=options.depth,
        params=params,
        run_dir=runs,
        cluster=Cluster(address="local", min_actors=options.actors, max_actors=options.actors),
    )


if __name__ == "__main__":
    main()
