"""A `TokenBucket` keeps one quota per minute (requests, tokens) of one account.

It is neither a queue nor a clock: it says how long an amount has to wait, and counts what was sent.

1. Two rules at once. The *ledger* remembers what was sent in the last `WINDOW_S` seconds and never lets it pass
   the limit: a provider that counts a sliding minute, or a fixed one, never sees more, from the first minute
   on. The *bucket* spreads it: it fills at the limit's rate and holds one second of it, so there is no burst
   at the start of each minute. Pacing alone would have to run below the limit by its burst; the ledger
   makes it exact, and full use costs only `WINDOW_S - 60`.
2. `WINDOW_S` is more than a minute by what the way to the provider may vary (grant to arrival): two requests
   sent 60.5 s apart may arrive 60 s apart.
3. Amounts are taken by estimate and corrected by truth in the slot they were sent in: a refund frees room at
   once, a debt is paid off before anything else goes.
4. An amount larger than the bucket goes when the bucket is full and leaves a debt; one larger than the whole
   limit goes when the ledger is empty. While one waits, the bucket may fill up to it, so that the wait is not
   paid for twice.
5. The limit is the smallest of what the user declared, what the provider's headers said, and what was found.
   Found means: refused, the limit is what got through; held, it is tried again a little higher, later.

aiolimiter is the same bucket for one event loop (`admission/degraded_mode.py` paces with it while the admission is gone);
here are refund, debt and a virtual clock, which it has not.

An `EstimateCalibrator` turns a caller's estimate of tokens into what the rate should reserve for it.

Callers estimate for the worst (`max_tokens` of output, characters divided by four of input); kept as they are,
such estimates leave a good part of the quota unused while a call is under way. So the rate learns how true
answers compare. The budget does not: it reserves the worst case.
"""

from __future__ import annotations

import math

WINDOW_S = 60.5
BIN_S = 0.1
BURST_S = 1.0
RECENT_S = 10.0
MIN_BACKOFF_FACTOR, MAX_BACKOFF_FACTOR = 0.7, 0.98
PROBE_AFTER_S = 60.0
MAX_PROBE_INTERVAL_S = 480.0
PROBE_STEP = 1.02
GROW_AFTER_S = 5.0
GROW_STEP = 1.2


DECAY = 0.98
MAX_MULTIPLIER = 4.0


class TokenBucket:
    """Keeps one quota per minute."""

    __slots__ = (
        "_bucket",
        "_bucket_at",
        "_ceiling",
        "_declared_limit",
        "_fixed_window",
        "_found_limit",
        "_grown_at",
        "_header_limit",
        "_limit_before_429",
        "_probe_interval_s",
        "_rate_since",
        "_refused_at",
        "_resumed_at",
        "_slots",
        "_started_at",
        "_total",
        "_waiting",
        "limit",
    )  # fmt: skip

    def __init__(self) -> None:
        self.limit = math.inf
        """Per minute, in force now."""
        self._declared_limit = self._header_limit = self._found_limit = math.inf
        self._ceiling = self._limit_before_429 = math.inf
        self._refused_at = -math.inf
        self._probe_interval_s = PROBE_AFTER_S / 2
        self._bucket = math.inf
        self._bucket_at = 0.0
        self._waiting = 0.0
        self._slots: dict[int, float] = {}
        self._total = 0.0
        self._started_at: float | None = None
        self._resumed_at = self._rate_since = 0.0
        self._fixed_window = False
        self._grown_at = 0.0

    def declare(self, per_minute: float | None) -> None:
        """Set the user's limit; what was found before is dropped."""
        declared = math.inf if per_minute is None else per_minute
        if declared != self._declared_limit:
            self._declared_limit, self._found_limit, self._ceiling = declared, math.inf, math.inf
            self._set_limit()

    def on_header_limit(self, per_minute: float) -> None:
        """Set the limit that the provider's headers say."""
        if per_minute != self._header_limit:
            self._header_limit = per_minute
            self._set_limit()

    def used_last_minute(self, now: float) -> float:
        """Return what was sent in the last minute, true amounts where they are known."""
        self._drop_old_slots(now)
        return self._total

    def utilization(self, now: float) -> float:
        """Return the share of the limit that is used, 0 where there is no limit."""
        return self.used_last_minute(now) / self.limit

    def wait_s(self, amount: float, now: float) -> float:
        """Return the seconds until `amount` may go: 0 for now, a lower bound otherwise. Asking marks it as the next to go."""
        if self.limit == math.inf or amount <= 0:
            return 0.0
        self._drop_old_slots(now)
        self._refill(now)
        self._waiting = amount
        wait = (min(amount, self._burst) - self._bucket) / self._rate
        if self._total + min(amount, self.limit) > self.limit * (1 + 1e-9):
            oldest = next(iter(self._slots), None)
            freed_at = now if oldest is None else (oldest + 1) * BIN_S + WINDOW_S
            wait = max(wait, freed_at - now, BIN_S / 10)
        return max(wait, 0.0) if wait > 1e-9 else 0.0

    def take(self, amount: float, now: float) -> int:
        """Count `amount` as sent now; returns the slot of time for `reconcile`."""
        self._drop_old_slots(now)
        if self.limit < math.inf:
            self._refill(now)
        if self._started_at is None:
            self._started_at = self._resumed_at = self._rate_since = now
        slot = int(now / BIN_S)
        self._slots[slot] = self._slots.get(slot, 0.0) + amount
        self._total += amount
        self._bucket -= amount
        self._waiting = 0.0
        return slot

    def reconcile(self, slot: int, difference: float, now: float) -> None:
        """Correct an amount taken before by true minus estimate: below 0 a refund, above a debt."""
        if self.limit < math.inf:
            self._refill(now)
        self._bucket -= difference
        if slot in self._slots:
            self._slots[slot] += difference
            self._total += difference

    def pause(self, until: float) -> None:
        """Let nothing accrue before `until`: what waits then is released at the pace, not in one burst."""
        if self.limit < math.inf:
            self._bucket, self._bucket_at = min(self._bucket, 0.0), max(until, self._bucket_at)

    def refused(self, wait_s: float, granted_at: float, now: float, *, pause_failed: bool = False) -> None:
        """Learn from a request refused for this quota, which should wait: what got through is the limit. The refusals that
        were under way with the first one belong to it, and make the count of what got through exact. `pause_failed`:
        a pause before did not help, so nothing refills here: it is a minute that is counted."""
        turned = pause_failed and not self._fixed_window
        self._fixed_window |= pause_failed
        first = granted_at > self._refused_at
        if first:
            self._limit_before_429, self._refused_at, self._rate_since = self.limit, now, self._resumed_at
            self._probe_interval_s = min(self._probe_interval_s * 2, MAX_PROBE_INTERVAL_S)
            if self.limit == math.inf:
                self._fixed_window = self._seems_to_count_minutes(wait_s, now)
        through = self.used_last_minute(now)
        if not self._fixed_window:
            through = max(through, self._recent_per_minute(now))
        if self._limit_before_429 < math.inf and not turned:
            through = min(
                max(through, MIN_BACKOFF_FACTOR * self._limit_before_429),
                MAX_BACKOFF_FACTOR * self._limit_before_429,
            )
        self._found_limit = max(through if first else min(self._found_limit, through), 1.0)
        self._ceiling = self._found_limit if self._fixed_window else self._limit_before_429
        self._resumed_at = now + wait_s
        self._grown_at = self._resumed_at
        self._set_limit()

    def probe_up(self, now: float) -> None:
        """Try a little more, where a found limit was kept to and fully used for long enough."""
        if self._found_limit >= min(self._declared_limit, self._header_limit):
            return
        near = self._found_limit >= 0.95 * self._ceiling and self._ceiling < math.inf
        if now - self._grown_at < (self._probe_interval_s if near else GROW_AFTER_S) or not self._busy(now):
            return
        self._found_limit *= GROW_STEP if self._ceiling == math.inf else PROBE_STEP
        if self._found_limit > 1.03 * self._ceiling:  # the ceiling is gone: nothing was refused above it
            self._ceiling, self._probe_interval_s = math.inf, PROBE_AFTER_S / 2
        self._grown_at = now
        self._set_limit()

    def _busy(self, now: float) -> bool:
        recent = self._recent_per_minute(now)
        return recent >= 0.8 * self.limit or self.utilization(now) >= 0.95

    def _seems_to_count_minutes(self, wait_s: float, now: float) -> bool:
        """Tell which of two kinds of providers this is. One counts a minute: what went out in it *is* the limit, and it asks to wait
        until the minute has passed. The other refills all the time and asks for a short wait: there the rate
        of late tells."""
        seen_s = now - (now if self._started_at is None else self._started_at)
        return seen_s >= 60 or wait_s >= (60 - seen_s) / 2

    def _recent_per_minute(self, now: float) -> float:
        """Return the rate since sending last resumed, over at most 10 s."""
        started_at = max(now - RECENT_S, min(self._rate_since, now))
        first = int(started_at / BIN_S)
        amount = 0.0
        for slot in reversed(self._slots):
            if slot < first:
                break
            amount += self._slots[slot]
        return amount * 60 / max(now - started_at, 1.0)

    @property
    def _rate(self) -> float:
        return self.limit / 60

    @property
    def _burst(self) -> float:
        return max(self._rate * BURST_S, 1.0)

    def _set_limit(self) -> None:
        self.limit = min(self._declared_limit, self._header_limit, self._found_limit)
        self._bucket = min(self._bucket, self._burst) if self.limit < math.inf else math.inf

    def _refill(self, now: float) -> None:
        if self.limit < math.inf and now > self._bucket_at:
            most = max(self._burst, min(self._waiting, self.limit))
            self._bucket = min(self._bucket + (now - self._bucket_at) * self._rate, most)
            self._bucket_at = now

    def _drop_old_slots(self, now: float) -> None:
        last = int((now - WINDOW_S) / BIN_S) - 1
        while self._slots:
            slot = next(iter(self._slots))
            if slot > last:
                return
            self._total -= self._slots.pop(slot)
        self._total = 0.0  # whatever rounding left


class EstimateCalibrator:
    """Tracks true divided by estimated, as a moving mean with its spread. Starts at 1."""

    __slots__ = ("_estimated", "_seen", "_true", "_variance")

    def __init__(self) -> None:
        self._estimated = self._true = 0.0
        self._variance = 0.0
        self._seen = 0

    def learn(self, estimated: float, true: float) -> None:
        if estimated <= 0:
            return
        self._seen += 1
        self._estimated = DECAY * self._estimated + estimated
        self._true = DECAY * self._true + true
        off = true / estimated - self._true / self._estimated
        self._variance = DECAY * self._variance + (1 - DECAY) * off * off

    def multiplier(self, under_way: int) -> float:
        """Return what to multiply an estimate by, so that `under_way` of them together are rarely too small."""
        if self._seen < 10:
            return 1.0
        spread = 2 * math.sqrt(self._variance / max(under_way, 1))
        return min(self._true / self._estimated + spread, MAX_MULTIPLIER)
