"""How many requests of one account may be in flight at once: a `ConcurrencyLimit` that finds it out.

1. It starts small and doubles after each clean round that used it, until the first refusal.
2. A refusal opens an *episode*: the limit is cut once, to 0.8 of the level at which the provider refused, and
   not again for 15 s. Refusals of what was in flight at the cut only make that level more exact; of what was
   sent later, they take another step down, 2 %.
3. Then it grows 5 % for each clean round that used at least 80 % of it, and stops one below the level that was
   refused. It *probes* above that level rarely; a failed probe costs that probe, not another cut, and makes the
   next one rarer. A probe that holds opens the way up, faster with each clean round.
4. Where nothing that was sent after the cut is served, but one after the other is refused, the number in flight
   was not the reason: the cut is undone, and the account looks for a rate.
5. A server error begins the round anew and cuts nothing. A refusal about the rate (the provider says when, or a bucket is
   empty) is handled in `account.py`.

A round is as many answers as the limit.
"""

from __future__ import annotations

import math

START_LIMIT = 20
MAX_LIMIT = 10_000
CUT_FACTOR = 0.8
STEP_DOWN = 0.02
GROWTH = 0.05
MAX_GROWTH = 0.2
MIN_UTILIZATION = 0.8
UNEXPLAINED_RATIO = 0.6
MAX_REJECTIONS_IN_A_ROW = 5
COOLDOWN_S = 15.0
PROBE_AFTER_ANSWERS = 50
MAX_PROBE_AFTER = 1600


class ConcurrencyLimit:
    """Limits the requests in flight of one account; `max_limit` is the user's own limit."""

    __slots__ = (
        "_answers",
        "_cut_at",
        "_cut_level",
        "_growth",
        "_highest",
        "_known_limit",
        "_limit_before_cut",
        "_probe_after",
        "_reacted_at",
        "_rejections_in_a_row",
        "_since_refused",
        "in_flight",
        "max_limit",
        "size",
    )  # fmt: skip

    def __init__(self, max_limit: int | None = None, start: int = START_LIMIT) -> None:
        self.max_limit = MAX_LIMIT if max_limit is None else max_limit
        self.size = float(start)
        self.in_flight = 0
        self._growth = 1.0
        self._known_limit = self._cut_level = math.inf
        self._cut_at = self._reacted_at = -math.inf
        self._answers = self._since_refused = self._highest = 0
        self._probe_after = PROBE_AFTER_ANSWERS
        self._rejections_in_a_row = 0
        self._limit_before_cut = self.size

    @property
    def limit(self) -> int:
        return max(int(min(self.size, self.max_limit)), 1)

    @property
    def open(self) -> bool:
        return self.in_flight < self.limit

    def acquire(self) -> None:
        """Count one more in flight."""
        self.in_flight += 1
        self._highest = max(self._highest, self.in_flight)

    def release(self) -> None:
        self.in_flight -= 1

    def on_success(self, now: float, granted_at: float = math.inf) -> None:
        """Count a request that was served: a step towards the end of a clean round."""
        if granted_at > self._cut_at:
            self._rejections_in_a_row = 0
        self._answers += 1
        self._since_refused += 1
        if self._answers >= self.limit:
            if self._highest >= MIN_UTILIZATION * self.limit:
                self._widen(now)
            self._start_round()

    def failed(self) -> None:
        """Begin the round anew after a server error: only clean rounds let it grow."""
        self._start_round()

    def on_rejected(self, granted_at: float, now: float) -> bool:
        """Learn from a refusal; the refused request is no longer counted. False where the number in flight does not
        explain it: far fewer are in flight than the limit was just cut to, so something else is short."""
        level = self.in_flight + 1
        if granted_at <= self._reacted_at:
            if self._reacted_at == self._cut_at:
                self._cut(min(level, self._cut_level))
            return True
        cooling = now - self._cut_at < COOLDOWN_S
        self._rejections_in_a_row += 1
        if cooling and level < UNEXPLAINED_RATIO * self._cut_level:
            return False
        if self._rejections_in_a_row > MAX_REJECTIONS_IN_A_ROW:
            self._undo(now)
            return False
        self._reacted_at, self._since_refused = now, 0
        if self.size >= self._known_limit:
            self._probe_after = min(self._probe_after * 2, MAX_PROBE_AFTER)
            self._step_down(level)
        elif cooling:
            self._step_down(level)
        else:
            self._cut_at, self._limit_before_cut = now, self.size
            self._cut(min(level, self.size))
        self._growth = GROWTH
        self._start_round()
        return True

    def _cut(self, level: float) -> None:
        self._known_limit = self._cut_level = max(level, 2.0)
        self.size = max(min(self.size, CUT_FACTOR * self._known_limit), 1.0)

    def _undo(self, now: float) -> None:
        self.size, self._reacted_at = max(self.size, self._limit_before_cut), now
        self._known_limit, self._probe_after = math.inf, PROBE_AFTER_ANSWERS
        self._start_round()

    def _step_down(self, level: float) -> None:
        self._known_limit = max(min(level, self.size, self._known_limit), 2.0)
        self.size = max(min(self.size - 1, self._known_limit - 1, (1 - STEP_DOWN) * self.size), 1.0)

    def _widen(self, now: float) -> None:
        if self._highest >= self._known_limit <= self.size:
            self._known_limit, self._probe_after = math.inf, max(self._probe_after // 2, PROBE_AFTER_ANSWERS)
        if self._known_limit == math.inf:
            self.size = max(self.size * (1 + self._growth), self.size + 1)
            self._growth = self._growth if self._growth == 1 else min(self._growth * 2, MAX_GROWTH)
        elif self.size < self._known_limit - 1:
            self.size = min(max(self.size * (1 + GROWTH), self.size + 1), self._known_limit - 1)
        elif now - self._reacted_at >= COOLDOWN_S and self._since_refused >= self._probe_after:
            self.size, self._since_refused = (
                max(self._known_limit, (1 + STEP_DOWN) * (self._known_limit - 1)),
                0,
            )
        self.size = min(self.size, float(self.max_limit))

    def _start_round(self) -> None:
        self._answers, self._highest = 0, self.in_flight
