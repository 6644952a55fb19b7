"""What a model's tokens cost."""

from __future__ import annotations

from dataclasses import dataclass

from rlm_ray.core.model import Usage


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens, the same for any amount."""

    input_usd: float
    output_usd: float
    cached_usd: float | None = None
    """Input served from the provider's prefix cache; None: as other input."""

    def of(self, usage: Usage) -> float:
        """US dollars for this usage."""
        cached_usd = self.input_usd if self.cached_usd is None else self.cached_usd
        fresh = usage.input_tokens - usage.cached_tokens
        spent = (
            fresh * self.input_usd + usage.cached_tokens * cached_usd + usage.output_tokens * self.output_usd
        )
        return spent / 1e6
