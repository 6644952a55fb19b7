"""`rlm-ray batch`: the same question to each row of a corpus."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from rlm_ray.cli import before_run, console, options
from rlm_ray.cli.ask import Encoding, Exclude, Include
from rlm_ray.cli.run_display import resume_hint
from rlm_ray.config import Settings
from rlm_ray.core.llm import Usage
from rlm_ray.documents.files import Files
from rlm_ray.errors import InputError, RLMError
from rlm_ray.llm.model_check import check_models
from rlm_ray.progress import RunLog
from rlm_ray.progress.render import format_count as short
from rlm_ray.progress.render import format_usd
from rlm_ray.runs.batch_run import open_batch_run
from rlm_ray.runs.run import new_run_id
from rlm_ray.runs.run_history import CommandNote

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from rlm_ray.batch.job import BatchEstimate, BatchJob, BatchSummary
    from rlm_ray.batch.progress import BatchProgress
    from rlm_ray.batch.row_processor import RowBackend
    from rlm_ray.batch.runner import BatchRunner, BatchSpec
    from rlm_ray.batch.source import RowSource
    from rlm_ray.cluster.run_attempt import Observer

DONE = "done"

Question = Annotated[
    str | None,
    typer.Argument(
        metavar="[QUESTION]",
        help="What you want to know of each row; {title} is replaced by that column of the row, {{ is a brace.",
        show_default=False,
    ),
]
Source = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="SOURCE...",
        help="JSONL, CSV (also .gz, .zst), Parquet, workbooks (.xlsx), texts and documents, folders, globs; paths or any fsspec URL.",
        show_default=False,
    ),
]
Out = Annotated[
    str | None,
    typer.Option(
        help="A folder for parts, or FILE.jsonl or FILE.parquet for one file in the order of the input."
    ),
]
Format = Annotated[
    str | None,
    typer.Option("--format", help="jsonl or parquet; default: by the suffix of --out, else jsonl."),
]
Text = Annotated[str | None, typer.Option(help="The column with the text; default: `text`, or the only one.")]
Ident = Annotated[
    str | None, typer.Option("--id", help="The column with the id; default: `id`, or derived from the place.")
]
QuestionColumn = Annotated[
    str | None,
    typer.Option(
        "--question-column",
        "--query-column",
        help="Each row brings its question in this column; QUESTION is left out.",
    ),
]
SchemaFile = Annotated[Path | None, typer.Option("--schema", help="A JSON Schema the answers have to match.")]
Limit = Annotated[int | None, typer.Option(min=0, help="Only the first so many rows.")]
MaxRowBytes = Annotated[int, typer.Option(min=1, help="A row above this fails, unread.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say how many rows and tokens it would be, and what cost.")
]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Ask rows again that failed before.")]
Restart = Annotated[bool, typer.Option("--restart", help="Drop what an earlier job left in --out.")]
OnLimit = Annotated[
    Literal["pause", "stop"],
    typer.Option(help="At a limit: pause (rows left undone), or stop (the rest is written as failed)."),
]


@options.settings_options()
def batch(  # noqa: PLR0913, PLR0917 - each is an option of the command
    question: Question = None,
    source: Source = None,
    out: Out = None,
    form: Format = None,
    text: Text = None,
    ident: Ident = None,
    question_column: QuestionColumn = None,
    schema: SchemaFile = None,
    limit: Limit = None,
    max_row_bytes: MaxRowBytes = 32_000_000,
    dry_run: DryRun = False,
    retry_failed: RetryFailed = False,
    restart: Restart = False,
    on_limit: OnLimit = "pause",
    include: Include = None,
    exclude: Exclude = None,
    encoding: Encoding = "",
    *,
    given: options.Overrides,
    as_json: options.Json = False,
) -> None:
    """Ask the same question about each row of files of any size.

    A bad row is an error in its line of the output and never stops the others.
    """
    asked = BatchCommand(
        question,
        tuple(source or ()),
        out,
        form,
        text,
        ident,
        question_column,
        None if schema is None else str(schema.absolute()),
        limit,
        max_row_bytes,
        on_limit,
        tuple(include or ()),
        tuple(exclude or ()),
        encoding,
    )
    with console.handle_errors():
        settings = options.settings_of(given)
        if question and not question_column:
            before_run.question_of(question)
            before_run.check_quoted(question, source or ())
        if dry_run:
            _say(_forecast(*asked.open(), settings), as_json=as_json)
            raise typer.Exit(console.OK)
        summary = carry_out(settings, asked, restart=restart, retry_failed=retry_failed)
        _report(summary, settings, as_json=as_json)
    raise typer.Exit(code_of(summary))


@dataclass(frozen=True, slots=True)
class BatchCommand:
    """What a batch is asked, in plain values: as they are noted for `rlm-ray resume`."""

    question: str | None
    source: tuple[str, ...]
    out: str | None
    form: str | None = None
    text: str | None = None
    ident: str | None = None
    question_column: str | None = None
    schema: str | dict[str, Any] | None = None
    """The path of a JSON Schema, or the schema itself, as a Python program noted it."""
    limit: int | None = None
    max_row_bytes: int = 32_000_000
    on_limit: Literal["pause", "stop"] = "pause"
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    encoding: str = ""

    def open(self) -> tuple[RowSource, BatchSpec]:
        """Open the sources. With a question column there is no question, and what stands in its place is the first source."""
        spec = _spec(self.question, self.question_column, self.schema, self.limit, self.on_limit)
        named = [self.question] if self.question_column and self.question else []
        how = {"include": self.include, "exclude": self.exclude, "encoding": self.encoding}
        files = _files([*named, *self.source], how)
        corpus = _corpus(files, spec.question.columns, self.text, self.ident, self.max_row_bytes)
        if line := corpus.passed_over_line:
            console.print_status(line)
        corpus.check(spec.question)
        return corpus, spec


def carry_out(
    settings: Settings,
    asked: BatchCommand,
    *,
    restart: bool = False,
    retry_failed: bool = False,
    run_id: str = "",
) -> BatchSummary:
    """Ask all rows that are not answered; with a `run_id` as that run. Raises `RLMError`."""
    corpus, spec = asked.open()
    shown = _progress()
    job = _job(
        settings, corpus, spec, asked.out, asked.form, [shown, CommandNote(settings, "batch", asdict(asked))]
    )
    if run_id:
        _check_output(job, run_id)
    check_models(settings, os.environ)
    before_run.check_run_dir(settings)
    return asyncio.run(_run(job, shown, run_id or new_run_id(), restart=restart, retry_failed=retry_failed))


def resume_batch(settings: Settings, asked: BatchCommand, run_id: str, *, as_json: bool) -> int:
    """Go on with the batch of this run, print how it ended, and return the exit code."""
    summary = carry_out(settings, asked, run_id=run_id)
    _report(summary, settings, as_json=as_json)
    return code_of(summary)


def _check_output(job: BatchJob, run_id: str) -> None:
    """Raise `InputError` where the output has become another run's since."""
    found = job.output.read_manifest()
    if found is not None and found["run_id"] != run_id:
        why = f"belongs to the run {found['run_id']} now, not to {run_id}; resume that, or give the command again"
        raise InputError(job.output.out, why)


def _spec(
    query: str | None,
    query_column: str | None,
    schema: str | dict[str, Any] | None,
    limit: int | None,
    on_limit: Literal["pause", "stop"],
) -> BatchSpec:
    from rlm_ray.batch.runner import BatchSpec
    from rlm_ray.batch.template import QueryColumn, Template
    from rlm_ray.structured.schema import AnswerSchema

    if query_column is None and query is None:
        raise InputError("question", "is missing; give it first, before the files, or --question-column")
    question = QueryColumn(query_column) if query_column is not None else Template.parse(query or "")
    wanted = AnswerSchema.of(Path(schema) if isinstance(schema, str) else schema) if schema else None
    return BatchSpec(question, wanted, limit, on_limit)


def _files(named: list[str], how: dict[str, Any]) -> Files:
    if not named:
        raise InputError("source", "is missing; name files, folders or globs after the question")
    return Files(*named, **how)


def _corpus(
    files: Files, further: Collection[str], text: str | None, ident: str | None, max_row_bytes: int
) -> RowSource:
    from rlm_ray.batch.source import open_files

    return open_files(files, text=text, ident=ident, max_row_bytes=max_row_bytes, further=further)


def _progress() -> BatchProgress:
    from rlm_ray.batch.progress import BatchProgress

    return BatchProgress(console.stderr)


def _job(  # noqa: PLR0913, PLR0917 - what it is made of
    settings: Settings,
    corpus: RowSource,
    spec: BatchSpec,
    out: str | None,
    form: str | None,
    observers: Sequence[Observer],
) -> BatchJob:
    from rlm_ray.batch.formats import format_of
    from rlm_ray.batch.job import BatchJob
    from rlm_ray.batch.writer import BatchOutput

    if out is None:
        raise InputError("--out", "is missing; name a folder, or FILE.jsonl or FILE.parquet")
    columns = spec.schema.arrow() if spec.schema is not None else None

    def open_job(settings: Settings, run_id: str, query: str) -> AbstractAsyncContextManager[RowBackend]:
        return open_batch_run(settings, query, run_id=run_id, observers=[*observers, RunLog()])

    return BatchJob(settings, corpus, spec, BatchOutput(out, format_of(out, form, columns)), open_job)


async def _run(
    job: BatchJob, shown: BatchProgress, run_id: str, *, restart: bool, retry_failed: bool
) -> BatchSummary:
    this = asyncio.current_task()
    assert this is not None
    stopping = console.StopOnSignal(this.cancel, "saving what is done")
    has_begun = False

    @contextmanager
    def watch(batch: BatchRunner) -> Iterator[None]:
        nonlocal has_begun
        has_begun, stopping.stop = True, batch.stop
        shown.stats = batch.stats
        yield

    try:
        with shown:
            return await job.run(run_id, restart=restart, retry_failed=retry_failed, watch=watch)
    except asyncio.CancelledError:
        if not stopping.called:
            raise
        raise typer.Exit(console.INTERRUPTED) from None
    except RLMError:
        if has_begun:
            console.print_status("what was done is saved; the same command goes on from there")
        raise


def _forecast(corpus: RowSource, spec: BatchSpec, settings: Settings) -> BatchEstimate:
    from rlm_ray.batch.job import estimate_batch

    def cost(usage: Usage) -> float | None:
        model, _ = settings.model_at(0)
        if model in settings.prices:
            return settings.prices[model].cost(usage)
        from rlm_ray.llm.model_provider import ModelProvider

        return ModelProvider().cost_usd(model, usage)

    return estimate_batch(corpus, spec.question, spec.limit, cost)


def _say(found: BatchEstimate, *, as_json: bool) -> None:
    if as_json:
        console.write(json.dumps(found.as_dict()))
        return
    bad = f" ({found.bad_rows:,} cannot be asked)" if found.bad_rows else ""
    cost = "unknown" if found.cost_usd is None else format_usd(found.cost_usd)
    console.write(f"{found.rows:,} rows{bad}, {found.chars:,} characters")
    console.write(
        f"read once each: about {short(found.input_tokens)} tokens in, {short(found.output_tokens)} out; "
        f"cost: {cost}"
    )


def _report(summary: BatchSummary, settings: Settings, *, as_json: bool) -> None:
    if as_json:
        console.write(json.dumps(summary.as_dict()))
    else:
        console.write(summary.out)
    cost = "" if not summary.cost_usd else f", {format_usd(summary.cost_usd)}"
    console.print_status(
        f"{summary.rows:,} rows: {summary.answered:,} answered, {summary.failed:,} failed "
        f"({summary.earlier:,} of them before); {summary.calls:,} calls{cost} in {summary.seconds:.1f} s"
    )
    for line in _advice(summary, settings):
        console.print_error(line)


def _advice(summary: BatchSummary, settings: Settings) -> Iterator[str]:
    again = resume_hint(settings.run_dir, summary.run_id, summary.stop_reason) if settings.run_dir else ""
    again = f", or {again}" if again else ""
    if summary.stop_reason == "interrupted":
        yield f"interrupted; the same command goes on from here{again}"
    elif summary.stop_reason != DONE:
        yield (
            f"{summary.why} (stop reason: {summary.stop_reason}); go on with the same command and a higher limit, "
            f"such as --set limits.{summary.stop_reason}=...{again}"
        )
    if summary.failed:
        yield "failed rows say why in their `error`; ask them again with --retry-failed"


def code_of(summary: BatchSummary) -> int:
    """Return the exit code that tells how a batch ended."""
    if summary.stop_reason == "interrupted":
        return console.INTERRUPTED
    if summary.stop_reason != DONE:
        return console.LIMIT
    return console.SOME_FAILED if summary.failed else console.OK
