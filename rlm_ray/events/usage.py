"""Usage of a run: sums over its calls, by model and by depth; and what recorded calls used, as the admission counts it.

Tokens are what providers counted: the sums equal the provider's own. Answers that a provider did not count are in the
sums by our estimate, and counted apart (`estimated`); so is what nobody knows (`unpriced`, `unknown`). Never as zero.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from operator import add, attrgetter
from typing import Any, TypeVar

from rlm_ray.core.display import show_call
from rlm_ray.core.reply import UNUSABLE_KINDS
from rlm_ray.events.records import CallEnded, CallSent, Record, SessionOpened

_Key = TypeVar("_Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class CallStats:
    """Holds sums over calls."""

    calls: int = 0
    """Answered."""
    attempts: int = 0
    """Requests that went out, whatever became of them."""
    retries: int = 0
    """Attempts after the first of a call."""
    unknown: int = 0
    """Attempts of which nobody knows what they used."""
    unpriced: int = 0
    """Answers whose price is not known."""
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    cost_usd: float = 0.0
    """Of the answers whose price is known."""
    queue_wait_s: float = 0.0
    """Waited for a free place, for others in the queue or for the budget."""
    rate_wait_s: float = 0.0
    """Waited for the rate of the account."""
    repaid_calls: int = 0
    """Answered calls that were under way before, when their process died: the only ones that may be paid twice."""
    estimated: int = 0
    """Answers whose tokens the provider did not count: the sums hold our estimate of them."""
    cache_write_tokens: int = 0

    def __add__(self, other: CallStats) -> CallStats:
        return CallStats(*(getattr(self, name) + getattr(other, name) for name in _NAMES))

    def __sub__(self, other: CallStats) -> CallStats:
        return CallStats(*(getattr(self, name) - getattr(other, name) for name in _NAMES))

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    def as_dict(self) -> dict[str, Any]:
        """Return each sum by its name."""
        return dict(zip(_NAMES, _counts(self), strict=True))


_NAMES = tuple(sum_of.name for sum_of in fields(CallStats))
_counts = attrgetter(*_NAMES)


@dataclass(frozen=True, slots=True)
class RunUsage:
    """Holds the usage of a run up to a moment."""

    rows: Mapping[tuple[str, int], CallStats] = field(default_factory=dict)
    """By model and depth."""
    sessions: int = 0
    """Ever opened."""
    cache_hits: int = 0
    """Calls that did not have to be made."""

    def __repr__(self) -> str:
        return show_call("RunUsage", self.facts())

    def facts(self) -> dict[str, Any]:
        """Return what people ask for first: calls, tokens, and the cost, None where no price is known."""
        total = self.total
        cost = None if total.unpriced and not total.cost_usd else round(total.cost_usd, 6)
        return {"calls": total.calls, "tokens": total.tokens, "cost_usd": cost}

    def __add__(self, other: RunUsage) -> RunUsage:
        sums = UsageAccumulator()
        sums.merge([*self.rows.items(), *other.rows.items()])
        return RunUsage(sums.rows(), self.sessions + other.sessions, self.cache_hits + other.cache_hits)

    @property
    def repaid_calls(self) -> int:
        """See `CallStats.repaid_calls`."""
        return self.total.repaid_calls

    @property
    def total(self) -> CallStats:
        return sum(self.rows.values(), CallStats())

    @property
    def by_model(self) -> dict[str, CallStats]:
        return self._group_by(lambda row: row[0])

    @property
    def by_depth(self) -> dict[int, CallStats]:
        return self._group_by(lambda row: row[1])

    def stats(self, turns: int) -> dict[str, int]:
        """Return three counts under the names other RLM libraries have for them."""
        return {
            "llm_calls": self.total.calls,
            "iterations": turns,
            "depth": max((depth for _, depth in self.rows), default=0),
        }

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return {
            "sessions": self.sessions,
            "cache_hits": self.cache_hits,
            "total": self.total.as_dict(),
            "by_model": {model: tally.as_dict() for model, tally in self.by_model.items()},
            "by_depth": {str(depth): tally.as_dict() for depth, tally in self.by_depth.items()},
        }

    def _group_by(self, key: Callable[[tuple[str, int]], _Key]) -> dict[_Key, CallStats]:
        sums: dict[_Key, CallStats] = {}
        for row, tally in self.rows.items():
            sums[key(row)] = sums.get(key(row), CallStats()) + tally
        return sums


class UsageAccumulator:
    """Keeps the running sums behind a `RunUsage`."""

    __slots__ = ("_rows",)

    def __init__(self) -> None:
        self._rows: dict[tuple[str, int], list[float]] = {}

    def add(self, model: str, depth: int, tally: CallStats) -> None:
        row = self._rows.get((model, depth))
        counts = _counts(tally)
        self._rows[model, depth] = list(counts if row is None else map(add, row, counts))

    def merge(self, rows: Iterable[tuple[tuple[str, int], CallStats]]) -> None:
        for (model, depth), tally in rows:
            self.add(model, depth, tally)

    def rows(self) -> dict[tuple[str, int], CallStats]:
        return {key: CallStats(*row) for key, row in self._rows.items()}  # type: ignore[arg-type]  # ints stay ints


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
