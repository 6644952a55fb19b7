"""What earlier attempts of a run leave to the next one, and what a batch, a map or a map-reduce was asked.

Of a command only names are noted: of files, columns and options. A record may have been written by anybody, and these names say
what is read and written, so nothing is done by them without the word of whoever goes on.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rlm_ray.config import ANSWER_SETTINGS, Settings
from rlm_ray.config.deprecated_names import current_table
from rlm_ray.core.context import Context
from rlm_ray.core.secrets import REDACTED
from rlm_ray.errors import InputError, JournalError
from rlm_ray.events.records import Record, RunFinished, RunStarted
from rlm_ray.events.usage import RunUsage, usage_from_records
from rlm_ray.journal.run_store import RunStore, find_run


@dataclass(frozen=True, slots=True)
class RunHistory:
    """The attempts of a run so far; none for a new one."""

    run_id: str
    previous_attempts: int = 0
    usage: RunUsage = field(default_factory=RunUsage)
    fingerprint: str = ""
    """Of the first context; empty where it is not known."""
    query: str = ""
    follow_ups: tuple[str, ...] = ()
    schemas: tuple[str, ...] = ()
    """Of the answers to `query` and `follow_ups`, as JSON; empty for text."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The settings of the last attempt."""
    end: RunFinished | None = None
    """The end of the last attempt; None where it was killed."""
    tools: tuple[str, ...] = ()
    """Names of the functions that its code could call."""

    def changed_context_key(self, context: Context) -> str:
        """Return a name for the context, empty where it is the one the run began with."""
        now = context.fingerprint() if self.fingerprint else ""
        return "" if now == self.fingerprint else now

    def keep_prompts(self, settings: Settings) -> Settings:
        """Return the settings with the version of the prompts that the run began with: its record is found by them."""
        if not self.settings:
            return settings
        return replace(settings, prompt_version=self.settings.get("prompt_version", 1))

    def answered(self, settings: Mapping[str, Any]) -> bool:
        """Tell whether the run has its answer and no setting that shapes it is different now."""
        if self.end is None or self.end.stop_reason != "answered":
            return False
        return _relevant_settings(self.settings) == _relevant_settings(settings)


def load_run_history(folder: RunStore, fingerprint_: str = "") -> RunHistory:
    """Read the history of a run. Raises `JournalError` where there is nothing to resume."""
    if (owner := folder.owner()) not in (None, os.geteuid()):
        why = f"belongs to another user (uid {owner}), whose word its settings are; copy it to a folder of your own first"
        raise JournalError(folder.run_id, why)
    records = folder.records()
    opened = [record for record in records if isinstance(record, RunStarted)]
    if not opened:
        raise JournalError(folder.run_id, "has no beginning on record; ask the question again")
    if not opened[-1].query:
        raise JournalError(
            folder.run_id, "was recorded without content (record_content=False); ask the question again"
        )
    last = records[-1]
    end = next((record for record in reversed(records) if isinstance(record, RunFinished | RunStarted)), last)
    return RunHistory(
        folder.run_id,
        len(opened),
        usage_from_records(records),
        fingerprint_,
        opened[-1].query,
        opened[-1].follow_ups,
        opened[-1].schemas,
        opened[-1].settings,
        end if isinstance(end, RunFinished) else None,
        opened[-1].tools,
    )


def _relevant_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return those an answer depends on, as they are called now and without secrets, which are given anew."""
    table = {"citations": "off"} | current_table(settings)
    shape: dict[str, Any] = _drop_hidden({name: table[name] for name in ANSWER_SETTINGS if table.get(name)})
    return shape


def _drop_hidden(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _drop_hidden(inner) for name, inner in value.items() if inner != REDACTED}
    return value


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
        note = CommandRecord(**json.loads(noted))
        dict(**note.arguments)
        is_ours = isinstance(note.command, str) and isinstance(note.folder, str)
    except (ValueError, TypeError, RecursionError):
        is_ours = False
    if not is_ours:
        raise JournalError(folder.run_id, f"its {COMMAND_FILE} cannot be read; give the command again")
    return note


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
