"""What earlier lives of a run leave to the next one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rlm_ray.contexts import fingerprint
from rlm_ray.core.context import Context
from rlm_ray.core.records import CallEnded, Record, RunEnded, RunOpened, SessionOpened
from rlm_ray.core.usage import RunUsage, Tallies, Tally
from rlm_ray.errors import JournalError
from rlm_ray.journal.folder import RunFolder

_SHAPELESS = frozenset(
    {
        "run_dir",
        "record_content",
        "on_journal_error",
        "cache",
        "tenant",
        "weight",
        "limits",
        "rates",
        "cluster",
    }
    | {"tracing", "timeout", "attempts", "prices"}
)
"""Settings that an answer does not depend on."""


@dataclass(frozen=True, slots=True)
class Earlier:
    """The lives of a run so far; none for a new one."""

    run_id: str
    lives: int = 0
    usage: RunUsage = field(default_factory=RunUsage)
    fingerprint: str = ""
    """Of the context; empty where it is not known."""
    query: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """As the last life was begun."""
    end: RunEnded | None = None
    """Of the last life; None where it was killed."""

    def context_key(self, context: Context) -> str:
        """Empty where the context is the one before, else its own name."""
        now = fingerprint(context) if self.fingerprint else ""
        return "" if now == self.fingerprint else now

    def answered(self, settings: Mapping[str, Any]) -> bool:
        """There is nothing left to do: it has its answer, and nothing that shapes it is different now."""
        if self.end is None or self.end.stop_reason != "answered":
            return False
        return _shape(self.settings) == _shape(settings)


def earlier_lives(folder: RunFolder, fingerprint_: str = "") -> Earlier:
    """Read them. Raises `JournalError` where there is nothing to go on from."""
    records = folder.records()
    opened = [record for record in records if isinstance(record, RunOpened)]
    if not opened:
        raise JournalError(folder.run_id, "has no beginning on record; ask the question again")
    if not opened[-1].query:
        raise JournalError(
            folder.run_id, "was recorded without content (record_content=False); ask the question again"
        )
    last = records[-1]
    end = next((record for record in reversed(records) if isinstance(record, RunEnded | RunOpened)), last)
    return Earlier(
        folder.run_id,
        len(opened),
        usage_of(records),
        fingerprint_,
        opened[-1].query,
        opened[-1].settings,
        end if isinstance(end, RunEnded) else None,
    )


def usage_of(records: Iterable[Record]) -> RunUsage:
    """What the recorded calls used."""
    sums = Tallies()
    sessions = hits = 0
    for record in records:
        if isinstance(record, SessionOpened):
            sessions += record.attempt == 1
        elif isinstance(record, CallEnded) and record.cache_hit:
            hits += 1
        elif isinstance(record, CallEnded):
            sums.add(record.model, len(record.path), _tally(record))
    return RunUsage(sums.rows(), sessions, hits)


def _tally(call: CallEnded) -> Tally:
    answered = not call.error_kind
    usage = call.usage
    return Tally(
        calls=int(answered),
        attempts=len(call.tries) + answered,
        retries=max(0, len(call.tries) + answered - 1),
        unknown=int(call.error_kind == "cancelled"),
        repaid_calls=int(call.repaid and answered),
        unpriced=int(answered and call.cost_usd is None),
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cached_tokens=usage.cached_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        cost_usd=call.cost_usd or 0.0,
        queue_wait_s=call.queue_wait_s,
        rate_wait_s=call.rate_wait_s,
    )


def _shape(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value for name, value in settings.items() if name not in _SHAPELESS and name != "params"
    } | {
        "params": {
            name: value for name, value in dict(settings.get("params", {})).items() if name != "api_key"
        }
    }
