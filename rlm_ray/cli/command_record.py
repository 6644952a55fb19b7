"""What a batch or a map-reduce was asked, noted in the folder of its run: `rlm-ray resume RUN` asks the same again.

Only names are noted: of files, columns and options. A record may have been written by anybody, and these names say what is read
and written, so nothing is done by them without --trust-record.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from rlm_ray.cli import options
from rlm_ray.config import Settings, merge_settings, settings_from_dict
from rlm_ray.errors import InputError, JournalError
from rlm_ray.events.records import Record, RunStarted
from rlm_ray.journal.run_store import RunStore
from rlm_ray.runs.run_history import load_run_history

COMMAND_FILE = "command.json"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class CommandRecord:
    """A command and what it was given, in the folder where it was given."""

    command: str
    arguments: dict[str, Any]
    folder: str


class CommandNote:
    """An observer that notes a command in the folder of its run as soon as that begins."""

    def __init__(self, settings: Settings, command: str, asked: Any) -> None:
        self._run_dir = settings.run_dir if settings.record_content else ""
        self._note = CommandRecord(command, asdict(asked), str(Path.cwd()))

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


def arguments_as(kind: type[T], note: CommandRecord, folder: RunStore) -> T:
    """Return the arguments of a command as it takes them. Raises `JournalError` where they are none."""
    try:
        return kind(**note.arguments)
    except TypeError as error:
        why = f"its {COMMAND_FILE} is not of this version; give the command again"
        raise JournalError(folder.run_id, why) from error


def settings_to_go_on(folder: RunStore, given: options.Overrides) -> Settings:
    """Return the settings of a recorded run with what is given now; keys are on no record."""
    recorded = settings_from_dict(load_run_history(folder).settings)
    return replace(merge_settings(recorded, given), run_dir=folder.address.rpartition("/")[0])


def enter_folder(note: CommandRecord, folder: RunStore) -> None:
    """Go where the command was given: names of files are relative to that."""
    try:
        os.chdir(note.folder)
    except OSError as error:
        why = f"was begun in {note.folder}, which cannot be entered: {(error.strerror or str(error)).lower()}"
        raise InputError(folder.run_id, f"{why}; give the command again from where its files are") from error


def check_trusted(note: CommandRecord, folder: RunStore, *, trust_record: bool) -> None:
    """Raise `InputError` where nobody said that the record is their own."""
    if not trust_record:
        what = f"the files that its record names are read and written ({note.command}), and anybody may have written that"
        raise InputError(
            folder.run_id, f"{what}; trust the record (--trust-record), or give the command again"
        )
