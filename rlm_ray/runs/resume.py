"""Resumes a run that was killed or stopped: from its record, paying for nothing twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rlm_ray.config import Settings, settings_from_dict, settings_to_dict
from rlm_ray.config.trust import destinations, value_at, without
from rlm_ray.core.context import Context
from rlm_ray.core.llm import Message
from rlm_ray.core.tools import missing_tools
from rlm_ray.errors import ConfigError, InputError, JournalError
from rlm_ray.journal.run_store import RunStore
from rlm_ray.runs import context_loader
from rlm_ray.runs.context_loader import read_context
from rlm_ray.runs.run import Result, Run, parse_schema
from rlm_ray.runs.run_history import RunHistory, how_to_go_on, load_command, load_run_history

if TYPE_CHECKING:
    from rlm_ray.structured.schema import AnswerSchema

RELEASE_TIMEOUT_S = 2.0


def prepare_resume(  # noqa: PLR0913 - a record, and what shall differ from it
    folder: RunStore,
    context: Any,
    change: Callable[[Settings], Settings],
    messages: Sequence[Message] = (),
    *,
    schema: AnswerSchema | None = None,
    trust_record: bool = False,
) -> Run | Result:
    """Return the next attempt of a run, to be started; or its result, where it has its answer and nothing shall differ now.

    `change` makes the new settings of the recorded ones, which hold no keys. Without `trust_record` it is also the one
    to say where questions and keys go: a record may have been written by anybody. Raises `ConfigError` where it does
    not. `messages` are those of a conversation that is one plain call. `schema` takes the place of the recorded one, of the
    last question: the record holds the JSON Schema of a pydantic model, not the model.
    """
    if (note := load_command(folder)) is not None:
        raise InputError(folder.run_id, how_to_go_on(note, folder))
    _wait_for_writer_to_release(folder)
    history = load_run_history(folder)
    run_dir = folder.address.rpartition("/")[0]
    withheld = destinations(without(history.settings, {"run_dir": 1}))
    settings = replace(change(settings_from_dict(history.settings)), run_dir=run_dir)
    schemas = _schemas(history, schema)
    same = schema is None or history.schemas[-1:] == (schema.source,)
    if context is None and same and history.answered(settings_to_dict(settings)):
        return _result(history, run_dir).with_value(schemas[-1] if schemas else None)
    if not trust_record:
        settings = replace(change(settings_from_dict(without(history.settings, withheld))), run_dir=run_dir)
        _check_given(settings, withheld)
    if why := missing_tools(history.tools, settings.tool_names):
        raise ConfigError("tools", why)
    source, fingerprint = _context(folder, context, trust_record=trust_record)
    history = replace(history, fingerprint=fingerprint)
    return Run(
        settings, history.query, source,
        follow_ups=history.follow_ups, history=history, messages=messages, schemas=schemas,
    )  # fmt: skip


def _schemas(history: RunHistory, last: AnswerSchema | None) -> list[AnswerSchema | None]:
    """Return the schemas of the answers, one for each question."""
    recorded = [parse_schema(source or None) for source in history.schemas]
    if last is None:
        return recorded
    before = len(history.follow_ups)
    return [*(recorded + [None] * before)[:before], last]


def _check_given(settings: Settings, withheld: Mapping[str, Any]) -> None:
    """Raise `ConfigError` where the caller gave no value for a setting that is not taken from the record."""
    table, defaults = settings_to_dict(settings), settings_to_dict(Settings())
    for name, recorded in withheld.items():
        if value_at(table, name) in (None, "", value_at(defaults, name)):
            why = f"was {recorded!r} in the record, which anybody may have written; give it again, or trust the record"
            raise ConfigError(name, f"{why} (--trust-record, trust_record=True)")


def _wait_for_writer_to_release(folder: RunStore) -> None:
    """Wait for the journal of a driver that was killed a moment ago to be free."""
    deadline = time.monotonic() + RELEASE_TIMEOUT_S
    while (holder := folder.current_writer()) is not None:
        if time.monotonic() > deadline:
            why = f"is running: {holder} writes its record; wait for its end, or stop it"
            raise JournalError(folder.run_id, why)
        time.sleep(0.1)


def _context(folder: RunStore, given: Any, *, trust_record: bool) -> tuple[Context, str]:
    """Return the context to go on with, and the fingerprint of the one before; empty where that is not known."""
    if given is None:
        if not trust_record and (paths := context_loader.noted_paths(folder)):
            what = ", ".join(paths[:3]) + (" ..." if len(paths) > 3 else "")
            why = f"read {what}, says its record, which anybody may have written; name the input again, or trust the record"
            raise InputError(folder.run_id, f"{why} (--trust-record, trust_record=True)")
        return context_loader.load_context(folder)
    return read_context(given), context_loader.saved_fingerprint(folder)


def _result(history: RunHistory, run_dir: str) -> Result:
    end = history.end
    assert end is not None
    return Result(
        end.answer,
        end.stop_reason,
        end.why,
        history.run_id,
        end.turns,
        end.seconds,
        history.usage,
        run_dir=run_dir,
        citations=end.citations,
    )
