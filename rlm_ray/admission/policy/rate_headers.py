"""Reads what a provider says about its limits in the headers of an answer.

Understands OpenAI's `x-ratelimit-*` (resets like `6m0s`, `120ms`) and Anthropic's `anthropic-ratelimit-*` (resets as
timestamps); `core/retry_after.py` reads how long to wait. A header that cannot be read is as good as absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rlm_ray.core.retry_after import RESOURCES, about, asked_s, moment_s, number, plain_names


@dataclass(frozen=True, slots=True)
class RateLimitHeaders:
    """All per minute, None where the provider did not say."""

    limits: Mapping[str, float]
    """By resource: `requests`, `tokens`, `input_tokens`, `output_tokens`."""
    exhausted_resource: str | None = None
    """The resource of which nothing remains, the slowest to come back first."""
    retry_after_s: float | None = None
    """How long to wait; from now."""


def parse_rate_limit_headers(headers: Mapping[str, str], wall_s: float) -> RateLimitHeaders | None:
    """Read `headers`; `wall_s` is the time of day as a POSIX timestamp. None where they say nothing."""
    said = plain_names(headers)
    limits: dict[str, float] = {}
    resets: dict[str, float] = {}
    for resource in RESOURCES:
        limit = number(about(said, resource, "limit"))
        if limit is not None and limit > 0:
            limits[resource] = limit
        if number(about(said, resource, "remaining")) == 0:
            resets[resource] = moment_s(about(said, resource, "reset"), wall_s) or 0.0
    retry_after_s = asked_s(said, wall_s)
    if not limits and not resets and retry_after_s is None:
        return None
    return RateLimitHeaders(limits, max(resets, key=resets.__getitem__, default=None), retry_after_s)
