"""A strict provider: a script behind quotas, with the faults that real providers have.

    provider = StrictProvider(echo, Quota(rpm=60, tpm=10_000), Faults(error_rate=0.05, seed=1))
    with ModelServer(provider) as server: ...
    provider.ledger().tokens       # the truth, whatever usage it reported

It is itself a script. An answer that is dropped or slow was worked for, so it is charged.
"""

from __future__ import annotations

import math
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from rlm_ray.testing.exchange import Drop, Failure, Hang, Outcome, Reply, Request, Script, Slow
from rlm_ray.testing.quota import Quota, SlidingWindow, Verdict


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
        self._lots = random.Random(self._faults.seed)  # noqa: S311 - lots that can be drawn again, not secrets
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
        return self._lots.choice(self._faults.errors) if self._draw(self._faults.error_rate) else None

    def _draw(self, share: float) -> bool:
        return share > 0 and self._lots.random() < share

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
        return self._carried(self._reported(reply, request, window.headers(now)))

    def _reported(self, reply: Reply, request: Request, headers: Mapping[str, str]) -> Reply:
        usage, factor = reply.usage(request), self._faults.usage_factor
        return replace(
            reply,
            prompt_tokens=round(usage.input_tokens * factor),
            completion_tokens=round(usage.output_tokens * factor),
            headers={**headers, **reply.headers},
        )

    def _carried(self, reply: Reply) -> Outcome:
        """The answer as the network lets it through."""
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
