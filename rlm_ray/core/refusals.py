"""Whether a refused key or an unknown model is about one call, or about every further one too.

A provider that has answered and refuses one call (a proxy that stumbles, an adapter that is swapped, a page it moderates
with a 403) says nothing about the next; a key that was never taken, or refusal after refusal, does.
"""

from __future__ import annotations

MAX_IN_A_ROW = 8
"""So many without an answer between them are about all."""


class Refusals:
    """Counts the refusals since the last answer."""

    def __init__(self) -> None:
        self.has_answered = False
        self._in_a_row = 0

    def answered(self) -> None:
        self.has_answered = True
        self._in_a_row = 0

    def refused(self) -> bool:
        """Count one more. True where every further call is to be expected to meet it, too."""
        self._in_a_row += 1
        return not self.has_answered or self._in_a_row >= MAX_IN_A_ROW
