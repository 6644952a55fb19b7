"""What a provider says about its limits in the headers of an answer, as one value.

Understands OpenAI's `x-ratelimit-*` (resets like `6m0s`, `120ms`), Anthropic's `anthropic-ratelimit-*` (resets
as timestamps), `retry-after-ms`, `retry-after` in seconds or as an HTTP date; each also with the prefix
`llm_provider-` that litellm adds. A header that cannot be read is as good as absent.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

RESOURCES = ("requests", "tokens", "input_tokens", "output_tokens")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")


@dataclass(frozen=True, slots=True)
class RateFacts:
    """All per minute, None where the provider did not say."""

    limits: Mapping[str, float]
    """By resource: `requests`, `tokens`, `input_tokens`, `output_tokens`."""
    exhausted: str | None = None
    """The resource of which nothing remains, the slowest to come back first."""
    retry_after_s: float | None = None
    """How long to wait; from now."""


def rate_facts(headers: Mapping[str, str], wall_s: float) -> RateFacts | None:
    """Read `headers`; `wall_s` is the time of day as a POSIX timestamp. None where they say nothing."""
    said = {name.lower().removeprefix("llm_provider-"): value for name, value in headers.items()}
    limits: dict[str, float] = {}
    resets: dict[str, float] = {}
    for resource in RESOURCES:
        limit = _number(_about(said, resource, "limit"))
        if limit is not None and limit > 0:
            limits[resource] = limit
        if _number(_about(said, resource, "remaining")) == 0:
            resets[resource] = _seconds(_about(said, resource, "reset"), wall_s) or 0.0
    retry_after_s = _retry_after_s(said, wall_s)
    if not limits and not resets and retry_after_s is None:
        return None
    return RateFacts(limits, max(resets, key=resets.__getitem__, default=None), retry_after_s)


def _about(said: Mapping[str, str], resource: str, fact: str) -> str | None:
    dashed = resource.replace("_", "-")
    return said.get(f"x-ratelimit-{fact}-{dashed}") or said.get(f"anthropic-ratelimit-{dashed}-{fact}")


def _retry_after_s(said: Mapping[str, str], wall_s: float) -> float | None:
    milliseconds = _number(said.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    return _seconds(said.get("retry-after"), wall_s)


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _seconds(text: str | None, wall_s: float) -> float | None:
    """Seconds from now: a number, a span like `1m30s`, an RFC 3339 timestamp or an HTTP date."""
    if not text:
        return None
    number = _number(text)
    if number is not None:
        return number
    spans = _SPAN.findall(text)
    if spans and "".join(amount + unit for amount, unit in spans) == text.strip():
        return math.fsum(float(amount) * _UNIT_S[unit] for amount, unit in spans)
    moment = _moment(text)
    return None if moment is None else max(moment.timestamp() - wall_s, 0.0)


def _moment(text: str) -> datetime | None:
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            moment = read(text)
        except ValueError:
            continue
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return None
