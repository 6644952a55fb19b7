"""How a job stands, in numbers that only grow."""

from __future__ import annotations

from dataclasses import dataclass

from rlm_ray.corpus.outcome import Outcome


@dataclass(slots=True)
class Figures:
    """Counts of rows and of what they used; written by one thread, read by any."""

    earlier: int = 0
    """Rows that were done before, and not asked again."""
    failed_earlier: int = 0
    """Those of them that had failed."""
    answered: int = 0
    failed: int = 0
    under_way: int = 0
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0
    unpriced: int = 0
    """Rows whose cost is not known."""
    read: int = 0
    """Rows read so far."""
    share: float | None = None
    """How much of the corpus that is; None where nobody knows."""
    limit: int | None = None

    @property
    def done(self) -> int:
        """In this life."""
        return self.answered + self.failed

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    @property
    def expected(self) -> float | None:
        """Rows in all, as far as can be told by now."""
        known = self.read / self.share if self.share and self.read else None
        if self.limit is None:
            return known
        return self.limit if known is None else min(known, self.limit)

    def add(self, outcome: Outcome) -> None:
        if outcome.error is None:
            self.answered += 1
        else:
            self.failed += 1
        self.calls += outcome.calls
        self.input_tokens += outcome.input_tokens
        self.output_tokens += outcome.output_tokens
        self.cost_usd += outcome.cost_usd or 0.0
        self.unpriced += outcome.cost_usd is None and outcome.calls > 0
