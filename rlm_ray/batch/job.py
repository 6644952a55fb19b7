"""A batch and its output together: `BatchJob` starts it, resumes it or starts it anew, and sums it up at its end.

`job_fingerprint` is what a job was asked, as its output notes it: another question, model or corpus is another job.
`estimate_batch` tells what a batch would take, before anything is spent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from typing import Any

from rlm_ray.batch.results import BatchStats
from rlm_ray.batch.row_processor import RowBackend, make_task
from rlm_ray.batch.runner import BatchRunner, BatchSpec
from rlm_ray.batch.source import RowSource
from rlm_ray.batch.template import QueryColumn, QueryTemplate
from rlm_ray.batch.writer import BatchOutput
from rlm_ray.config import ANSWER_SETTINGS, Settings, settings_to_dict
from rlm_ray.config.deprecated_names import current_table
from rlm_ray.core.llm import BYTES_PER_TOKEN, Usage
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
        """Return plain values, for JSON."""
        return asdict(self)


@dataclass
class BatchJob:
    """A batch over an output that may hold a part of it already."""

    settings: Settings
    corpus: RowSource
    spec: BatchSpec
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
        """Carry the batch out. Raises what ended it, an error of ours; all rows that are done are saved in any case."""
        self.corpus.check(self.spec.question)
        self.corpus.check_output(self.output.out)
        began = time.monotonic()
        settings = replace(self.settings, cluster=self.corpus.reserve_cpus(self.settings.cluster))
        _, run_id = self._check(new_run_id, restart=restart)
        async with self.open_job(settings, run_id, self.spec.question.source) as backend:
            # only now: an open job holds its journal, so nobody else works on this output
            self._begin(run_id, restart=restart)
            if retry_failed:
                self.output.drop_failed_rows()
            done, failed = self.output.load_completed()
            stats = BatchStats(previously_completed=done.count, failed_earlier=failed, limit=self.spec.limit)
            batch = BatchRunner(self.corpus, self.spec, backend, self.output, done, stats)
            with watch(batch):
                await batch.run()
            stop_reason, why = _end_of(batch)
            backend.end_as("answered" if stop_reason == DONE else stop_reason, why)
            total = (await backend.usage()).total
        out = self.output.folder.address if batch.stop_cause else self.output.finish()
        return BatchSummary(
            stop_reason,
            why,
            stats.previously_completed + stats.done,
            stats.previously_completed - stats.failed_earlier + stats.answered,
            stats.failed_earlier + stats.failed,
            stats.previously_completed,
            time.monotonic() - began,
            total.calls,
            total.input_tokens,
            total.output_tokens,
            None if total.unpriced else total.cost_usd,
            run_id,
            out,
        )

    def _check(self, new_run_id: str, *, restart: bool) -> tuple[str, str]:
        """Return the ids of the job that this output belongs to, empty for none, and of the one to be opened. Changes
        nothing.
        """
        job = self._earlier_job(restart=restart)
        if restart:
            return str((job or {}).get("run_id", "")), new_run_id
        if job is not None:
            check_compatible(job["asked"], self._fingerprint(), self.output.out)
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
        before, own_run_id = self._check(run_id, restart=restart)
        if own_run_id != run_id:
            raise InputError(self.output.out, "another job has just begun here; give another --out")
        if before == run_id and not restart:
            return
        is_another = before not in ("", run_id) and bool(self.settings.run_dir)
        folder = RunStore(self.settings.run_dir, before) if is_another else None
        writer = folder.writer("rlm-ray batch --restart") if folder is not None and folder.exists() else None
        try:
            if restart:
                self.output.clear()
            self.output.write_manifest({"run_id": run_id, "asked": self._fingerprint()})
        finally:
            if writer is not None:
                writer.close()

    def _fingerprint(self) -> dict[str, Any]:
        schema = self.spec.schema.table if self.spec.schema is not None else None
        return job_fingerprint(self.spec.question, self.corpus, self.settings, schema)


def _end_of(batch: BatchRunner) -> tuple[str, str]:
    if batch.stop_cause is not None:
        return batch.stop_cause.reason, batch.stop_cause.why
    if batch.limit is not None:
        return batch.limit.reason, batch.limit.why
    return DONE, ""


TRANSPORT_PARAMS = ("api_key", "api_base", "timeout")
"""Where a model is reached does not say what it answers."""


def job_fingerprint(
    question: QueryTemplate, corpus: RowSource, settings: Settings, schema: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return all that shapes the answers; the rows themselves are compared one by one."""
    table = settings_to_dict(settings)
    params = {name: value for name, value in table["params"].items() if name not in TRANSPORT_PARAMS}
    return {
        "query_column" if isinstance(question, QueryColumn) else "query": question.source,
        "source": corpus.name,
        "text column": corpus.text_column,
        "id column": corpus.ident_column,
        "schema": schema,
        **{name: table[name] for name in ANSWER_SETTINGS if name != "params"},
        **{f"params.{name}": value for name, value in params.items()},
    }


def check_compatible(before: Mapping[str, Any], now: Mapping[str, Any], where: str) -> None:
    """Raise `InputError` that names what is different now."""
    before = current_table(before)
    # A setting that was not there yet says what an empty one says.
    names = [name for name in {**before, **now} if (before.get(name) or None) != (now.get(name) or None)]
    if names:
        shown = "; ".join(
            f"{name} was {_short(before.get(name))}, now {_short(now.get(name))}" for name in names[:3]
        )
        why = f"belongs to another job ({shown}); ask as before, give another --out, or start anew with --restart"
        raise InputError(where, why)


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else shown[:79] + "…"


ANSWER_TOKENS = 300
"""What an answer is taken to have."""

Cost = Callable[[Usage], float | None]


@dataclass(frozen=True, slots=True)
class BatchEstimate:
    """The rows of a batch and what reading each of them once would use.

    A session reads less than all of a long text, or several times the same: this is the order of magnitude.
    """

    rows: int
    bad_rows: int
    """Rows that cannot be read, or have not what the question needs."""
    chars: int
    input_tokens: int
    output_tokens: int
    cost_usd: float | None
    """None where the price is not known."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def estimate_batch(
    corpus: RowSource, question: QueryTemplate, limit: int | None, cost: Cost
) -> BatchEstimate:
    """Read all rows and ask nobody."""
    rows = bad = chars = nbytes = 0
    for row in corpus:
        if limit is not None and row.number >= limit:
            break
        rows += 1
        row_task = make_task(row, question)
        if row_task.error:
            bad += 1
            continue
        chars += len(row.text)
        nbytes += len(row.text.encode("utf-8", "replace")) + len(row_task.query.encode("utf-8", "replace"))
    usage = Usage(nbytes // BYTES_PER_TOKEN, (rows - bad) * ANSWER_TOKENS)
    return BatchEstimate(rows, bad, chars, usage.input_tokens, usage.output_tokens, cost(usage))
