"""Taking a run up again that was killed or stopped: from its record, paying for nothing twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from rlm_ray import contexts
from rlm_ray.config import Settings, settings_as_table, settings_from_table
from rlm_ray.core.context import Context
from rlm_ray.core.model import Message
from rlm_ray.earlier import Earlier, earlier_lives
from rlm_ray.errors import JournalError
from rlm_ray.journal.folder import RunFolder
from rlm_ray.run import Result, Run
from rlm_ray.sources import read_context

PATIENCE_S = 2.0


def take_up(
    folder: RunFolder,
    context: Any,
    change: Callable[[Settings], Settings],
    messages: Sequence[Message] = (),
) -> Run | Result:
    """The next life of a run, to be started; or its result, where it has its answer and nothing shall differ now.

    `change` makes the new settings of the recorded ones, which hold no keys. `messages` are those of a conversation that
    is one plain call.
    """
    _wait_until_free(folder)
    earlier = earlier_lives(folder)
    run_dir = folder.address.rpartition("/")[0]
    settings = replace(change(settings_from_table(earlier.settings)), run_dir=run_dir)
    if context is None and earlier.answered(settings_as_table(settings)):
        return _result(earlier, run_dir)
    source, fingerprint = _context(folder, context)
    earlier = replace(earlier, fingerprint=fingerprint)
    return Run(
        settings, earlier.query, source, follow_ups=earlier.follow_ups, earlier=earlier, messages=messages
    )


def _wait_until_free(folder: RunFolder) -> None:
    """A driver that was killed a moment ago takes its journal with it a moment later."""
    deadline = time.monotonic() + PATIENCE_S
    while (holder := folder.holder()) is not None:
        if time.monotonic() > deadline:
            why = f"is running: {holder} writes its record; wait for its end, or stop it"
            raise JournalError(folder.run_id, why)
        time.sleep(0.1)


def _context(folder: RunFolder, given: Any) -> tuple[Context, str]:
    """The context to go on with, and the fingerprint of the one before; empty where that is not known."""
    if given is None:
        return contexts.kept(folder)
    return read_context(given), contexts.noted_fingerprint(folder)


def _result(earlier: Earlier, run_dir: str) -> Result:
    end = earlier.end
    assert end is not None
    return Result(
        end.answer,
        end.stop_reason,
        end.why,
        earlier.run_id,
        end.turns,
        end.seconds,
        earlier.usage,
        run_dir=run_dir,
    )
