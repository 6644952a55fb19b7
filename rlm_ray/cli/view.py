"""`rlm-ray view`: a run as one HTML file, or in the format of another tool."""

from __future__ import annotations

import os
import sys
import tempfile
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from rlm_ray.cli import console, options
from rlm_ray.cli.completion import complete_run
from rlm_ray.errors import InputError, JournalError
from rlm_ray.events.records import Record, RunStarted
from rlm_ray.util.filesystem import write_private

Run = Annotated[
    str,
    typer.Argument(
        metavar="RUN|PATH|-",
        help="A run id or its beginning, `last`, a run folder, a journal file, or - for stdin.",
        show_default=False,
        autocompletion=complete_run,
    ),
]
Out = Annotated[
    Path | None, typer.Option(help="The file to write; default: RUN.html here, an export goes to stdout.")
]
Compare = Annotated[
    str | None, typer.Option(metavar="RUN", help="Another run to compare with, side by side.")
]
Export = Annotated[str | None, typer.Option(metavar="FORMAT", help="otlp, chrome or jsonl, instead of HTML.")]
Endpoint = Annotated[
    str | None, typer.Option(metavar="URL", help="With --export otlp: send to this OTLP/HTTP endpoint.")
]
Open = Annotated[
    bool | None,
    typer.Option(
        "--open/--no-open",
        help="Open the page in the browser; default: at a terminal that has one.",
        show_default=False,
    ),
]
_DESKTOP = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")


def view(  # noqa: PLR0913, PLR0917 - each is an option of the command
    run: Run,
    out: Out = None,
    compare: Compare = None,
    export: Export = None,
    endpoint: Endpoint = None,
    open_it: Open = None,
    sets: options.SetOption = None,
) -> None:
    """Write a run as one HTML file that needs nothing else, and print its path."""
    with console.handle_errors():
        _check(export, endpoint, compare, open_it=bool(open_it))
        run_dir = options.run_dir_of(sets)
        records = records_of(run, run_dir)
        if endpoint:
            _send(records, endpoint)
        elif export:
            _export(records, export, out)
        else:
            other = records_of(compare, run_dir) if compare else None
            path = _page(records, out, other)
            console.write(str(path))
            _open(path.absolute(), wanted=_has_browser() if open_it is None else open_it)


def _has_browser() -> bool:
    """Tell whether somebody sits at a terminal of a desktop."""
    return sys.stdout.isatty() and any(os.environ.get(name) for name in _DESKTOP)


def _open(path: Path, *, wanted: bool) -> None:
    """Open the page, or say where it is."""
    opened = wanted and webbrowser.open(path.as_uri())
    console.print_status("opened in the browser" if opened else f"open it in a browser: {path.as_uri()}")


def records_of(run: str, run_dir: str) -> list[Record]:
    """Return the records of a run, however it is named."""
    if run == "-":
        return _stdin(run_dir)
    if _is_file(run) and (imported := _imported(Path(run))) is not None:
        return imported
    from rlm_ray.journal.run_store import find_run

    folder = find_run(run, run_dir)
    records = folder.records()
    for warning in folder.warnings:
        console.print_status(f"warning: {warning}")
    return records


def _check(export: str | None, endpoint: str | None, compare: str | None, *, open_it: bool) -> None:
    if export is not None:
        from rlm_ray.report.export import FORMATS

        if export not in FORMATS:
            raise InputError("--export", f"must be one of {', '.join(FORMATS)}; got {export!r}")
    if endpoint is not None and export != "otlp":
        raise InputError("--endpoint", "goes with --export otlp")
    if export is not None and (compare is not None or open_it):
        raise InputError("--export", "stands without --compare and --open, which belong to the page")


def _page(records: Sequence[Record], out: Path | None, other: Sequence[Record] | None) -> Path:
    from rlm_ray.report import make_report

    opened = next((record for record in records if isinstance(record, RunStarted)), None)
    path = out or Path(f"{_file_name(opened.run_id) if opened else 'run'}.html")
    _write(path, make_report(records, other=other).encode())
    return path


def _file_name(run_id: str) -> str:
    """Return a safe file name: a journal may come from anywhere, and its run id must not lead into another folder."""
    return (
        "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in run_id).lstrip(".")
        or "run"
    )


def _export(records: Sequence[Record], form: str, out: Path | None) -> None:
    from rlm_ray.report.export import export

    data = export(records, form)
    if out is None:
        if sys.stdout.isatty():
            console.write(data.decode("utf-8", "replace"))
        else:
            sys.stdout.buffer.write(data)
        return
    _write(out, data)
    console.write(str(out))


def _send(records: Sequence[Record], endpoint: str) -> None:
    from rlm_ray.report.export import send_otlp

    console.print_status(f"{send_otlp(records, endpoint):,} spans sent to {endpoint}")


def _write(path: Path, data: bytes) -> None:
    try:
        write_private(path, data)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise InputError(str(path), f"cannot be written: {why}; name another file with --out") from error


def _is_file(name: str) -> bool:
    try:
        return Path(name).is_file()
    except OSError:  # too long for a path
        return False


def _imported(path: Path) -> list[Record] | None:
    """Return the records of a log of the official RLM library; None where it is none."""
    from rlm_ray.report import rlm_log

    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            known = rlm_log.is_rlm_log(file.readline())
    except OSError as error:
        raise InputError(str(path), f"cannot be read: {(error.strerror or str(error)).lower()}") from error
    return rlm_log.read(path) if known else None


def _stdin(run_dir: str) -> list[Record]:
    data = sys.stdin.buffer.read() if sys.stdin is not None else b""
    if not data.strip():
        raise InputError("stdin", "is empty; pipe a journal in, or name a run")
    with tempfile.NamedTemporaryFile(suffix=".jsonl") as file:
        file.write(data)
        file.flush()
        try:
            return records_of(file.name, run_dir)
        except JournalError as error:
            raise InputError("stdin", error.why) from error
