"""Run cells that are not on record yet, the smallest tasks first, and write the table and the plot."""

from __future__ import annotations

import collections
import os
import re
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from quality.cells import Cell, CellStore
from quality.endpoint import Endpoint, ModelAddress
from quality.methods import Method, ask
from quality.plot import render_plot
from quality.report import render_report
from quality.scoring import score
from quality.task import Task


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How cells are run."""

    time_s: float = 300.0
    """The most one cell may take, model and all, without starting its process."""
    jobs: int = 1
    """Cells at once."""
    retry_failed: bool = False
    retry_timeouts: bool = False
    is_cached: bool = True
    """Take answers of the model to equal requests from earlier runs."""


class QualityRun:
    """Tasks times methods, in one folder: `cells.jsonl`, `report.md`, `plot.svg`, `transcripts/`, `work/`, `cache/`."""

    def __init__(
        self,
        out: Path,
        address: ModelAddress,
        tasks: Sequence[Task],
        methods: Sequence[Method],
        options: RunOptions,
    ) -> None:
        self._out, self._address = out, address
        self._tasks, self._methods, self._options = tasks, methods, options
        self._store, self._lock = CellStore(out / "cells.jsonl"), threading.Lock()

    def run(self) -> None:
        """Run what is missing; each cell is stored at once, so that an interrupted run goes on where it was."""
        missing = [
            (task, method)
            for task in self._tasks
            for method in self._methods
            if self._is_missing(task, method)
        ]
        total = len(self._tasks) * len(self._methods)
        print(
            f"{total} cells, {total - len(missing)} on record, {len(missing)} to run, into {self._out}",
            flush=True,
        )
        if missing:
            cache = self._out / "cache" if self._options.is_cached else None
            with (
                Endpoint(self._address, cache, self._out / "transcripts") as endpoint,
                ThreadPoolExecutor(self._options.jobs) as pool,
            ):
                self._wait_for(pool.map(partial(self._record_cell, endpoint), missing))
        self.write_report()

    def write_report(self) -> str:
        """Write the table and the plot of the cells there are, and return the table."""
        names = [method.name for method in self._methods]
        cells = self._store.of(self._address.model, [(task.name, task.digest) for task in self._tasks], names)
        with_cells = {cell.task for cell in cells}
        tasks = [task.name for task in self._tasks if task.name in with_cells]
        report = render_report(cells, tasks, names, self._address.model)
        self._out.mkdir(parents=True, exist_ok=True)
        (self._out / "report.md").write_text(report, "utf-8")
        title = f"{self._address.model}: right answers, 95 % intervals"
        (self._out / "plot.svg").write_text(render_plot(cells, tasks, names, title), "utf-8")
        return report

    def _is_missing(self, task: Task, method: Method) -> bool:
        cell = self._store.get((task.name, task.digest, method.name, self._address.model))
        if cell is None or (cell.status == "failed" and self._options.retry_failed):
            return True
        return cell.status == "timeout" and self._options.retry_timeouts

    def _wait_for(self, cells: Iterator[None]) -> None:
        """Wait for all; an interrupt ends this process and its workers at once, since what is done is on record."""
        try:
            collections.deque(cells, maxlen=0)
        except KeyboardInterrupt:
            print("interrupted; the same command goes on with the cells that are missing", flush=True)
            os._exit(130)

    def _record_cell(self, endpoint: Endpoint, missing: tuple[Task, Method]) -> None:
        cell = self._run_cell(*missing, endpoint)
        with self._lock:
            self._store.add(cell)
            print(describe(cell), flush=True)

    def _run_cell(self, task: Task, method: Method, endpoint: Endpoint) -> Cell:
        stamp = datetime.now(UTC)
        folder = self._out.absolute() / "work" / _slug(f"{task.name}-{method.name}-{stamp:%m%dT%H%M%S%f}")
        folder.mkdir(parents=True)
        endpoint.open_cell(folder.name)
        started = time.monotonic()
        reply = ask(method, task, endpoint, folder, self._options.time_s)
        usage = endpoint.usage(folder.name)
        scored = score(reply.answer, task.truth)
        return Cell(
            task=task.name,
            digest=task.digest,
            method=method.name,
            model=self._address.model,
            status=reply.status,
            answer=reply.answer,
            truth=task.truth.value,
            score=scored.value,
            right=scored.right,
            turns=reply.turns,
            calls=usage.calls,
            refused=usage.refused,
            cached=usage.cached,
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cost_usd=usage.cost_usd,
            seconds=round(reply.seconds or time.monotonic() - started, 2),
            why=reply.why or (f"model: {usage.last_error}" if usage.refused else ""),
            version=_version(reply.version),
            at=datetime.now(UTC).isoformat(timespec="seconds"),
        )


def describe(cell: Cell) -> str:
    """Return one line about a cell."""
    answer = "" if cell.answer is None else repr(cell.answer[:60])
    outcome = "right" if cell.right else f"{cell.score:.2f}" if cell.status == "answered" else cell.status
    return (
        f"{cell.task:20} {cell.method:24.24} {outcome:8} {cell.turns:2} turns {cell.calls:3} calls"
        f" {cell.input_tokens + cell.output_tokens:7,} tokens {cell.seconds:6.1f} s  {answer} {cell.why[:120]}"
    )


def _slug(text: str) -> str:
    """A name for a folder and a part of an address."""
    return re.sub(r"[^\w.-]+", "_", text)[-120:]


def _version(told: str) -> str:
    """The commit where a checkout was told."""
    if not told.startswith("/"):
        return told
    done = subprocess.run(
        ["git", "-C", told, "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or Path(told).name
