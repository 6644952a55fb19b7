"""What a batch, a map or a map-reduce was asked, noted in the folder of its run, so that it can go on from there.

Only names are noted: of files, columns and options. A record may have been written by anybody, and these names say what is read
and written, so nothing is done by them without the word of whoever goes on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rlm_ray.config import Settings
from rlm_ray.errors import InputError, JournalError
from rlm_ray.events.records import Record, RunStarted
from rlm_ray.journal.run_store import RunStore, find_run

COMMAND_FILE = "command.json"


@dataclass(frozen=True, slots=True)
class CommandRecord:
    """A command and what it was given, in the folder where it was given."""

    command: str
    """`batch`, `map` or `map-reduce`."""
    arguments: dict[str, Any]
    folder: str
    from_memory: bool = False
    """A Python program held what it asks about, which is on no record."""


class CommandNote:
    """An observer that notes a command in the folder of its run as soon as that begins."""

    def __init__(
        self, settings: Settings, command: str, arguments: Mapping[str, Any], *, from_memory: bool = False
    ) -> None:
        self._run_dir = settings.run_dir if settings.record_content else ""
        self._note = CommandRecord(command, dict(arguments), str(Path.cwd()), from_memory)

    def add(self, record: Record) -> None:
        if self._run_dir and isinstance(record, RunStarted):
            RunStore(self._run_dir, record.run_id).save(COMMAND_FILE, json.dumps(asdict(self._note)).encode())


def load_command(folder: RunStore) -> CommandRecord | None:
    """Return what a run was asked by; None where that is one question, or nothing is noted."""
    noted = folder.load(COMMAND_FILE)
    if noted is None:
        return None
    try:
        return CommandRecord(**json.loads(noted))
    except (ValueError, TypeError) as error:
        raise JournalError(
            folder.run_id, f"its {COMMAND_FILE} cannot be read; give the command again"
        ) from error


def find_run_of(command: str, run: str, settings: Settings) -> tuple[RunStore, CommandRecord, Settings]:
    """Find the run of a `batch`, `map` or `map-reduce` that is to go on, and return the settings that write its record.

    Raises `InputError` where there is none, and where it is the run of something else.
    """
    folder = find_run(run, settings.run_dir)
    note = load_command(folder)
    if note is None:
        why = (
            f"is the run of one question, and of no {command}; RLM.resume({folder.run_id!r}) goes on with it"
        )
        raise InputError(folder.run_id, why)
    if note.command != command:
        raise InputError(folder.run_id, how_to_go_on(note, folder))
    return folder, note, replace(settings, run_dir=folder.address.rpartition("/")[0])


def how_to_go_on(note: CommandRecord, folder: RunStore) -> str:
    """Say by what call or command a run goes on that is more than one question."""
    method = note.command.replace("-", "_")
    given = "rows" if note.command == "batch" else "contexts"
    call = f"rlm.{method}(question, {given}, run_id={folder.run_id!r})"
    if note.from_memory:
        return f"is a {note.command} over {given} of a Python program, which are on no record; it goes on there: {call}"
    return f"is a {note.command} over files; it goes on by rlm-ray resume {folder.run_id} --trust-record"
