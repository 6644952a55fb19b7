"""`RLM.batch`: one question about each row of files, or of a table that a program holds."""

from __future__ import annotations

import asyncio
import glob
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypedDict, get_type_hints

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
from rlm_ray.documents.files import Files
from rlm_ray.errors import InputError, RLMError
from rlm_ray.journal.run_store import RunStore
from rlm_ray.runs.batch_run import open_batch_run
from rlm_ray.runs.options import check_names
from rlm_ray.runs.run import new_run_id
from rlm_ray.runs.run_history import CommandNote, find_run_of
from rlm_ray.structured.schema import AnswerSchema
from rlm_ray.util.filesystem import AtomicFolder, local_path

if TYPE_CHECKING:
    from rlm_ray.batch.progress import BatchProgress
    from rlm_ray.cluster.run_attempt import Observer

_log = logging.getLogger(__name__)

COLUMNS_BESIDE = ("error", "stop_reason", "calls", "cost_usd")
"""Columns that a table gets behind the answer and those of a schema; an output of files has more."""
_SHOWN_CHARS = 60
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
    killed. Files need one; without it the answers about a table are beside the record of its run (`run_id`)."""
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
    run_id: str
    """Go on with this batch, which was killed or stopped: its id, the beginning of one, or `last`. Rows and question are those of before."""


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
        settings, run_id = await asyncio.to_thread(_run_to_write, settings, options)
        with _Output(settings, options.get("out"), run_id) as out:
            return await _run_batch(settings, query, source, options, out, run_id, open_job or _open)
    except InputError as error:
        raise InputError(_as_in_python(error.what), _as_in_python(error.why)) from error


def _run_to_write(settings: Settings, options: BatchOptions) -> tuple[Settings, str]:
    """Return the id of the run that is to go on, or of a new one, and the settings that write its record."""
    named = options.get("run_id")
    if not named:
        return settings, new_run_id()
    if options.get("restart"):
        raise InputError("run_id", "goes on with a batch, and restart=True drops it; give one of them")
    folder, note, settings = find_run_of("batch", named, settings)
    out = note.arguments.get("out")
    if out and not options.get("out"):
        raise InputError("out", f"is missing; the batch {folder.run_id} writes its answers to {out!r}")
    return settings, folder.run_id


async def _run_batch(  # noqa: PLR0913, PLR0917 - a batch, and how it is come by
    settings: Settings,
    query: str | None,
    source: Any,
    options: BatchOptions,
    out: _Output,
    run_id: str,
    open_job: Callable[..., AbstractAsyncContextManager[RowBackend]],
) -> tuple[Any, BatchSummary]:
    table = open_table(source)
    if isinstance(source, str):
        _check_path(source)
    if table is None and not options.get("out"):
        raise InputError("out", "is missing; name a folder, or FILE.jsonl or FILE.parquet")
    schema = AnswerSchema.of(options["schema"]) if options.get("schema") is not None else None
    spec = _spec(query, schema, options)
    columns = schema.arrow() if schema is not None else None
    answer_columns = _answer_columns(columns, options.get("prefix", ""))
    corpus = await asyncio.to_thread(_open_corpus, source, table, options)
    if table is not None:
        _check_names(corpus, answer_columns)
    output = await asyncio.to_thread(BatchOutput, out.address, format_of(out.address, None, columns))
    if options.get("run_id"):
        await asyncio.to_thread(_check_run, output, run_id)
    noted = _arguments(query, source if table is None else None, schema, options)
    note = CommandNote(settings, "batch", noted, from_memory=table is not None)
    with _progress(shown=options.get("progress", False)) as progress:
        observers: list[Observer] = [note] if progress is None else [note, progress]
        job = BatchJob(settings, corpus, spec, output, partial(open_job, observers=observers))
        summary = await job.run(
            run_id,
            restart=options.get("restart", False),
            retry_failed=options.get("retry_failed", False),
            watch=partial(_show_stats, progress),
        )
    if summary.stop_reason != DONE and spec.on_limit == "pause":
        out.say_how_to_go_on(summary.why)
    if table is None:
        return None, summary
    answers = await asyncio.to_thread(_answers, table, output, summary, spec.limit, answer_columns)
    return await asyncio.to_thread(table.with_answers, answers), summary


def _check_path(source: str) -> None:
    """Raise `InputError` for a text in the place of a path: a str is always the name of files here."""
    path = local_path(source)
    with suppress(OSError, ValueError):  # too long for a name, or none
        if path is None or glob.has_magic(source) or path.exists():
            return
    shown = source if len(source) <= _SHOWN_CHARS else f"{source[: _SHOWN_CHARS - 1]}…"
    raise InputError(
        "source", f"there is no file {shown!r}; check the path, or give texts as a list: [text, ...]"
    )


class _Output:
    """Gives a batch its output: the one that is named, else a folder beside the record of its run.

    Where no record is kept it lasts only if the batch ended before its last row.
    """

    def __init__(self, settings: Settings, named: str | Path | None, run_id: str) -> None:
        self.address = str(named or "")
        self._run_id = self._passing = ""
        self._is_kept = False
        if not named and settings.run_dir and settings.record_content:
            self._run_id = run_id
            self.address = f"{RunStore(settings.run_dir, run_id).address}/answers"

    def __enter__(self) -> Self:
        if not self.address:
            self._passing = tempfile.mkdtemp(prefix="rlm_ray-batch-")
            self.address = f"{self._passing}/answers"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and (self._run_id or self._passing) and self._holds_answers():
            self.say_how_to_go_on("what was answered is kept")
        if self._passing and not self._is_kept:
            shutil.rmtree(self._passing, ignore_errors=True)

    def say_how_to_go_on(self, why: str) -> None:
        """Keep the answers, and say by what keyword the same call goes on; nothing where it is the same."""
        self._is_kept = True
        if keyword := (self._run_id and f"run_id={self._run_id!r}") or (
            self._passing and f"out={self.address!r}"
        ):
            _log.warning("%s; the same call with %s goes on from there", why, keyword)

    def _holds_answers(self) -> bool:
        with suppress(RLMError):  # the storage may be what ended the batch
            return any(name.startswith("part-") for name in AtomicFolder(self.address).names())
        return False


def _check_run(output: BatchOutput, run_id: str) -> None:
    """Raise `InputError` where the output is another run's."""
    found = output.read_manifest()
    if found is not None and found["run_id"] != run_id:
        raise InputError(
            output.out, f"belongs to the run {found['run_id']}, not to {run_id}; give the out of that"
        )


def _arguments(
    query: str | None, source: Any, schema: AnswerSchema | None, options: BatchOptions
) -> dict[str, Any]:
    """Return what is noted of a batch: what `rlm-ray batch` would be given for it. `source` is None for a table."""
    files = source if isinstance(source, Files) else None
    if files is not None:
        source = files.paths
    named = (source,) if isinstance(source, str | Path) else source or ()
    return {
        "question": query,
        "source": [str(path) for path in named],
        "out": str(options["out"]) if options.get("out") else None,
        "text": options.get("text"),
        "ident": options.get("id"),
        "question_column": options.get("query_column"),
        "schema": None if schema is None else schema.table,
        "limit": options.get("limit"),
        "max_row_bytes": options.get("max_row_bytes", MAX_ROW_BYTES),
        "on_limit": options.get("on_limit", "pause"),
        **({name: getattr(files, name) for name in ("include", "exclude", "encoding")} if files else {}),
    }


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
