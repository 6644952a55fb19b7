"""`Alone` is how one process goes on while nobody can be asked: at half of the rate it was given of late.

Half of each process's share is at most half of the account's rate together, whoever else is alone too; so the
account stays within its limit until the admission is back and for the minute after.

This is where aiolimiter paces: one request at a time, on one loop, with a period of a second. (In the admission
itself a `Meter` does, for refunds, debts and a virtual clock.)
"""

from __future__ import annotations

from collections import deque

from aiolimiter import AsyncLimiter

LATELY_S = 10.0
LEAST_PER_S = 0.1
SHARE = 0.5


class Alone:
    """Remembers what was granted by the admission, and paces by half of it."""

    __slots__ = ("_granted", "_limiters")

    def __init__(self) -> None:
        self._granted: dict[str, deque[float]] = {}
        self._limiters: dict[str, AsyncLimiter] = {}

    def granted(self, account_key: str, now: float) -> None:
        """By the admission, not here."""
        moments = self._granted.setdefault(account_key, deque(maxlen=10_000))
        moments.append(now)
        while moments[0] < now - LATELY_S:
            moments.popleft()

    def begin(self, now: float) -> None:
        """From now on nobody can be asked."""
        self._limiters = {key: _limiter(len(self._late(key, now)) / LATELY_S) for key in self._granted}

    async def take(self, account_key: str) -> bool:
        """Whether one more request may go now; never waits."""
        limiter = self._limiters.get(account_key)
        if limiter is None:
            limiter = self._limiters[account_key] = _limiter(0.0)
        if not limiter.has_capacity():
            return False
        await limiter.acquire()
        return True

    def _late(self, account_key: str, now: float) -> list[float]:
        return [moment for moment in self._granted[account_key] if moment >= now - LATELY_S]


def _limiter(granted_per_s: float) -> AsyncLimiter:
    per_s = max(SHARE * granted_per_s, LEAST_PER_S)
    burst = max(per_s, 1.0)
    return AsyncLimiter(burst, burst / per_s)
