"""A provider and its callers in virtual time: what an `AdmissionController` gets out of a quota, without a network.

`simulate` keeps a backlog of requests before an `AdmissionController`, sends what is granted to a provider after a random way
there, and settles what comes back. Nothing sleeps; a minute costs as long as its events take to compute.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from rlm_ray.admission.controller import AdmissionController
from rlm_ray.admission.protocol import AttemptOutcome, Granted, PermitRequest, RunPolicy, Settle
from rlm_ray.core.limits import Limits, Rates
from rlm_ray.core.llm import Usage
from rlm_ray.core.retry_after import RateLimitHeaders


class Provider(Protocol):
    """Says yes (None) or how many seconds to wait (infinity: no word about that)."""

    def arrive(self, tokens: int, now: float) -> float | None: ...

    def leave(self) -> None: ...


class SlidingProvider:
    """Counts requests and tokens of the last 60 s, exactly, as they arrive."""

    def __init__(self, rpm: float = math.inf, tpm: float = math.inf) -> None:
        self.rpm, self.tpm = rpm, tpm
        self._log: deque[tuple[float, int]] = deque()
        self._tokens = 0

    def arrive(self, tokens: int, now: float) -> float | None:
        while self._log and self._log[0][0] <= now - 60:
            self._tokens -= self._log.popleft()[1]
        if len(self._log) + 1 > self.rpm or self._tokens + tokens > self.tpm:
            return self._log[0][0] + 60 - now
        self._log.append((now, tokens))
        self._tokens += tokens
        return None

    def leave(self) -> None: ...


class RefillingProvider:
    """A token bucket that holds `burst_s` seconds of its rate."""

    def __init__(self, rpm: float, burst_s: float = 1.0, *, says: bool = True) -> None:
        self.rate, self.most, self.says = rpm / 60, max(rpm / 60 * burst_s, 1.0), says
        self._level, self._at = self.most, 0.0

    def arrive(self, tokens: int, now: float) -> float | None:  # noqa: ARG002 - it counts requests only
        self._level = min(self._level + (now - self._at) * self.rate, self.most)
        self._at = now
        if self._level < 1:
            return max(math.ceil((1 - self._level) / self.rate), 1.0) if self.says else math.inf
        self._level -= 1
        return None

    def leave(self) -> None: ...


class CrowdedProvider:
    """Serves so many at once and refuses the rest without a word."""

    def __init__(self, places: int) -> None:
        self.places = places
        self._here = 0

    def arrive(self, tokens: int, now: float) -> float | None:  # noqa: ARG002 - it counts who is here only
        if self._here >= self.places:
            return math.inf
        self._here += 1
        return None

    def leave(self) -> None:
        self._here -= 1


@dataclass
class Record:
    """What happened in a simulation."""

    sent: list[float] = field(default_factory=list)
    accepted: list[tuple[float, int]] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)

    def refused_share(self, since: float = 0.0) -> float:
        sent = sum(1 for moment in self.sent if moment >= since)
        return sum(1 for moment in self.refused if moment >= since) / max(sent, 1)

    def requests_per_minute(self, start: float, end: float) -> float:
        return 60 / (end - start) * sum(1 for moment, _ in self.accepted if start <= moment < end)

    def tokens_per_minute(self, start: float, end: float) -> float:
        return 60 / (end - start) * sum(tokens for moment, tokens in self.accepted if start <= moment < end)


@dataclass
class Workload:
    latency_s: float = 1.0
    input_tokens: Callable[[random.Random], int] = lambda draw: draw.randint(50, 150)
    output_tokens: Callable[[random.Random], int] = lambda draw: draw.randint(10, 100)
    max_tokens: int = 100
    estimate: float = 1.0
    """Estimated input tokens by true ones."""
    way_s: tuple[float, float] = (0.005, 0.1)
    """Grant to arrival, and answer to settle."""
    backlog: int = 2000
    """Asks that wait or are under way, all the time."""


def simulate(
    provider: Provider, workload: Workload, *, seconds: float, rates: Rates | None = None, seed: int = 1
) -> Record:
    """Run for `seconds` of virtual time."""
    draw = random.Random(seed)  # noqa: S311 - lots that can be drawn again, not secrets
    return Simulation(provider, workload, rates or Rates(), draw).run(seconds)


class Simulation:
    """Events in order of time; between them the admission is polled and granted asks are sent."""

    def __init__(self, provider: Provider, workload: Workload, rates: Rates, draw: random.Random) -> None:
        self.provider, self.workload, self.draw = provider, workload, draw
        self.admission = AdmissionController(jitter=draw.random)
        self.admission.open_run(RunPolicy("run", Limits(), rates), 0.0)
        self.record = Record()
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._turns = itertools.count()
        self._truth: dict[str, Usage] = {}

    def run(self, seconds: float) -> Record:
        for _ in range(self.workload.backlog):
            self._ask()
        while self.now < seconds:
            for verdict in self.admission.decisions(self.now):
                assert isinstance(verdict, Granted)
                self._send(verdict.request_id)
            wakeup = self.admission.next_wakeup(self.now)
            upcoming = self._events[0][0] if self._events else math.inf
            self.now = min(upcoming, math.inf if wakeup is None else max(wakeup, self.now + 0.001))
            while self._events and self._events[0][0] <= self.now:
                heapq.heappop(self._events)[2]()
        return self.record

    def _later(self, seconds: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._turns), do))

    def _way(self) -> float:
        return self.draw.uniform(*self.workload.way_s)

    def _ask(self, usage: Usage | None = None) -> None:
        work = self.workload
        usage = usage or Usage(work.input_tokens(self.draw), work.output_tokens(self.draw))
        ticket = f"t{len(self._truth)}"
        self._truth[ticket] = usage
        estimate = int(usage.input_tokens * work.estimate)
        ask = PermitRequest(
            "run", "key", "model", estimate, work.max_tokens, request_id=ticket, client_id="holder"
        )
        self.admission.request(ask, self.now)

    def _send(self, ticket: str) -> None:
        self.record.sent.append(self.now)
        self._later(self._way(), lambda: self._arrive(ticket))

    def _arrive(self, ticket: str) -> None:
        tokens = self._truth[ticket].tokens
        wait_s = self.provider.arrive(tokens, self.now)
        if wait_s is None:
            self.record.accepted.append((self.now, tokens))
            self._later(self.workload.latency_s * self.draw.uniform(0.7, 1.3), lambda: self._leave(ticket))
        else:
            self.record.refused.append(self.now)
            facts = None if wait_s == math.inf else RateLimitHeaders({}, None, wait_s)
            self._later(self._way(), lambda: self._again(ticket, facts))

    def _leave(self, ticket: str) -> None:
        self.provider.leave()
        self._later(self._way(), lambda: self._settle(ticket))

    def _settle(self, ticket: str) -> None:
        self.admission.release(Settle(ticket, AttemptOutcome.OK, self._truth[ticket]), self.now)
        self._ask()

    def _again(self, ticket: str, facts: RateLimitHeaders | None) -> None:
        self.admission.release(Settle(ticket, AttemptOutcome.RATE_LIMITED, rate_headers=facts), self.now)
        self._ask(self._truth[ticket])
