"""Taking a run up again that was killed or stopped: from its record, paying for nothing twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rlm_ray import contexts
from rlm_ray.config import settings_as_table, settings_from, settings_from_table
from rlm_ray.core.context import Context
from rlm_ray.earlier import Earlier, earlier_lives
from rlm_ray.errors import JournalError
from rlm_ray.journal.folder import RunFolder
from rlm_ray.run import Result, Run
from rlm_ray.sources import read_context

if TYPE_CHECKING:
    from rlm_ray.cluster.root import Observer


def take_up(
    folder: RunFolder, context: Any, changes: Mapping[str, Any], observers: Sequence[Observer] = ()
) -> Run | Result:
    """The next life of a run, to be started; or its result, where it has its answer and nothing shall differ now."""
    holder = folder.holder()
    if holder is not None:
        raise JournalError(
            folder.run_id, f"is running: {holder} writes its record; wait for its end, or stop it"
        )
    earlier = earlier_lives(folder)
    run_dir = folder.address.rpartition("/")[0]
    settings = settings_from(dict(changes), base=settings_from_table(earlier.settings))
    settings = replace(settings, run_dir=run_dir)
    if context is None and earlier.answered(settings_as_table(settings)):
        return _result(earlier, run_dir)
    source, fingerprint = _context(folder, context)
    earlier = replace(earlier, fingerprint=fingerprint)
    return Run(settings, earlier.query, source, observers=observers, earlier=earlier)


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
