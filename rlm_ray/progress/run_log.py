"""The records of a run as lines of a log, for those who want to read what is done (`rlm-ray -v`, `--log-file`)."""

from __future__ import annotations

import logging

from rlm_ray.events.records import (
    CallEnded,
    CellEnded,
    NodePath,
    Record,
    RunFinished,
    RunStarted,
    SessionEnded,
    SessionOpened,
)
from rlm_ray.progress.formatting import format_usd
from rlm_ray.progress.live_state import one_line

_log = logging.getLogger(__name__)


class RunLog:
    """An observer that logs what a run does: calls and ends as INFO, sessions and code as DEBUG."""

    def add(self, record: Record) -> None:
        """Log a record."""
        if not _log.isEnabledFor(logging.INFO):
            return
        match record:
            case RunStarted():
                _log.info("run %s begins (attempt %d)", record.run_id, record.life)
            case SessionOpened():
                _log.debug("session %s with %s: %s", _name(record.path), record.model, one_line(record.query))
            case CallEnded(error_kind=""):
                used = f"{record.usage.input_tokens:,} tokens in, {record.usage.output_tokens:,} out"
                cost = "" if record.cost_usd is None else f", {format_usd(record.cost_usd)}"
                hit = " from the cache" if record.cache_hit else ""
                seconds = record.at - record.started
                what = f"{record.role} {record.call} of {_name(record.path)}"
                _log.info("%s: %s answered%s, %s%s, %.1f s", what, record.model, hit, used, cost, seconds)
            case CallEnded():
                what = f"{record.role} {record.call} of {_name(record.path)}"
                _log.info("%s: %s failed: %s", what, record.model, one_line(record.why or record.error_kind))
            case CellEnded():
                how = one_line(record.error) if record.error else "ran"
                _log.debug("code of turn %d of %s: %s", record.turn, _name(record.path), how)
            case SessionEnded():
                how = one_line(record.why) or record.stop_reason
                _log.debug("session %s ended: %s", _name(record.path), how)
            case RunFinished():
                why = f": {one_line(record.why)}" if record.why else ""
                _log.info("the run ended after %.1f s: %s%s", record.seconds, record.stop_reason, why)
            case _:
                pass


def _name(path: NodePath) -> str:
    return ".".join(map(str, path)) or "the root"
