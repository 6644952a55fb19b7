"""How long a provider that refused a request asks to wait, what its headers say of its limits, and whether a refusal is about every
call: the one place for these.

From the surest to the least sure:

1. `retry-after-ms` and `retry-after` (seconds, a span like `1m30s`, an HTTP date, a Unix time).
2. When the resource that is used up comes back: `x-ratelimit-reset-*`, `anthropic-ratelimit-*-reset`, plain
   `x-ratelimit-reset` and `ratelimit-reset`.
3. The body: `retryDelay` and its like as a field, "try again in 7m30s" as a sentence.

The answer is a finite number of seconds, above 0 and at most a day, or None. What cannot be meant (nan, infinity, below
0, a past moment) is as good as absent: whoever asks has a back-off of its own, and 0 would be a busy loop.

Of limits it understands OpenAI's `x-ratelimit-*` (resets like `6m0s`, `120ms`) and Anthropic's `anthropic-ratelimit-*` (resets as
timestamps). A header that cannot be read is as good as absent.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

MAX_WAIT_S = 86_400.0
"""Longer waits mean the same: not today."""
MAX_BODY_CHARS = 20_000
"""So much of a body is searched."""
EPOCH_S = 1e9
"""A larger number of seconds is a moment, in Unix time; times a thousand, in milliseconds."""

RESOURCES = ("requests", "tokens", "input_tokens", "output_tokens")
_PLAIN_RESETS = ("x-ratelimit-reset-after", "x-ratelimit-reset", "ratelimit-reset", "ratelimitbysize-reset")

_UNITS = (
    (0.001, ("ms", "msec", "msecs", "millisecond", "milliseconds")),
    (1.0, ("s", "sec", "secs", "second", "seconds")),
    (60.0, ("m", "min", "mins", "minute", "minutes")),
    (3600.0, ("h", "hr", "hrs", "hour", "hours")),
    (86_400.0, ("d", "day", "days")),
)
_UNIT_S = {name: seconds for seconds, names in _UNITS for name in names}
_NUMBER = r"\d{1,15}(?:\.\d{1,15})?"
_UNIT = "|".join(sorted(_UNIT_S, key=len, reverse=True))
_PART = re.compile(rf"({_NUMBER}) ?({_UNIT})(?![a-z])", re.IGNORECASE)
_SPAN = rf"{_NUMBER} ?(?:{_UNIT})(?![a-z])(?:,? ?(?:and )?{_NUMBER} ?(?:{_UNIT})(?![a-z]))*"
_FIELD = re.compile(
    rf"retry[-_ ]?(?:delay|after)(?:[-_ ]?(ms|milliseconds|s|sec|seconds))?\W{{1,6}}(?:seconds\W{{1,4}})?({_SPAN}|{_NUMBER})",
    re.IGNORECASE,
)
_SENTENCE = re.compile(
    rf"(?:try(?:ing)?(?: your request| this)?(?: again)?(?: later)?[,;:]? (?:in|after)|wait(?:ing)?(?: for)?|resets? in|available in)"
    rf" (?:about |around |another |at least |approximately )?({_SPAN})",
    re.IGNORECASE,
)


def retry_after_s(headers: Mapping[str, str], body: str, wall_s: float) -> float | None:
    """Return the seconds to wait after a refusal with these headers and this body; None where it does not say.

    `wall_s` is the time of day as a POSIX timestamp.
    """
    said = plain_names(headers)
    for seconds in (asked_s(said, wall_s), _reset_s(said, wall_s), _in_body_s(body[:MAX_BODY_CHARS])):
        if seconds:
            return seconds
    return None


def asked_s(said: Mapping[str, str], wall_s: float) -> float | None:
    """Return what `retry-after-ms` or `retry-after` says."""
    milliseconds = number(said.get("retry-after-ms"))
    if milliseconds is not None:
        return _bounded(milliseconds / 1000)
    return moment_s(said.get("retry-after"), wall_s)


def moment_s(text: str | None, wall_s: float) -> float | None:
    """Return the seconds from now: a number, a span like `1m30s`, an RFC 3339 timestamp, an HTTP date or a Unix time."""
    if not text:
        return None
    seconds = number(text)
    if seconds is not None:
        return _bounded(_from_epoch(seconds, wall_s))
    if re.fullmatch(_SPAN, text.strip(), re.IGNORECASE):
        return _bounded(_span_s(text))
    moment = _moment(text)
    return None if moment is None else _bounded(max(moment.timestamp() - wall_s, 0.0))


def plain_names(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers by lower-case names, without the prefix that litellm adds."""
    return {name.lower().removeprefix("llm_provider-"): value for name, value in headers.items()}


def about(said: Mapping[str, str], resource: str, fact: str) -> str | None:
    """Return the `limit`, `remaining` or `reset` of a resource."""
    dashed = resource.replace("_", "-")
    return said.get(f"x-ratelimit-{fact}-{dashed}") or said.get(f"anthropic-ratelimit-{dashed}-{fact}")


def number(text: str | None) -> float | None:
    """Read a finite number, 0 or more; None for any other text."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None


def _reset_s(said: Mapping[str, str], wall_s: float) -> float | None:
    """Return when what is used up comes back; the soonest reset where it is not said what is used up."""
    resets = {name: moment_s(about(said, name, "reset"), wall_s) for name in RESOURCES}
    used_up = [resets[name] for name in RESOURCES if number(about(said, name, "remaining")) == 0]
    known = _given_waits(used_up)
    if known:
        return max(known)
    plain = _given_waits(moment_s(said.get(name), wall_s) for name in _PLAIN_RESETS)
    if plain:
        return plain[0]
    unsaid = _given_waits(resets[name] for name in RESOURCES if about(said, name, "remaining") is None)
    return min(unsaid, default=None)


def _in_body_s(body: str) -> float | None:
    field = _FIELD.search(body)
    if field is not None:
        unit, text = field.groups()
        plain = number(text)
        seconds = _span_s(text) if plain is None else plain * _UNIT_S[(unit or "s").lower()]
        if seconds:
            return _bounded(seconds)
    sentence = _SENTENCE.search(body)
    return None if sentence is None else _bounded(_span_s(sentence[1]))


def _given_waits(waits: Iterable[float | None]) -> list[float]:
    return [seconds for seconds in waits if seconds]


def _span_s(text: str) -> float:
    return math.fsum(float(amount) * _UNIT_S[unit.lower()] for amount, unit in _PART.findall(text))


def _from_epoch(seconds: float, wall_s: float) -> float:
    if seconds >= EPOCH_S * 1000:
        seconds /= 1000
    return max(seconds - wall_s, 0.0) if seconds >= EPOCH_S else seconds


def _bounded(seconds: float) -> float:
    return min(seconds, MAX_WAIT_S)


def _moment(text: str) -> datetime | None:
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            moment = read(text)
        except (ValueError, OverflowError):
            continue
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return None


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
