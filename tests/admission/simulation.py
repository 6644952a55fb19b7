"""A provider and its callers in virtual time: what `Admission` gets out of a quota, without a network.

`simulate` keeps a backlog of asks before an `Admission`, sends what is granted to a provider after a random way
there, and settles what comes back. Nothing sleeps; a minute costs as long as its events take to compute.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from rlm_ray.admission.admission import Admission
from rlm_ray.admission.protocol import Ask, Granted, Outcome, RunTerms, Settle
from rlm_ray.core.headers import RateFacts
from rlm_ray.core.limits import Limits, Rates
from rlm_ray.core.model import Usage


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

    def arrive(self, tokens: int, now: float) -> float | None:
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

    def arrive(self, tokens: int, now: float) -> float | None:
        if self._here >= self.places:
            return math.inf
        self._here += 1
        return None

    def leave(self) -> None:
        self._here -= 1


@dataclass
class Record:
    """What happened."""

    sent: list[float] = field(default_factory=list)
    accepted: list[tuple[float, int]] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    answered: list[float] = field(default_factory=list)

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
    calls: int | None = None
    """So many in all, then the end; None: a backlog that never ends."""
    input_tokens: Callable[[random.Random], int] = lambda draw: draw.randint(50, 150)
    output_tokens: Callable[[random.Random], int] = lambda draw: draw.randint(10, 100)
    max_tokens: int = 100
    estimate: float = 1.0
    """Estimated input tokens by true ones."""
    way_s: tuple[float, float] = (0.005, 0.1)
    """Grant to arrival, and answer to settle."""
    backlog: int = 2000


def simulate(
    provider: Provider, workload: Workload, *, seconds: float, rates: Rates | None = None, seed: int = 1
) -> Record:
    """Run for `seconds` of virtual time."""
    draw = random.Random(seed)
    admission = Admission(jitter=draw.random)
    admission.open_run(RunTerms("run", Limits(), rates or Rates()), 0.0)
    record = Record()
    events: list[tuple[float, int, Callable[[float], None]]] = []
    truth: dict[str, tuple[int, int]] = {}
    count = 0

    def at(moment: float, do: Callable[[float], None]) -> None:
        nonlocal count
        count += 1
        heapq.heappush(events, (moment, count, do))

    def ask(now: float, attempt: int = 1, sizes: tuple[int, int] | None = None) -> None:
        inputs, outputs = sizes or (workload.input_tokens(draw), workload.output_tokens(draw))
        ticket = f"t{len(truth)}"
        truth[ticket] = (inputs, outputs)
        admission.ask(
            Ask("run", "key", "model", int(inputs * workload.estimate), workload.max_tokens,
                attempt=attempt, ticket=ticket, holder="holder"), now,
        )  # fmt: skip

    def send(ticket: str, now: float) -> None:
        record.sent.append(now)
        at(now + draw.uniform(*workload.way_s), lambda then: arrive(ticket, then))

    def arrive(ticket: str, now: float) -> None:
        tokens = truth[ticket]
        wait_s = provider.arrive(sum(tokens), now)
        back_s = draw.uniform(*workload.way_s)
        if wait_s is None:
            record.accepted.append((now, sum(tokens)))
            at(now + workload.latency_s * draw.uniform(0.7, 1.3), lambda then: leave(ticket, then, back_s))
        else:
            record.refused.append(now)
            facts = None if wait_s == math.inf else RateFacts({}, None, wait_s)
            at(now + back_s, lambda then: again(ticket, facts, then))

    def leave(ticket: str, now: float, back_s: float) -> None:
        provider.leave()
        record.answered.append(now)
        at(now + back_s, lambda then: settle(ticket, then))

    def settle(ticket: str, now: float) -> None:
        admission.settle(Settle(ticket, Outcome.OK, Usage(*truth[ticket])), now)
        if workload.calls is None:
            ask(now)

    def again(ticket: str, facts: RateFacts | None, now: float) -> None:
        admission.settle(Settle(ticket, Outcome.RATE_LIMITED, facts=facts), now)
        ask(now, 2, truth[ticket])

    for _ in range(workload.calls or workload.backlog):
        ask(0.0)
    now = 0.0
    while now < seconds:
        for verdict in admission.poll(now):
            assert isinstance(verdict, Granted)
            send(verdict.ticket, now)
        wakeup = admission.next_wakeup(now)
        upcoming = events[0][0] if events else math.inf
        now = min(upcoming, math.inf if wakeup is None else max(wakeup, now + 0.001))
        if now == math.inf or (workload.calls is not None and len(record.answered) >= workload.calls):
            break
        while events and events[0][0] <= now:
            heapq.heappop(events)[2](now)
    return record
