"""`rlm-ray map-reduce`: one question over all documents together, by a plan that is shown first."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from rlm_ray.cli import before_run, console, options
from rlm_ray.cli.ask import Encoding, Exclude, Include, context_of
from rlm_ray.cli.run_display import resume_hint
from rlm_ray.config import Settings
from rlm_ray.core.context import Context
from rlm_ray.documents.files import Files
from rlm_ray.errors import InputError, RLMError
from rlm_ray.llm.model_check import check_models
from rlm_ray.progress import Progress, RunLog
from rlm_ray.runs.context_loader import read_context
from rlm_ray.runs.run import new_run_id
from rlm_ray.runs.run_history import CommandNote

if TYPE_CHECKING:
    from rlm_ray.cluster.run_attempt import Observer
    from rlm_ray.mapreduce.execute import MapReduceResult
    from rlm_ray.mapreduce.plan import Plan

Question = Annotated[
    str, typer.Argument(metavar="QUESTION", help="What you want to know of all of it.", show_default=False)
]
Paths = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="PATH|-",
        help="Texts, documents, JSONL, CSV, Parquet, workbooks, folders, globs, any fsspec URL, or - for stdin.",
    ),
]
Reduce = Annotated[
    str,
    typer.Option(
        help="model; or in code collect, count, union, sum, also of fields: count:status,union:authors."
    ),
]
ReduceQuestion = Annotated[
    str,
    typer.Option(
        "--reduce-question", "--reduce-query", help="What the model shall make of the answers; default: one."
    ),
]
SchemaFile = Annotated[
    Path | None, typer.Option("--schema", help="A JSON Schema every answer has to match.", show_default=False)
]
SplitBy = Annotated[
    Literal["documents", "paragraphs", "characters", "tokens"] | None,
    typer.Option(help="Where pieces end; default: documents where there are some, else paragraphs."),
]
Size = Annotated[
    int | None, typer.Option(min=1, help="Of a piece, in characters or tokens; default: max_leaf_chars.")
]
Overlap = Annotated[int, typer.Option(min=0, help="How much of its end a piece shares with the next.")]
Pack = Annotated[bool, typer.Option("--pack/--no-pack", help="Small documents share a piece.")]
Text = Annotated[str | None, typer.Option(help="The column with the text; default: `text`, or the only one.")]
Ident = Annotated[str | None, typer.Option("--id", help="The column with the id; default: `id`.")]
OnError = Annotated[
    Literal["raise", "skip"], typer.Option(help="What a piece without an answer does: end all, or nothing.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", "--plan", help="Show what it would take, and ask nobody.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask at the terminal whether to begin.")]
Resume = Annotated[
    str | None,
    typer.Option(metavar="RUN", hidden=True, help="As `rlm-ray resume RUN`; its name of before."),
]


@options.settings_options(but=("max_depth", "max_iterations"))
def map_reduce(  # noqa: PLR0913, PLR0917 - each is an option of the command
    question: Question,
    paths: Paths = None,
    reduce: Reduce = "model",
    reduce_question: ReduceQuestion = "",
    schema: SchemaFile = None,
    split_by: SplitBy = None,
    size: Size = None,
    overlap: Overlap = 0,
    pack: Pack = True,
    text: Text = None,
    ident: Ident = None,
    on_error: OnError = "raise",
    include: Include = None,
    exclude: Exclude = None,
    encoding: Encoding = "",
    dry_run: DryRun = False,
    yes: Yes = False,
    resume: Resume = None,
    *,
    given: options.Overrides,
    as_json: options.Json = False,
) -> None:
    """Ask every piece of a large input the same, side by side, and put the answers together.

    The plan and its cost are shown on stderr before it begins; the answer is all that goes to stdout.
    """
    asked = MapReduceCommand(
        question,
        tuple(paths or ()),
        reduce,
        reduce_question,
        None if schema is None else str(schema.absolute()),
        split_by,
        size,
        overlap,
        pack,
        text,
        ident,
        on_error,
        tuple(include or ()),
        tuple(exclude or ()),
        encoding,
    )
    with console.handle_errors():
        settings = options.settings_of(given)
        before_run.question_of(question)
        before_run.check_quoted(question, paths or ())
        if dry_run:
            _print_plan(asked.plan(settings)[0], as_json=as_json)
            raise typer.Exit(console.OK)
        code = carry_out(settings, asked, resume or new_run_id(), yes=yes, as_json=as_json)
    raise typer.Exit(code)


@dataclass(frozen=True, slots=True)
class MapReduceCommand:
    """What a map-reduce is asked, in plain values: as they are noted for `rlm-ray resume`."""

    question: str
    paths: tuple[str, ...]
    reduce: str = "model"
    reduce_question: str = ""
    schema: str | None = None
    split_by: str | None = None
    size: int | None = None
    overlap: int = 0
    pack: bool = True
    text: str | None = None
    ident: str | None = None
    on_error: str = "raise"
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    encoding: str = ""

    @property
    def is_piped(self) -> bool:
        return not self.paths or "-" in self.paths

    def plan(self, settings: Settings) -> tuple[Plan, Context]:
        """Read the input and plan; nothing is sent anywhere."""
        how = {"include": self.include, "exclude": self.exclude, "encoding": self.encoding}
        context = _context(list(self.paths), self.text, self.ident, self.on_error, how)
        spec = {
            name: getattr(self, name)
            for name in ("reduce", "split_by", "size", "overlap", "pack", "on_error")
        }
        schema = None if self.schema is None else Path(self.schema)
        spec |= {"reduce_query": self.reduce_question, "schema": schema}
        return _planned(settings, self.question, context, **spec), context


def carry_out(settings: Settings, asked: MapReduceCommand, run_id: str, *, yes: bool, as_json: bool) -> int:
    """Show the plan, carry it out as this run, print how it ended, and return the exit code. Raises `RLMError`."""
    plan, context = asked.plan(settings)
    check_models(settings, os.environ)
    before_run.check_run_dir(settings)
    _show(plan.lines())
    if not (yes or plan.total.cost_usd == 0 or _confirmed()):
        return console.INTERRUPTED
    try:
        found = asyncio.run(_run(settings, asked, plan, context, run_id))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return console.INTERRUPTED
    _print(found, as_json=as_json)
    return code_of(found)


def _context(
    paths: list[str], text: str | None, ident: str | None, on_error: str, how: dict[str, Any]
) -> Context:
    """Read stdin as one text, anything else as documents."""
    from rlm_ray.batch.source import read_documents

    if not paths or "-" in paths:
        return read_context(context_of(paths, **how))
    context, unread = read_documents(Files(*paths, **how), text=text, ident=ident, tell=console.print_status)
    if unread and on_error == "raise":
        raise InputError(
            unread[0].partition(": ")[0], f"{unread[0].partition(': ')[2]}; or pass --on-error skip"
        )
    _show([f"passed over {line}" for line in unread])
    return context


def _planned(settings: Settings, question: str, context: Context, **spec: object) -> Plan:
    from rlm_ray.mapreduce.execute import build_plan

    return build_plan(settings, question, context, **spec)


def _confirmed() -> bool:
    """Ask people at a terminal whether to begin what may cost something; scripts are not asked."""
    if sys.stdin is None or not sys.stdin.isatty():
        return True
    return console.confirm("Begin?", default=True)


async def _run(
    settings: Settings, asked: MapReduceCommand, plan: Plan, context: Context, run_id: str
) -> MapReduceResult:
    from rlm_ray.mapreduce.execute import execute_plan

    work = asyncio.current_task()
    assert work is not None
    console.StopOnSignal(work.cancel, "stopping the map-reduce")
    try:
        with Progress(settings.limits, console=console.stderr) as progress:
            observers: list[Observer] = [
                progress,
                RunLog(),
                CommandNote(settings, "map-reduce", asdict(asked)),
            ]
            found = await execute_plan(settings, plan, context, run_id=run_id, observers=observers)
    except (RLMError, asyncio.CancelledError):
        _say_how_to_go_on(settings, asked, run_id)
        raise
    if found.stop_reason != "answered":
        _say_how_to_go_on(settings, asked, run_id, found.stop_reason)
    return found


def _say_how_to_go_on(
    settings: Settings, asked: MapReduceCommand, run_id: str, stop_reason: str = ""
) -> None:
    if settings.run_dir and (command := resume_hint(settings.run_dir, run_id, stop_reason)):
        console.print_error(f"go on with: {command}{' (and its input again)' if asked.is_piped else ''}")


def _print_plan(plan: Plan, *, as_json: bool) -> None:
    if as_json:
        console.write(json.dumps(plan.as_dict(), ensure_ascii=False))
    else:
        console.write("\n".join(plan.lines()))


def _print(found: MapReduceResult, *, as_json: bool) -> None:
    """Print the answer on stdout; what it took and where it is from on stderr."""
    if as_json:
        console.write(json.dumps(found.as_dict(), ensure_ascii=False))
    elif found.answer is not None:
        console.write(found.answer)
    _show(found.plan.lines(found.usage.total))
    _show(found.origin.lines())
    _show([f"failed {where}: {why}" for where, why in found.failed[:10]])
    if found.stop_reason != "answered":
        known = (
            f"{found.answered:,} of {len(found.plan.units):,} {found.plan.unit_name} were answered by then"
        )
        console.print_error(f"{found.why} (stop reason: {found.stop_reason}); {known}")


def _show(lines: Iterable[str]) -> None:
    for line in lines:
        console.print_status(line)


def code_of(found: MapReduceResult) -> int:
    """Return the exit code that tells how it ended."""
    if found.stop_reason != "answered":
        return console.LIMIT
    return console.SOME_FAILED if found.failed else console.OK
