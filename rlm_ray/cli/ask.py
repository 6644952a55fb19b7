"""`rlm-ray ask`: one question over files, folders, globs or stdin."""

from __future__ import annotations

import asyncio
import glob
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from rlm_ray.cli import before_run, console, options, run_display
from rlm_ray.cli.before_run import estimate_run
from rlm_ray.config import Settings
from rlm_ray.core.context import Context, make_context
from rlm_ray.documents.converter import DocumentReader
from rlm_ray.documents.files import FileContext, Files
from rlm_ray.errors import InputError
from rlm_ray.llm.model_check import check_models
from rlm_ray.progress import Progress, RunLog
from rlm_ray.rlm import RLM
from rlm_ray.runs.context_loader import read_context
from rlm_ray.runs.run import Result, Run, parse_schema
from rlm_ray.util.filesystem import local_path

Question = Annotated[
    str, typer.Argument(metavar="QUESTION", help="What you want to know.", show_default=False)
]
Paths = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="PATH|-",
        help="Files (texts, PDF, Office ...), folders, globs, any fsspec URL such as s3://, or - for stdin.",
    ),
]
Include = Annotated[
    list[str] | None,
    typer.Option(metavar="PATTERN", help="Of folders, read only these, as in .gitignore: '*.md', 'docs/'."),
]
Exclude = Annotated[list[str] | None, typer.Option(metavar="PATTERN", help="Of folders, leave these out.")]
Encoding = Annotated[
    str, typer.Option(metavar="NAME", help="Of texts that are not UTF-8; default: what they look like.")
]
Strict = Annotated[
    bool, typer.Option("--strict", help="A file that cannot be read, or only by a guess, is an error.")
]
Schema = Annotated[
    Path | None, typer.Option("--schema", metavar="FILE", help="A JSON Schema that the answer has to match.")
]


DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Read the files, say what asking would cost, and ask nobody.")
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask at the terminal before a dear run begins.")]


@options.settings_options()
def ask(  # noqa: PLR0913, PLR0917 - each is an option of the command
    question: Question,
    paths: Paths = None,
    include: Include = None,
    exclude: Exclude = None,
    encoding: Encoding = "",
    strict: Strict = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    *,
    given: options.Overrides,
    schema: Schema = None,
    as_json: options.Json = False,
) -> None:
    """Ask one question about text of any size.

    The answer is all that goes to stdout; with --schema one JSON value that matches it, or nothing.
    """
    with console.handle_errors():
        settings, question = options.settings_of(given), before_run.question_of(question)
        before_run.check_quoted(question, paths or ())
        how = {"include": include or (), "exclude": exclude or (), "encoding": encoding, "strict": strict}
        if not dry_run:
            check_models(settings, os.environ)
            before_run.check_run_dir(settings)
        wanted = parse_schema(schema)
        source = context_of(paths or [], **how)
        found = estimate_run(settings, question, read_context(source))
        line = before_run.cost_line(settings.model, found, settings.limits)
        if dry_run:
            console.write(json.dumps(found.as_dict()) if as_json else line)
            raise typer.Exit(console.OK)
        if found.most_usd != 0:
            console.print_status(line)
        before_run.confirm(found, yes=yes)
        result = asyncio.run(_ask(settings, question, source, wanted))
    run_display.print_result(result, as_json=as_json)
    raise typer.Exit(run_display.exit_code_for(result))


async def _ask(settings: Settings, question: str, context: Any, schema: Any) -> Result:
    async def start(progress: Progress) -> Run:
        return await RLM(settings).astart(question, context, schema=schema, observers=[progress, RunLog()])

    return await run_display.run_with_display(start, settings.limits)


def context_of(paths: list[str], **how: Any) -> FileContext | Context:
    """Read stdin for `-`, or for nothing where something is piped in; else the files that paths, globs and URLs name.

    What was read of them, and what not, is one line on stderr.
    """
    if paths == ["-"] or (not paths and not _at_a_terminal()):
        return _stdin(how.get("encoding", ""))
    if not paths:
        raise InputError(
            "input", "is missing; name files, folders or globs after the question, or pipe text in"
        )
    if "-" in paths:
        raise InputError("-", "stands alone: stdin cannot be mixed with files")
    found = Files(*(path for pattern in paths for path in _expanded(pattern)), **how).read()
    console.print_status(found.report.line())
    return found


def _at_a_terminal() -> bool:
    """Tell whether nobody pipes anything in; so it is where stdin is closed, too."""
    return sys.stdin is None or sys.stdin.isatty()


def _stdin(encoding: str) -> Context:
    data = sys.stdin.buffer.read() if sys.stdin is not None else b""
    if not data:
        raise InputError(
            "stdin", "is empty; pipe text in, or name files, folders or globs after the question"
        )
    with DocumentReader(encoding) as reader:
        read = reader.read(data, "stdin")
    for note in read.notes:
        console.print_status(f"stdin {note}")
    return make_context(read.text)


def _expanded(pattern: str) -> list[str | Path]:
    if local_path(pattern) is None:
        return [pattern]
    if _exists(pattern) or not glob.has_magic(pattern):
        return [Path(pattern)]
    found = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 - Path.glob takes no absolute patterns
    if not found:
        raise InputError(pattern, "matches no file; check the pattern (the question comes first, then paths)")
    return [Path(name) for name in found]


def _exists(name: str) -> bool:
    try:
        return Path(name).exists()
    except OSError as error:  # the question in a path's place is often too long for one
        why = f"cannot be a path: {(error.strerror or str(error)).lower()} (the question comes first, then paths)"
        raise InputError(f"{name[:40]}…", why) from error
