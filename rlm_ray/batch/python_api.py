"""`RLM.batch`: one question about each row of files, or of a table that a program holds."""

from __future__ import annotations

import asyncio
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypedDict, get_type_hints

import pyarrow as pa  # type: ignore[import-untyped]  # ships no types

from rlm_ray.batch.formats import Parquet, format_of
from rlm_ray.batch.job import DONE, BatchJob, BatchSummary
from rlm_ray.batch.raw_rows import MAX_ROW_BYTES
from rlm_ray.batch.results import output_column_name
from rlm_ray.batch.row_processor import RowBackend
from rlm_ray.batch.runner import BatchRunner, BatchSpec
from rlm_ray.batch.source import RowSource, open_corpus
from rlm_ray.batch.tables import Table, open_table
from rlm_ray.batch.template import QueryColumn, Template
from rlm_ray.batch.writer import BatchOutput
from rlm_ray.config import Settings
from rlm_ray.errors import InputError
from rlm_ray.runs.batch_run import open_batch_run
from rlm_ray.runs.options import check_names
from rlm_ray.runs.run import new_run_id
from rlm_ray.structured.schema import AnswerSchema

if TYPE_CHECKING:
    from rlm_ray.batch.progress import BatchProgress
    from rlm_ray.cluster.run_attempt import Observer

_log = logging.getLogger(__name__)

COLUMNS_BESIDE = ("error", "stop_reason", "calls", "cost_usd")
"""Columns that a table gets behind the answer and those of a schema; an output of files has more."""
_IN_PYTHON = {
    "--out": "out=",
    "--restart": "restart=True",
    "--retry-failed": "retry_failed=True",
    "--text": "text=",
    "--max-row-bytes": "max_row_bytes=",
}


class BatchOptions(TypedDict, total=False):
    """Holds the keywords of `RLM.batch`."""

    out: str | Path | None
    """A folder for parts, or FILE.jsonl or FILE.parquet. The same call over the same `out` goes on where it was stopped or
    killed; without it a table is asked about from its first row. Files need one."""
    query_column: str | None
    """Each row brings its own question in this column; the query is None then."""
    text: str | None
    """The column with the text; default: `text`, or the only one with texts."""
    id: str | None
    """The column with the id; default: `id`, or the number of the row."""
    schema: Any
    """What every answer looks like, with named fields; each is a column."""
    limit: int | None
    """Only so many rows, from the first."""
    on_limit: Literal["pause", "stop"]
    """At a limit of the run: leave the other rows for later, or write them down as failed."""
    retry_failed: bool
    """Ask rows again that failed before."""
    restart: bool
    """Drop what an earlier batch left in `out`."""
    max_row_bytes: int
    """A row above this fails, unread."""
    prefix: str
    """Before the names of the columns that a table gets."""
    progress: bool
    """Show rows, speed and cost while it goes on."""


async def run_batch(
    settings: Settings,
    query: str | None,
    source: Any,
    options: BatchOptions,
    open_job: Callable[..., AbstractAsyncContextManager[RowBackend]] | None = None,
) -> tuple[Any, BatchSummary]:
    """Ask about each row. Returns the table with the answers, None for files, and the summary. Raises what ended the batch."""
    check_names(options, get_type_hints(BatchOptions), "batch")
    try:
        with _Output(options.get("out")) as out:
            return await _run_batch(settings, query, source, options, out, open_job or _open)
    except InputError as error:
        raise InputError(_as_in_python(error.what), _as_in_python(error.why)) from error


async def _run_batch(  # noqa: PLR0913, PLR0917 - a batch, and how it is come by
    settings: Settings,
    query: str | None,
    source: Any,
    options: BatchOptions,
    out: str,
    open_job: Callable[..., AbstractAsyncContextManager[RowBackend]],
) -> tuple[Any, BatchSummary]:
    table = open_table(source)
    if table is None and not options.get("out"):
        raise InputError("out", "is missing; name a folder, or FILE.jsonl or FILE.parquet")
    schema = AnswerSchema.of(options["schema"]) if options.get("schema") is not None else None
    spec = _spec(query, schema, options)
    columns = schema.arrow() if schema is not None else None
    answer_columns = _answer_columns(columns, options.get("prefix", ""))
    corpus = await asyncio.to_thread(_open_corpus, source, table, options)
    if table is not None:
        _check_names(corpus, answer_columns)
    output = await asyncio.to_thread(BatchOutput, out, format_of(out, None, columns))
    with _progress(shown=options.get("progress", False)) as progress:
        observers = [] if progress is None else [progress]
        job = BatchJob(settings, corpus, spec, output, partial(open_job, observers=observers))
        summary = await job.run(
            new_run_id(),
            restart=options.get("restart", False),
            retry_failed=options.get("retry_failed", False),
            watch=partial(_show_stats, progress),
        )
    if table is None:
        return None, summary
    answers = await asyncio.to_thread(_answers, table, output, summary, spec.limit, answer_columns)
    return await asyncio.to_thread(table.with_answers, answers), summary


class _Output:
    """Gives a batch its output: the one that is named, else a folder that lasts only where the batch did not reach its end."""

    def __init__(self, named: str | Path | None) -> None:
        self._named = str(named or "")
        self._folder = ""

    def __enter__(self) -> str:
        if not self._named:
            self._folder = tempfile.mkdtemp(prefix="rlm_ray-batch-")
        return self._named or f"{self._folder}/answers"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._folder:
            return
        answers = Path(self._folder) / "answers"
        if error is not None and any(answers.glob("part-*")):
            _log.warning(
                "what was answered is kept; the same call with out=%r goes on from there", str(answers)
            )
        else:
            shutil.rmtree(self._folder, ignore_errors=True)


def _open_corpus(source: Any, table: Table | None, options: BatchOptions) -> RowSource:
    text, ident = options.get("text"), options.get("id")
    max_row_bytes = options.get("max_row_bytes", MAX_ROW_BYTES)
    if table is None:
        return open_corpus(source, text=text, id=ident, max_row_bytes=max_row_bytes)
    return RowSource(table, text, ident, max_row_bytes)


def _spec(query: str | None, schema: AnswerSchema | None, options: BatchOptions) -> BatchSpec:
    column, limit = options.get("query_column"), options.get("limit")
    if column is not None and query is not None:
        raise InputError("query", "is given, and query_column, too; give one of them, and None as the query")
    if column is None and not isinstance(query, str):
        raise InputError("query", f"must be a str; got {type(query).__name__}")
    on_limit = options.get("on_limit", "pause")
    if on_limit not in ("pause", "stop"):
        raise InputError("on_limit", f"must be pause or stop; got {on_limit!r}")
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 0):
        raise InputError("limit", f"must be a whole number of rows; got {limit!r}")
    question = QueryColumn(column) if column is not None else Template.parse(query or "")
    return BatchSpec(question, schema, limit, on_limit)


def _answer_columns(columns: Any, prefix: str) -> dict[str, Any]:
    """Return the columns a table gets, by their names in the output of a batch."""
    own = Parquet().schema
    further = [(output_column_name(field.name), field.type) for field in columns or ()]
    chosen = [("answer", own.field("answer").type), *further]
    chosen += [(name, own.field(name).type) for name in COLUMNS_BESIDE]
    return {name: pa.field(f"{prefix}{name}", kind) for name, kind in chosen}


def _check_names(corpus: RowSource, columns: Mapping[str, Any]) -> None:
    taken = [field.name for field in columns.values() if field.name in corpus.columns]
    if taken:
        why = f"has a column {taken[0]!r} already, as the answers would; give prefix='second_', or rename it"
        raise InputError("source", why)


def _answers(
    table: Table, output: BatchOutput, summary: BatchSummary, limit: int | None, columns: Mapping[str, Any]
) -> Any:
    """Return an Arrow table of the answers, a row for each of the table; one that was not asked says why."""
    rows = table.row_count()
    empty: dict[str, Any] = dict.fromkeys(columns)
    undone = empty
    if summary.stop_reason != DONE:
        undone = {**empty, "error": f"not asked: {summary.why}", "stop_reason": summary.stop_reason}
    asked = rows if limit is None else min(limit, rows)
    found = [undone] * asked + [empty] * (rows - asked)
    for cells in output.rows():
        if cells["row"] < rows:
            found[cells["row"]] = {name: cells.get(name) for name in columns}
    arrays = [pa.array([cells[name] for cells in found], field.type) for name, field in columns.items()]
    return pa.Table.from_arrays(arrays, schema=pa.schema(list(columns.values())))


def _as_in_python(sentence: str) -> str:
    for option, keyword in _IN_PYTHON.items():
        sentence = sentence.replace(option, keyword)
    return sentence


@contextmanager
def _progress(*, shown: bool) -> Iterator[BatchProgress | None]:
    """Show rows, speed and cost, where that is wanted."""
    if not shown:
        yield None
        return
    from rlm_ray.batch.progress import BatchProgress

    with BatchProgress() as progress:
        yield progress


@contextmanager
def _show_stats(progress: BatchProgress | None, batch: BatchRunner) -> Iterator[None]:
    if progress is not None:
        progress.stats = batch.stats
    yield


def _open(
    settings: Settings, run_id: str, query: str, *, observers: Sequence[Observer] = ()
) -> AbstractAsyncContextManager[RowBackend]:
    return open_batch_run(settings, query, run_id=run_id, observers=observers)
