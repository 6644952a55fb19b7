"""What earlier attempts of a run leave to the next one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from rlm_ray.config import ANSWER_SETTINGS, Settings
from rlm_ray.config.deprecated_names import current_table
from rlm_ray.core.context import Context
from rlm_ray.core.secrets import REDACTED
from rlm_ray.core.usage import RunUsage
from rlm_ray.errors import JournalError
from rlm_ray.events.records import RunFinished, RunStarted
from rlm_ray.events.usage import usage_from_records
from rlm_ray.journal.run_store import RunStore


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
