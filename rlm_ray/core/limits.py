"""What a run may spend (`Limits`), how fast an account may be asked (`Rates`), and what is left of it (`Ledger`).

`Limits` and `Rates` are plain values a user writes down, checked when they are made. None always means "not limited by
you": for `Rates` it is then learned from the provider.

A `Ledger` keeps the budget of one run: its whole tree spends from it, siblings can never spend it twice.

    left for a call = limit - spent - reserved - kept

1. What a call may cost at worst is *reserved* when it is admitted and *spent* as what it truly cost when it is
   settled. So the sum never passes the limit in any order of events, as long as no call costs more than its
   estimate. Where one does, the limit is passed by that difference, at most once per call under way, and
   nothing more is admitted.
2. An attempt that nobody can account for (its holder died, it timed out) stays spent at its estimate: the
   provider may well bill it. Its truth, should it still arrive, replaces the estimate.
3. A call that does not fit *waits* while reservations may still be given back, and is refused when none is left
   or when it would not even fit then. Smaller calls of the run may go meanwhile.
4. A little is *kept* for the last call, the root's answer from what it knows: 5 % of cost and tokens, or half as
   much again as the largest call of a root so far (the last one also holds the reply to it), up to a quarter; and
   one call.

Money is counted in whole nano-dollars, rounded up, so that sums are exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import Annotated

from rlm_ray.core.setting_rules import Number, Whole, check_fields

YEAR_S = 365 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Limits:
    """The most a whole recursion tree may use: root, children and plain sub-calls together."""

    cost_usd: Annotated[float | None, Number(0, 1e9, "US dollars")] = None
    """US dollars. 0 lets only models run that cost nothing."""
    tokens: Annotated[int | None, Whole(1, 10**15)] = None
    """Input and output tokens together."""
    calls: Annotated[int | None, Whole(1, 10**12)] = None
    """Answered model calls; a retry of a call is not a new one."""
    sessions: Annotated[int | None, Whole(1, 10**12)] = None
    """Sessions ever opened, the root included."""
    time_s: Annotated[float | None, Number(0, YEAR_S, "seconds", above=True)] = None
    """Wall-clock seconds from the start of the run."""

    def __post_init__(self) -> None:
        check_fields(self, "limits.")


@dataclass(frozen=True, slots=True)
class Rates:
    """How fast one account may be asked, by everything in the cluster together."""

    rpm: Annotated[float | None, Number(0, 1e9, "requests per minute", above=True)] = None
    """Requests per minute."""
    tpm: Annotated[float | None, Number(0, 1e15, "tokens per minute", above=True)] = None
    """Tokens per minute, input and output together."""
    input_tpm: Annotated[float | None, Number(0, 1e15, "tokens per minute", above=True)] = None
    """Input tokens per minute, where the provider counts them apart."""
    output_tpm: Annotated[float | None, Number(0, 1e15, "tokens per minute", above=True)] = None
    """Output tokens per minute, where the provider counts them apart."""
    in_flight: Annotated[int | None, Whole(1, 10**6)] = None
    """Requests under way at the same time."""

    def __post_init__(self) -> None:
        check_fields(self, "rates.")


NANO = 10**9
UNLIMITED = 10**30
KEPT_LEAST, KEPT_MOST = 0.05, 0.25
KEPT_BY_LARGEST = 1.5


def to_nano_usd(cost_usd: float) -> int:
    """Round up, but for what is only the noise of a float."""
    return math.ceil(round(cost_usd * NANO, 3))


@dataclass(frozen=True, slots=True)
class Amount:
    """What calls take of a budget."""

    nano_usd: int = 0
    tokens: int = 0
    calls: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.nano_usd + other.nano_usd, self.tokens + other.tokens, self.calls + other.calls)

    def __sub__(self, other: Amount) -> Amount:
        return Amount(self.nano_usd - other.nano_usd, self.tokens - other.tokens, self.calls - other.calls)

    def elementwise_max(self, other: Amount) -> Amount:
        """Return the larger of both, field by field."""
        return Amount(
            max(self.nano_usd, other.nano_usd), max(self.tokens, other.tokens), max(self.calls, other.calls)
        )

    def first_exceeded(self, room: Amount) -> str | None:
        """Return the name of the limit that does not leave enough room for this."""
        if self.nano_usd > room.nano_usd:
            return "cost_usd"
        if self.tokens > room.tokens:
            return "tokens"
        return "calls" if self.calls > room.calls else None


class BudgetFit(Enum):
    """Whether a call fits a budget."""

    NOW = "now"
    LATER = "later"
    NEVER = "never"


class Ledger:
    """The budget of one run."""

    __slots__ = ("_is_unlimited", "_largest_root", "in_flight", "limit", "reserved", "spent")

    def __init__(self, limits: Limits) -> None:
        cost = UNLIMITED if limits.cost_usd is None else int(round(limits.cost_usd * NANO, 3))
        self.limit = Amount(cost, limits.tokens or UNLIMITED, limits.calls or UNLIMITED)
        self._is_unlimited = self.limit == Amount(UNLIMITED, UNLIMITED, UNLIMITED)
        self.spent = self.reserved = self._largest_root = Amount()
        self.in_flight = 0

    def check(self, amount: Amount, *, last_call: bool = False) -> tuple[BudgetFit, str]:
        """Tell whether `amount` may be reserved, and name the limit where it may not."""
        if self._is_unlimited:
            return BudgetFit.NOW, ""
        left = self.left(last_call=last_call)
        limit = amount.first_exceeded(left)
        if limit is None:
            return BudgetFit.NOW, ""
        best = amount.first_exceeded(left + self.reserved) if self.in_flight else limit
        return (BudgetFit.LATER, limit) if best is None else (BudgetFit.NEVER, best)

    def left(self, *, last_call: bool = False) -> Amount:
        """Return what may still be reserved."""
        limit, spent, reserved = self.limit, self.spent, self.reserved
        left = Amount(
            limit.nano_usd - spent.nano_usd - reserved.nano_usd,
            limit.tokens - spent.tokens - reserved.tokens,
            limit.calls - spent.calls - reserved.calls,
        )
        return left if last_call else left - self._final_call_reserve()

    def reserve(self, amount: Amount, *, root: bool = False) -> None:
        self.reserved += amount
        self.in_flight += 1
        if root:
            self.keep_for_last_call(amount)

    def keep_for_last_call(self, root_call: Amount) -> None:
        """Keep what the last call needs after a call of the root that cost so much."""
        self._largest_root = self._largest_root.elementwise_max(root_call)

    def settle(self, reserved: Amount, true: Amount) -> None:
        self.reserved -= reserved
        self.spent += true
        self.in_flight -= 1

    def amend(self, charged: Amount, true: Amount) -> None:
        """Replace what was charged at its estimate by the truth about it."""
        self.spent += true - charged

    def _final_call_reserve(self) -> Amount:
        return Amount(
            _share(self._largest_root.nano_usd, self.limit.nano_usd),
            _share(self._largest_root.tokens, self.limit.tokens),
            1 if 1 < self.limit.calls < UNLIMITED else 0,
        )


def _share(largest: int, limit: int) -> int:
    if limit == UNLIMITED:
        return 0
    return min(max(int(KEPT_BY_LARGEST * largest), int(KEPT_LEAST * limit)), int(KEPT_MOST * limit))
