"""A `Forecast` turns a caller's estimate of tokens into what the rate should keep free for it.

Callers estimate for the worst (`max_tokens` of output, characters divided by four of input); kept as they are,
such estimates leave a good part of the quota unused while a call is under way. So the rate learns how true
answers compare. The budget does not: it reserves the worst case.
"""

from __future__ import annotations

import math

MEMORY = 0.98
LEAST, MOST = 0.02, 4.0


class Forecast:
    """True divided by estimated, as a mean that forgets, with its spread. Starts by believing the estimate."""

    __slots__ = ("_estimated", "_seen", "_true", "_variance")

    def __init__(self) -> None:
        self._estimated = self._true = 0.0
        self._variance = 0.0
        self._seen = 0

    def learn(self, estimated: float, true: float) -> None:
        if estimated <= 0:
            return
        self._seen += 1
        self._estimated = MEMORY * self._estimated + estimated
        self._true = MEMORY * self._true + true
        off = true / estimated - self._true / self._estimated
        self._variance = MEMORY * self._variance + (1 - MEMORY) * off * off

    def factor(self, under_way: int) -> float:
        """What to multiply an estimate by, so that `under_way` of them together are rarely too small."""
        if self._seen < 10:
            return 1.0
        spread = 2 * math.sqrt(self._variance / max(under_way, 1))
        return min(max(self._true / self._estimated + spread, LEAST), MOST)
