"""A batch and its output together: starts it, resumes it or starts it anew, and sums it up at its end."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from typing import Any

from rlm_ray.batch.manifest import check_compatible, job_fingerprint
from rlm_ray.batch.results import BatchStats
from rlm_ray.batch.row_processor import RowBackend
from rlm_ray.batch.runner import BatchRunner, BatchSpec
from rlm_ray.batch.source import RowSource
from rlm_ray.batch.writer import BatchOutput
from rlm_ray.config import Settings
from rlm_ray.errors import InputError
from rlm_ray.journal.run_store import RunStore

JobFactory = Callable[[Settings, str, str], AbstractAsyncContextManager[RowBackend]]
"""Opens a batch run by settings, run id and question: resumed where it is on record, else new."""
OnStart = Callable[[BatchRunner], AbstractContextManager[Any]]

DONE = "done"


@dataclass(frozen=True, slots=True)
class BatchSummary:
    """How a batch ended."""

    stop_reason: str
    """`done`, a limit, or `interrupted`."""
    why: str
    rows: int
    """In the output."""
    answered: int
    failed: int
    earlier: int
    """Rows of them that were there before."""
    seconds: float
    calls: int
    """Model calls of the whole job, earlier attempts included; so are tokens and cost."""
    input_tokens: int
    output_tokens: int
    cost_usd: float | None
    """None where the price of a call is not known."""
    run_id: str
    out: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


@dataclass
class BatchJob:
    """A batch over an output that may hold a part of it already."""

    settings: Settings
    corpus: RowSource
    work: BatchSpec
    output: BatchOutput
    open_job: JobFactory

    async def run(
        self,
        new_run_id: str,
        *,
        restart: bool = False,
        retry_failed: bool = False,
        watch: OnStart = lambda _: nullcontext(),
    ) -> BatchSummary:
        """Raises what ended it, an error of ours; all rows that are done are saved in any case."""
        self.corpus.check(self.work.question)
        began = time.monotonic()
        settings = replace(self.settings, cluster=self.corpus.reserve_cpus(self.settings.cluster))
        _, run_id = self._check(new_run_id, restart=restart)
        async with self.open_job(settings, run_id, self.work.question.source) as asks:
            # only now: an open job holds its journal, so nobody else works on this output
            self._begin(run_id, restart=restart)
            if retry_failed:
                self.output.drop_failed_rows()
            done, failed = self.output.load_completed()
            figures = BatchStats(
                previously_completed=done.count, failed_earlier=failed, limit=self.work.limit
            )
            batch = BatchRunner(self.corpus, self.work, asks, self.output, done, figures)
            with watch(batch):
                await batch.run()
            total = (await asks.usage()).total
        out = self.output.folder.address if batch.stop_cause else self.output.finish()
        stop_reason, why = _end_of(batch)
        return BatchSummary(
            stop_reason,
            why,
            figures.previously_completed + figures.done,
            figures.previously_completed - figures.failed_earlier + figures.answered,
            figures.failed_earlier + figures.failed,
            figures.previously_completed,
            time.monotonic() - began,
            total.calls,
            total.input_tokens,
            total.output_tokens,
            None if total.unpriced else total.cost_usd,
            run_id,
            out,
        )

    def _check(self, new_run_id: str, *, restart: bool) -> tuple[str, str]:
        """The ids of the job that this output belongs to, empty for none, and of the one to be opened. Changes nothing."""
        job = self._earlier_job(restart=restart)
        if restart:
            return str((job or {}).get("run_id", "")), new_run_id
        if job is not None:
            check_compatible(job["asked"], self._asked(), self.output.out)
            return str(job["run_id"]), str(job["run_id"])
        self.output.check_empty()
        return "", new_run_id

    def _earlier_job(self, *, restart: bool) -> dict[str, Any] | None:
        try:
            return self.output.read_manifest()
        except InputError:
            if not restart:
                raise
            return None  # broken notes of a job are what --restart is for

    def _begin(self, run_id: str, *, restart: bool) -> None:
        """Make the output this job's. Raises `JournalError` where the job it is taken from is still under way."""
        before, mine = self._check(run_id, restart=restart)
        if mine != run_id:
            raise InputError(self.output.out, "another job has just begun here; give another --out")
        if before == run_id and not restart:
            return
        is_another = before not in ("", run_id) and bool(self.settings.run_dir)
        folder = RunStore(self.settings.run_dir, before) if is_another else None
        writer = folder.writer("rlm-ray batch --restart") if folder is not None and folder.exists() else None
        try:
            if restart:
                self.output.clear()
            self.output.write_manifest({"run_id": run_id, "asked": self._asked()})
        finally:
            if writer is not None:
                writer.close()

    def _asked(self) -> dict[str, Any]:
        schema = self.work.schema.table if self.work.schema is not None else None
        return job_fingerprint(self.work.question, self.corpus, self.settings, schema)


def _end_of(batch: BatchRunner) -> tuple[str, str]:
    if batch.stop_cause is not None:
        return batch.stop_cause.reason, batch.stop_cause.why
    if batch.limit is not None:
        return batch.limit.reason, batch.limit.why
    return DONE, ""
