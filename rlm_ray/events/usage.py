"""Computes what recorded calls used, as the admission counts it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from rlm_ray.core.reply import UNUSABLE_KINDS
from rlm_ray.core.usage import CallStats, RunUsage, UsageAccumulator
from rlm_ray.events.records import CallEnded, CallSent, Record, SessionOpened

CANCELLED = "cancelled"
"""The `error_kind` of a call or session that was given up; what it cost is not known."""
REPLY_ERROR = "ReplyError"
"""The `error_kind` of a call whose reply was no answer."""
_NO_LAST_ATTEMPT = frozenset({"ModelUnavailableError", "LimitReached"})
"""Calls that ended so after their last attempt had failed."""
_MAYBE_BILLED = frozenset({"timeout", "connection"})
"""Attempts that failed so may have been answered, and paid for, all the same."""


def usage_from_records(records: Iterable[Record]) -> RunUsage:
    """Sum up what the recorded calls used."""
    sums = UsageAccumulator()
    sessions = hits = 0
    sent = set()
    for record in records:
        if isinstance(record, CallSent):
            sent.add((record.path, record.call, record.key))
        if isinstance(record, SessionOpened):
            sessions += record.attempt == 1
        elif isinstance(record, CallEnded) and record.cache_hit:
            hits += 1
        elif isinstance(record, CallEnded):
            went_out = (record.path, record.call, record.key) in sent
            sums.add(record.model, len(record.path), stats_from_call(record, went_out=went_out))
    return RunUsage(sums.rows(), sessions, hits)


def max_unknown_cost_usd(records: Iterable[Record]) -> float:
    """Return the most that attempts cost whose usage nobody knows: they were cancelled, timed out, or their process died."""
    open_calls: dict[tuple[object, ...], list[float]] = defaultdict(list)
    cost = 0.0
    for record in records:
        if isinstance(record, CallSent):
            open_calls[record.path, record.call, record.key].append(record.max_cost_usd or 0.0)
        elif isinstance(record, CallEnded) and (sent := open_calls[record.path, record.call, record.key]):
            cost += sent.pop() * stats_from_call(record).unknown
    return cost + sum(map(sum, open_calls.values()))


def stats_from_call(call: CallEnded, *, went_out: bool = True) -> CallStats:
    """Return the usage of one call; attempts that failed before are counted, not what they may have used."""
    # Replies that were no answer were paid for, too.
    answered = not call.error_kind
    replies = (
        answered + (call.error_kind == REPLY_ERROR) + sum(item.kind in UNUSABLE_KINDS for item in call.tries)
    )
    last = went_out and call.error_kind not in _NO_LAST_ATTEMPT
    attempts = len(call.tries) + last
    usage = call.usage
    return CallStats(
        calls=replies,
        attempts=attempts,
        retries=max(0, attempts - 1),
        unknown=sum(item.kind in _MAYBE_BILLED for item in call.tries)
        + (last and call.error_kind == CANCELLED),
        repaid_calls=int(call.repaid and answered),
        unpriced=replies if call.cost_usd is None else 0,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cached_tokens=usage.cached_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        cost_usd=call.cost_usd or 0.0,
        queue_wait_s=call.queue_wait_s,
        rate_wait_s=call.rate_wait_s,
        estimated=int(answered and usage.estimated),
        cache_write_tokens=usage.cache_write_tokens,
    )
