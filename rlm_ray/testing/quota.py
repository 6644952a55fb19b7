"""How a strict provider decides: so many requests and tokens in any window of time, for each key.

Pure: the time comes in as an argument. A request is admitted on what is known before it is answered
(its input tokens, and `max_tokens` where the quota says so) and charged what it used in truth, so a
window may be overdrawn by outputs, as it may at real providers; the ledger shows by how much.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Resource: TypeAlias = Literal["requests", "tokens"]


@dataclass(frozen=True, slots=True)
class Quota:
    """Limits of one key. None: no limit."""

    rpm: int | None = None
    """Requests in any window, which is a minute unless `window_s` says otherwise."""
    tpm: int | None = None
    window_s: float = 60.0
    headers: bool = True
    """Tell the client its limits and what remains, as OpenAI does."""
    reserve_max_tokens: bool = False
    """Ask for room for `max_tokens` too before a request is admitted."""
    count_refused: bool = False
    """Refused requests use up requests as well."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a request may pass, and if not, what ran out and when there is room again."""

    refused: Resource | None = None
    retry_after_s: float = 0.0
    """`inf` where waiting never helps: the request is larger than the whole limit."""
    headers: Mapping[str, str] = field(default_factory=dict)


class SlidingWindow:
    """What one key used in the last `window_s` seconds."""

    def __init__(self, quota: Quota) -> None:
        self._quota = quota
        self._uses: deque[tuple[float, int]] = deque()
        self._tokens = 0

    def decide(self, now: float, tokens: int) -> Verdict:
        """Whether a request of so many tokens may pass now; nothing is charged."""
        self._expire(now)
        waits: list[tuple[float, Resource]] = []
        if self._quota.rpm is not None and len(self._uses) >= self._quota.rpm:
            waits.append((self._wait_for_requests(now), "requests"))
        if self._quota.tpm is not None and self._tokens + tokens > self._quota.tpm:
            waits.append((self._wait_for_tokens(now, tokens), "tokens"))
        if not waits:
            return Verdict(headers=self.headers(now))
        return self._refuse(now, *max(waits))

    def charge(self, now: float, tokens: int) -> None:
        """Count a request that used so many tokens."""
        self._expire(now)
        self._uses.append((now, tokens))
        self._tokens += tokens

    def used(self, now: float) -> tuple[int, int]:
        """Requests and tokens in the window that ends now."""
        self._expire(now)
        return len(self._uses), self._tokens

    def headers(self, now: float) -> dict[str, str]:
        """OpenAI's rate-limit headers; empty if the quota keeps its limits to itself."""
        quota = self._quota
        requests, tokens = self.used(now)
        reset = duration(self._uses[-1][0] + quota.window_s - now if self._uses else 0.0)
        found: dict[str, str] = {}
        for name, limit, used in (("requests", quota.rpm, requests), ("tokens", quota.tpm, tokens)):
            if quota.headers and limit is not None:
                found[f"x-ratelimit-limit-{name}"] = str(limit)
                found[f"x-ratelimit-remaining-{name}"] = str(max(0, limit - used))
                found[f"x-ratelimit-reset-{name}"] = reset
        return found

    def _refuse(self, now: float, wait_s: float, resource: Resource) -> Verdict:
        if self._quota.count_refused:
            self.charge(now, 0)
        headers = self.headers(now)
        if self._quota.headers and math.isfinite(wait_s):
            headers["retry-after"] = str(max(1, math.ceil(wait_s)))
            headers["retry-after-ms"] = str(math.ceil(wait_s * 1_000))
        return Verdict(resource, wait_s, headers)

    def _wait_for_requests(self, now: float) -> float:
        if not self._quota.rpm:
            return math.inf
        last_in_the_way = self._uses[len(self._uses) - self._quota.rpm][0]
        return last_in_the_way + self._quota.window_s - now

    def _wait_for_tokens(self, now: float, tokens: int) -> float:
        missing = self._tokens + tokens - (self._quota.tpm or 0)
        for used_at, used in self._uses:
            missing -= used
            if missing <= 0:
                return used_at + self._quota.window_s - now
        return math.inf

    def _expire(self, now: float) -> None:
        while self._uses and self._uses[0][0] + self._quota.window_s <= now:
            self._tokens -= self._uses.popleft()[1]


def duration(seconds: float) -> str:
    """A time in OpenAI's way: `17ms`, `1.5s`, `6m0s`."""
    if seconds < 1:
        return f"{math.ceil(max(0.0, seconds) * 1_000)}ms"
    minutes, rest = divmod(seconds, 60)
    return f"{minutes:.0f}m{rest:.0f}s" if minutes else f"{rest:.3f}".rstrip("0").rstrip(".") + "s"
