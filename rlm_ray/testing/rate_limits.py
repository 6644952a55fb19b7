"""A strict provider: a script behind quotas, with the faults that real providers have.

    provider = StrictProvider(echo, Quota(rpm=60, tpm=10_000), Faults(error_rate=0.05, seed=1))
    with ModelServer(provider) as server: ...
    provider.ledger().tokens       # the truth, whatever usage it reported

It is itself a script. An answer that is dropped or slow was worked for, so it is charged.

How a strict provider decides: so many requests and tokens in any window of time, for each key.

Pure: the time comes in as an argument. A request is admitted on what is known before it is answered
(its input tokens, and `max_tokens` where the quota says so) and charged what it used in truth, so a
window may be overdrawn by outputs, as it may at real providers; the ledger shows by how much.
"""

from __future__ import annotations

import math
import random
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from rlm_ray.testing.responses import Drop, Failure, Hang, Outcome, Reply, Request, Script, Slow


@dataclass(frozen=True, slots=True)
class Burst:
    """From `start_s` to `stop_s` after the first request, this share of requests fails."""

    start_s: float
    stop_s: float
    status: int = 529
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong, by schedule and by chance; the same seed draws the same lots."""

    bursts: tuple[Burst, ...] = ()
    error_rate: float = 0.0
    errors: tuple[int, ...] = (500, 529)
    """Failures by chance have one of these statuses."""
    drop_rate: float = 0.0
    slow_rate: float = 0.0
    slow_s: float = 5.0
    hang_rate: float = 0.0
    hang_s: float = 60.0
    usage_factor: float = 1.0
    """Reported usage is the truth times this; the quota counts the truth."""
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Ledger:
    """What the provider knows to be true."""

    admitted: int = 0
    refused: Mapping[str, int] = field(default_factory=dict)
    """429s by what ran out: `requests`, `tokens`."""
    faults: Mapping[str, int] = field(default_factory=dict)
    """By status, `drop`, `slow`, `hang`."""
    tokens: int = 0
    """Input and output of all admitted requests."""
    peak_requests: int = 0
    """The most that any window of any key held."""
    peak_tokens: int = 0


class StrictProvider:
    """A script that admits what the quota of a key allows, and fails as `faults` say."""

    def __init__(
        self,
        script: Script,
        quota: Quota | None = None,
        faults: Faults | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._script = script
        self._quota = quota or Quota()
        self._faults = faults or Faults()
        self._clock = clock
        self._rng = random.Random(self._faults.seed)  # noqa: S311 - lots that can be drawn again, not secrets
        self._start: float | None = None
        self._windows: dict[str, SlidingWindow] = {}
        self._refused: Counter[str] = Counter()
        self._faulted: Counter[str] = Counter()
        self._admitted = self._tokens = self._peak_requests = self._peak_tokens = 0

    def __call__(self, request: Request) -> Outcome:
        now = self._clock()
        self._start = now if self._start is None else self._start
        status = self._failing(now - self._start)
        if status is not None:
            self._faulted[str(status)] += 1
            return _failure(status)
        window = self._windows.setdefault(request.api_key, SlidingWindow(self._quota))
        verdict = window.decide(now, self._asked(request))
        if verdict.refused is not None:
            self._refused[verdict.refused] += 1
            return _refusal(verdict)
        outcome = self._script(request)
        return self._charged(outcome, request, window, now)

    def ledger(self) -> Ledger:
        return Ledger(
            self._admitted,
            dict(self._refused),
            dict(self._faulted),
            self._tokens,
            self._peak_requests,
            self._peak_tokens,
        )

    def _failing(self, since_start_s: float) -> int | None:
        for burst in self._faults.bursts:
            if burst.start_s <= since_start_s < burst.stop_s and self._draw(burst.share):
                return burst.status
        return self._rng.choice(self._faults.errors) if self._draw(self._faults.error_rate) else None

    def _draw(self, share: float) -> bool:
        return share > 0 and self._rng.random() < share

    def _asked(self, request: Request) -> int:
        if not self._quota.reserve_max_tokens:
            return request.tokens
        asked = request.body.get("max_completion_tokens") or request.body.get("max_tokens") or 0
        return request.tokens + int(asked)

    def _charged(self, outcome: Outcome, request: Request, window: SlidingWindow, now: float) -> Outcome:
        reply = Reply(outcome) if isinstance(outcome, str) else outcome
        self._admitted += 1
        used = reply.usage(request).tokens if isinstance(reply, Reply) else request.tokens
        window.charge(now, used)
        self._tokens += used
        requests, tokens = window.used(now)
        self._peak_requests = max(self._peak_requests, requests)
        self._peak_tokens = max(self._peak_tokens, tokens)
        if not isinstance(reply, Reply):
            return reply
        return self._apply_network_faults(self._reported(reply, request, window.headers(now)))

    def _reported(self, reply: Reply, request: Request, headers: Mapping[str, str]) -> Reply:
        usage, factor = reply.usage(request), self._faults.usage_factor
        return replace(
            reply,
            prompt_tokens=round(usage.input_tokens * factor),
            completion_tokens=round(usage.output_tokens * factor),
            headers={**headers, **reply.headers},
        )

    def _apply_network_faults(self, reply: Reply) -> Outcome:
        """Return the answer as the network lets it through."""
        faults = self._faults
        for name, rate, outcome in (
            ("drop", faults.drop_rate, Drop(reply)),
            ("hang", faults.hang_rate, Hang(faults.hang_s)),
            ("slow", faults.slow_rate, Slow(reply, faults.slow_s)),
        ):
            if self._draw(rate):
                self._faulted[name] += 1
                return outcome
        return reply


def _failure(status: int) -> Failure:
    kind = "overloaded_error" if status == 529 else "server_error"
    return Failure(status, "the provider is overloaded or broken for now", kind)


def _refusal(verdict: Verdict) -> Failure:
    if math.isinf(verdict.retry_after_s):
        message = f"Request too large: it asks for more {verdict.refused} than the limit allows at all."
    else:
        message = f"Rate limit reached for {verdict.refused}. Try again in {verdict.retry_after_s:.3f}s."
    kind = verdict.refused or "requests"
    return Failure(429, message, kind, "rate_limit_exceeded", verdict.headers)


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
    """Says whether a request may pass, and if not, what ran out and when there is room again."""

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
        """Decide whether a request of so many tokens may pass now; nothing is charged."""
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
        """Return requests and tokens in the window that ends now."""
        self._expire(now)
        return len(self._uses), self._tokens

    def headers(self, now: float) -> dict[str, str]:
        """Return OpenAI's rate-limit headers; empty if the quota keeps its limits to itself."""
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
    """Write a time in OpenAI's way: `17ms`, `1.5s`, `6m0s`."""
    if seconds < 1:
        return f"{math.ceil(max(0.0, seconds) * 1_000)}ms"
    minutes, rest = divmod(seconds, 60)
    return f"{minutes:.0f}m{rest:.0f}s" if minutes else f"{rest:.3f}".rstrip("0").rstrip(".") + "s"
