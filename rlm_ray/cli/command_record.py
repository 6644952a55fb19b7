"""What `rlm-ray resume` makes of a command that is noted in the folder of its run: the same again, with --trust-record only."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TypeVar

from rlm_ray.cli import options
from rlm_ray.config import Settings, merge_settings, settings_from_dict
from rlm_ray.errors import InputError, JournalError
from rlm_ray.journal.run_store import RunStore
from rlm_ray.runs.command_record import COMMAND_FILE, CommandRecord
from rlm_ray.runs.run_history import load_run_history

T = TypeVar("T")


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
