"""A batch over many rows: flat memory, rows per second, and what a row costs where; Ray Data's HTTP stage beside it.

    python benchmarks/batch.py --rows 100000                       # synthetic rows, scripted server, one call each
    python benchmarks/batch.py --jsonl rows.jsonl.gz --depth 1     # documents, a session each
    python benchmarks/batch.py --rows 8000 --uneven                # answers after 2 s on the mean, some after 10 s
    python benchmarks/batch.py --rows 100000 --nobody              # no model and no Ray: what the driver itself takes

The rows are a JSONL file, asked as `rlm-ray batch` asks them; the model is a server on loopback in a process of its own.
Memory is the resident set at every tenth of the rows: of this process, of the session actors with the sandboxes below
them, and of the services (journal, admission). None may grow with the number of rows. CPU is what each of them took for a row, in
milliseconds: on a machine whose cores are all busy their sum is what bounds the rows per second, and the model's server
is a part of it.

The same rows through `ray.data.llm.HttpRequestProcessorConfig` are a process and a Ray of their own, with as many
workers as there are session actors. It sends the requests of a batch one after the other and keeps no record; it is
given the first `--beside` rows only.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from census import CORES, Census
from figures import ROW_CPU, ROWS, Figure, read_figures, write_figures

from rlm_ray.batch.formats import format_of
from rlm_ray.batch.job import BatchJob, BatchSummary
from rlm_ray.batch.row_processor import RowBackend
from rlm_ray.batch.runner import BatchRunner, BatchSpec
from rlm_ray.batch.source import open_corpus
from rlm_ray.batch.template import Template
from rlm_ray.batch.writer import BatchOutput
from rlm_ray.config import Cluster, Settings
from rlm_ray.core.context import Context, ContextPart
from rlm_ray.core.repl_types import SubCallAnswer, SubCallOutcome
from rlm_ray.events.usage import RunUsage
from rlm_ray.runs.batch_run import open_batch_run
from rlm_ray.runs.run import new_run_id
from rlm_ray.session.result import SessionResult
from rlm_ray.testing import ServerProcess
from rlm_ray.testing.responses import Reply, Request

WORDS = "the quick brown fox jumps over the lazy dog "
QUESTION = "What is this about?"
BESIDE_TIMEOUT_S = 240.0


def synthetic(path: Path, rows: int, chars: int) -> None:
    text = (WORDS * (chars // len(WORDS) + 1))[:chars]
    with path.open("w") as file:
        for number in range(rows):
            file.write(json.dumps({"id": f"row-{number}", "text": f"{number} {text}"}) + "\n")


def uneven(request: Request) -> Reply:
    """The model of `--uneven`: its answers take 2 s on the mean, a few of them five times as long."""
    return Reply(request.last, latency_s=random.expovariate(0.5))


class Nobody:
    """Answers at once, in this process: what is left is the driver's own work."""

    run_id, trace_id, concurrency = "nobody", "", 128

    async def ask(self, row: int, query: str, context: Context) -> SessionResult:  # noqa: ARG002 - part of the face
        await asyncio.sleep(0)
        return SessionResult(f"an answer to row {row}", "answered", turns=1)

    async def llm_calls(
        self, calls: Sequence[tuple[int, int, str, ContextPart, Context]]
    ) -> list[SubCallOutcome]:
        return [SubCallAnswer("")] * len(calls)

    def end_as(self, reason: str, why: str) -> None:
        pass

    async def usage(self) -> RunUsage:
        return RunUsage()


@asynccontextmanager
async def nobody(settings: Settings, run_id: str, query: str) -> AsyncIterator[RowBackend]:  # noqa: ARG001
    yield Nobody()


def job(settings: Settings, run_id: str, query: str) -> AbstractAsyncContextManager[RowBackend]:
    return open_batch_run(settings, query, run_id=run_id)


class Samples:
    """Rows, speed and memory at every tenth of the rows, and in the end the CPU of a row."""

    def __init__(self, by: str, rows: int, done: Callable[[], int], census: Census) -> None:
        self._by = by
        self._step = max(rows // 10, 1)
        self._done, self._census = done, census
        self._over = threading.Event()
        self._said = 0
        self.rows_per_s = self.cpu_ms = 0.0
        """In the end: CPU of a row, that of the model's server excepted."""

    @contextmanager
    def watch(self) -> Iterator[None]:
        print(
            f"{'rows':>9} {'seconds':>8} {'rows/s':>8} {'driver MB':>10} {'actors MB':>10} {'services MB':>11}",
            flush=True,
        )
        self._began = self._said_at = time.perf_counter()
        self._begin(0)
        watching = threading.Thread(target=self._watch_death, daemon=True)
        watching.start()
        try:
            yield
        finally:
            self._over.set()
            watching.join()
            if self._done() > self._said:
                self._say()
            self._say_cpu()

    def _watch_death(self) -> None:
        wanted = 1
        while not self._over.wait(0.1):
            if (done := self._done()) >= wanted:
                if wanted == 1:
                    self._begin(done)
                self._say()
                wanted = (self._said // self._step + 1) * self._step

    def _begin(self, done: int) -> None:
        """Processes start before the first row, and that is not counted with the others."""
        self._first, self._first_at = done, time.perf_counter()
        self._cpu_s = self._census.look()[1]

    def _say(self) -> None:
        """The speed is that since the line above."""
        now, done = time.perf_counter(), self._done()
        speed = (done - self._said) / max(now - self._said_at, 1e-9)
        self._said, self._said_at = done, now
        mb = self._census.look()[0]
        print(
            f"{done:>9,} {now - self._began:>8.1f} {speed:>8.1f} "
            f"{mb['driver']:>10.0f} {mb['actors']:>10.0f} {mb['journal'] + mb['services']:>11.0f}",
            flush=True,
        )

    def _say_cpu(self) -> None:
        now, wall = self._census.look()[1], time.perf_counter() - self._first_at
        rows = max(self._done() - self._first, 1)
        spent = {role: now[role] - self._cpu_s[role] for role in sorted(now)}
        each = " · ".join(f"{role} {1e3 * seconds / rows:.2f}" for role, seconds in spent.items())
        total = sum(spent.values())
        self.rows_per_s, self.cpu_ms = rows / wall, 1e3 * (total - spent.get("server", 0.0)) / rows
        print(
            f"{self._by}, CPU of a row, ms: {each}; {1e3 * total / rows:.2f} in all, "
            f"{100 * total / wall / CORES:.0f}% of {CORES} cores; {rows / wall:.1f} rows/s",
            flush=True,
        )


def figures_of(by: str, samples: Samples, failed: int) -> list[Figure]:
    """Make the figures of one method."""
    if failed:
        return [Figure("time", ROWS, by, None, "s", failed=f"{failed} rows failed")]
    return [
        Figure("time", ROWS, by, 1000 / samples.rows_per_s, "s"),
        Figure("cpu", ROW_CPU, by, samples.cpu_ms, "ms", reach=2.0),
    ]


async def measure(path: str, rows: int, settings: Settings, census: Census, options: Any) -> BatchSummary:
    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder) / f"answers.{options.format}")
        work = BatchSpec(Template.parse(QUESTION), limit=rows)
        opening = nobody if options.nobody else job
        task = BatchJob(settings, open_corpus(path), work, BatchOutput(out, format_of(out, None)), opening)

        @contextmanager
        def watch(batch: BatchRunner) -> Iterator[None]:
            samples = Samples("ours", rows, lambda: batch.stats.done, census)
            with samples.watch():
                yield
            write_figures(options.json, figures_of("ours", samples, batch.stats.failed))

        return await task.run(new_run_id(), watch=watch)


def with_rlm_ray(path: str, rows: int, options: argparse.Namespace) -> None:
    script = "batch:uneven" if options.uneven else "echo" if options.depth == 0 else "recursion"
    with ServerProcess(["--script", script, "--latency-s", str(options.latency_s)]) as server:
        with tempfile.TemporaryDirectory() as runs:
            settings = settings_of(options, server.url, runs)
            summary = asyncio.run(measure(path, rows, settings, Census(server.pid), options))
            journal = sum(file.stat().st_size for file in Path(runs).rglob("*.jsonl"))
        calls = server.stats()["calls"]
    figures = {"calls_at_the_server": calls, "journal_bytes_of_a_row": journal // max(1, summary.rows)}
    print(json.dumps(summary.as_dict() | figures))


def with_ray_data(path: str, rows: int, options: argparse.Namespace) -> None:
    """Its defaults, but for the number of its workers."""
    import logging

    import ray
    from ray.data.llm import HttpRequestProcessorConfig, build_processor

    ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    with ServerProcess(["--script", "echo", "--latency-s", str(options.latency_s)]) as server:
        config = HttpRequestProcessorConfig(
            url=f"{server.url}/chat/completions",
            headers={"Authorization": "Bearer none"},
            concurrency=options.actors,
            http_request_stage={"num_cpus": 0.5},  # else its workers leave no CPU for reading
        )
        processor = build_processor(config, preprocess=_payload, postprocess=_answer)
        asked = processor(ray.data.read_json(path, lines=True).limit(rows))
        samples = Samples("Ray Data", rows, lambda: int(server.stats()["calls"]), Census(server.pid))
        with samples.watch():
            answers = asked.take_all()
        write_figures(options.json, figures_of("ray_data", samples, rows - len(answers)))
        print(json.dumps({"rows": len(answers), "calls_at_the_server": server.stats()["calls"]}))


def _payload(row: dict[str, Any]) -> dict[str, Any]:
    text = f"{QUESTION}\n\nContext:\n{row['text']}"
    return {"payload": {"model": "m", "messages": [{"role": "user", "content": text}]}, "id": row["id"]}


def _answer(row: dict[str, Any]) -> dict[str, Any]:
    return {"id": row["id"], "answer": row["http_response"]["choices"][0]["message"]["content"]}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--chars", type=int, default=200, help="of a synthetic row")
    parser.add_argument("--jsonl", help="documents instead of synthetic rows")
    parser.add_argument(
        "--depth", type=int, default=0, help="0: a call for each row; 1: a session with a REPL"
    )
    parser.add_argument("--latency-s", type=float, default=0.05)
    parser.add_argument(
        "--uneven", action="store_true", help="answers after 2 s on the mean, exponentially distributed"
    )
    parser.add_argument("--actors", type=int, default=2)
    parser.add_argument("--beside", type=int, default=5_000, help="rows for Ray Data's HTTP stage; 0: none")
    parser.add_argument("--format", default="jsonl", choices=["jsonl", "parquet"])
    parser.add_argument(
        "--offline", action="store_true", help="the offline model instead of the scripted server"
    )
    parser.add_argument("--nobody", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--ray-data", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ray_data:
        with_ray_data(options.jsonl, options.rows, options)
    else:
        with tempfile.TemporaryDirectory() as folder:
            path = options.jsonl or str(Path(folder) / "rows.jsonl")
            if options.jsonl is None:
                synthetic(Path(path), options.rows, options.chars)
            with_rlm_ray(path, options.rows, options)
            if options.beside and not options.nobody:
                beside(path, options)
    sys.stdout.flush()
    os._exit(0)  # Ray's goodbye is not measured


def beside(path: str, options: argparse.Namespace) -> None:
    """A process and a Ray of its own, once ours is gone."""
    import ray

    ray.shutdown()
    rows = min(options.beside, options.rows)
    print(f"\nRay Data's HTTP stage, {options.actors} workers, the first {rows:,} rows:", flush=True)
    command = [sys.executable, __file__, "--ray-data", "--jsonl", path, "--rows", str(rows)]
    command += ["--latency-s", str(options.latency_s), "--actors", str(options.actors)]
    theirs = options.json and options.json.with_suffix(".beside.json")
    if theirs:
        command += ["--json", str(theirs)]
    try:
        code = subprocess.run(command, check=False, timeout=BESIDE_TIMEOUT_S).returncode
        failed = f"ended with {code}" if code else ""
    except subprocess.TimeoutExpired:
        failed = f"not done in {BESIDE_TIMEOUT_S:.0f} s"
    if failed:
        print(f"Ray Data's HTTP stage {failed}")
    if theirs:
        more = [Figure("time", ROWS, "ray_data", None, "s", failed=failed)] if failed else _read(theirs)
        write_figures(options.json, _read(options.json) + more)
        theirs.unlink(missing_ok=True)


def _read(path: Path) -> list[Figure]:
    return read_figures(json.loads(path.read_text()))


def settings_of(options: argparse.Namespace, url: str, runs: str) -> Settings:
    params: dict[str, Any] = {} if options.offline else {"api_base": url, "api_key": "none"}
    return Settings(
        direct_call_below_chars=0,
        model="offline/extractive" if options.offline else "openai/m",
        max_depth=options.depth,
        params=params,
        run_dir=runs,
        cluster=Cluster(address="local", min_actors=options.actors, max_actors=options.actors),
    )


if __name__ == "__main__":
    main()
