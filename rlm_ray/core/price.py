"""What a model's tokens cost."""

from __future__ import annotations

from dataclasses import dataclass

from rlm_ray.core.model import Usage


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per token, the same for any amount."""

    input_usd: float
    output_usd: float
    cached_usd: float
    """Input served from the provider's prefix cache."""

    def of(self, usage: Usage) -> float:
        fresh = usage.input_tokens - usage.cached_tokens
        return (
            fresh * self.input_usd
            + usage.cached_tokens * self.cached_usd
            + usage.output_tokens * self.output_usd
        )
