"""What each tuning constant of `admission/policy/` buys: the simulations again with one of them switched off.

Each row is one constant at the value that switches its mechanism off. `used` is the largest loss of the provider's limit over
all scenarios, `429` the largest rise of refused requests, each in percentage points against the same scenario as it is,
with the scenario's name. A constant whose row stays within the noise (the spread of the unchanged policy over three seeds,
the last row) buys nothing there.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import ModuleType

from rlm_ray.admission.policy import account, concurrency_limit, token_bucket
from rlm_ray.admission.protocol import AttemptOutcome, Settle
from rlm_ray.core.limits import Rates
from rlm_ray.testing.simulation import (
    CrowdedProvider,
    Provider,
    Record,
    RefillingProvider,
    Simulation,
    SlidingProvider,
    Workload,
)

SEEDS = (1, 2, 3)


@dataclass(frozen=True)
class Figures:
    """What came of one simulation, as shares."""

    used_first: float
    """Of the provider's limit in the first minute."""
    used_then: float
    refused_first: float
    """Of the requests sent."""
    refused_then: float


@dataclass(frozen=True)
class Scenario:
    """A provider with its callers; `limit` are the requests a minute that it would serve at best, by time."""

    name: str
    provider: Callable[[], Provider]
    limit: Callable[[float], float]
    workload: Workload
    rates: Rates = field(default_factory=Rates)
    seconds: float = 180.0
    crowd: int = 0
    """So many more callers come after the first minute."""

    def run(self, seed: int = 1) -> Figures:
        simulation = ErringSimulation(self.provider(), self.workload, self.rates, random.Random(seed))
        simulation.add_callers(self.crowd, 60.0)
        record = simulation.run(self.seconds)
        return Figures(
            self._used(record, 0, 60), self._used(record, 60, self.seconds),
            _refused(record, 0, 60),
            _refused(record, 60, self.seconds),
        )  # fmt: skip

    def _used(self, record: Record, start: float, end: float) -> float:
        at_best = sum(self.limit(start + 0.5 + second) / 60 for second in range(int(end - start)))
        return record.requests_per_minute(start, end) * (end - start) / 60 / at_best


def _refused(record: Record, start: float, end: float) -> float:
    sent = sum(start <= moment < end for moment in record.sent)
    return sum(start <= moment < end for moment in record.refused) / max(sent, 1)


class ErringSimulation(Simulation):
    """Asks a provider that has server errors for them, and may get more callers."""

    def add_callers(self, count: int, at: float) -> None:
        def ask() -> None:
            for _ in range(count):
                self._ask()

        self._later(at, ask)

    def _arrive(self, ticket: str) -> None:
        errs = getattr(self.provider, "errs", None)
        if errs is not None and errs(self.now):
            self.record.refused.append(self.now)
            self._later(self._way(), lambda: self._fail(ticket))
        else:
            super()._arrive(ticket)

    def _fail(self, ticket: str) -> None:
        self.admission.release(Settle(ticket, AttemptOutcome.SERVER_ERROR), self.now)
        self._ask(self._truth[ticket])


class SilentProvider(SlidingProvider):
    """Refuses without a word."""

    def arrive(self, tokens: int, now: float) -> float | None:
        return None if super().arrive(tokens, now) is None else math.inf


class ChangingProvider:
    """Is another provider from a moment on."""

    def __init__(self, first: Provider, then: Provider, at: float) -> None:
        self._first, self._then, self._at = first, then, at
        self._served_by: deque[Provider] = deque()

    def arrive(self, tokens: int, now: float) -> float | None:
        provider = self._first if now < self._at else self._then
        wait_s = provider.arrive(tokens, now)
        if wait_s is None:
            self._served_by.append(provider)
        return wait_s

    def leave(self) -> None:
        self._served_by.popleft().leave()


class StrayProvider(SlidingProvider):
    """Refuses one request of three hundred for no reason."""

    _arrived = 0

    def arrive(self, tokens: int, now: float) -> float | None:
        self._arrived += 1
        return 1.0 if self._arrived % 300 == 0 else super().arrive(tokens, now)


class WarmingProvider(SlidingProvider):
    """Refuses everything for two seconds."""

    def arrive(self, tokens: int, now: float) -> float | None:
        return 1.0 if now < 2 else super().arrive(tokens, now)


class OverloadedProvider(CrowdedProvider):
    """Answers with server errors where its places are taken."""

    def errs(self, _now: float) -> bool:
        return self._here >= self.places


FEW, MANY = 300, 1200
PLAIN = Workload(backlog=200)
FAST = Workload(0.2, backlog=200)
SLOW = Workload(5.0, backlog=200)
MIXED = Workload(
    max_tokens=1000, estimate=1.3, input_tokens=lambda draw: int(draw.lognormvariate(5.5, 1)), backlog=200
)
"""Calls of 400 input and 55 output tokens in the middle, estimated at 1,530."""
UNBOUNDED = replace(MIXED, max_tokens=16_000, estimate=0.2)


def _always(limit: float) -> Callable[[float], float]:
    return lambda _: limit


def _then(first: float, then: float, at: float = 60) -> Callable[[float], float]:
    return lambda now: first if now < at else then


def _served(places: float, latency_s: float = 1.0) -> float:
    return places / (latency_s + 0.105) * 60


def _calls(tokens_per_minute: float) -> float:
    """Requests of `MIXED` in so many tokens."""
    return tokens_per_minute / 460


SCENARIOS = [
    Scenario("known rpm", lambda: SlidingProvider(MANY), _always(MANY), PLAIN, Rates(rpm=MANY)),
    Scenario("known rpm, refilling", lambda: RefillingProvider(MANY), _always(MANY), PLAIN, Rates(rpm=MANY)),
    Scenario("known tpm", lambda: SlidingProvider(9000, 200_000), _always(_calls(2e5)), MIXED, Rates(9000, 200_000)),
    Scenario("known tpm, long max_tokens", lambda: SlidingProvider(9000, 200_000), _always(_calls(2e5)), UNBOUNDED, Rates(9000, 200_000)),
    Scenario("declared too high", lambda: SilentProvider(FEW), _always(FEW), PLAIN, Rates(rpm=1.2 * FEW)),
    Scenario("declared a little too high", lambda: SilentProvider(FEW), _always(FEW), PLAIN, Rates(rpm=1.05 * FEW)),
    Scenario("minute", lambda: SlidingProvider(FEW), _always(FEW), PLAIN),
    Scenario("minute, fast", lambda: SlidingProvider(MANY), _always(MANY), FAST),
    Scenario("minute, silent", lambda: SilentProvider(MANY), _always(MANY), replace(PLAIN, way_s=(0.002, 0.02))),
    Scenario("minute, raised", lambda: ChangingProvider(SlidingProvider(FEW), SlidingProvider(2 * FEW), 60), _then(FEW, 2 * FEW), PLAIN, seconds=400),
    Scenario("minute, stray refusals", lambda: StrayProvider(MANY), _always(MANY), PLAIN),
    Scenario("minute, warming up", lambda: WarmingProvider(MANY), _always(MANY), PLAIN),
    Scenario("refilling", lambda: RefillingProvider(FEW), _always(FEW), PLAIN),
    Scenario("refilling, fast", lambda: RefillingProvider(MANY), _always(MANY), FAST),
    Scenario("refilling, silent", lambda: RefillingProvider(FEW, says=False), _always(FEW), PLAIN),
    Scenario("refilling, lowered", lambda: ChangingProvider(RefillingProvider(MANY), RefillingProvider(FEW), 100), _then(MANY, FEW, 100), PLAIN, seconds=240),
    Scenario("10 places", lambda: CrowdedProvider(10), _always(_served(10)), PLAIN),
    Scenario("100 places, slow", lambda: CrowdedProvider(100), _always(_served(100, 5)), SLOW),
    Scenario("places, widened", lambda: ChangingProvider(CrowdedProvider(10), CrowdedProvider(40), 60), _then(_served(10), _served(40)), PLAIN, seconds=240),
    Scenario("places, narrowed", lambda: ChangingProvider(CrowdedProvider(40), CrowdedProvider(10), 60), _then(_served(40), _served(10)), PLAIN),
    Scenario("places, a crowd comes", lambda: CrowdedProvider(20), _then(_served(4), _served(20)), replace(PLAIN, backlog=4), crowd=300),
    Scenario("refilling, a crowd comes", lambda: RefillingProvider(MANY), _then(_served(4), MANY), replace(PLAIN, backlog=4), crowd=300),
    Scenario("places, server errors", lambda: OverloadedProvider(10), _always(_served(10)), replace(PLAIN, backlog=30)),
]  # fmt: skip
"""Most last three minutes: so a provider's minute is seen twice after the first."""


@dataclass(frozen=True)
class Switch:
    """A constant, and the value at which its mechanism is off."""

    module: ModuleType
    name: str
    off: object
    mechanism: str


SWITCHES = [
    Switch(token_bucket, "WINDOW_S", 60.0, "slack of the ledger's minute for the way there"),
    Switch(token_bucket, "BURST_S", 60.0, "pacing"),
    Switch(token_bucket, "RECENT_S", 60.0, "the rate of the last seconds instead of the minute"),
    Switch(token_bucket, "BIN_S", 1.0, "fine bins of the ledger"),
    Switch(token_bucket, "MIN_BACKOFF_FACTOR", 0.0, "a found limit falls only so far at once"),
    Switch(token_bucket, "MAX_BACKOFF_FACTOR", 1.0, "a found limit falls at least a little"),
    Switch(token_bucket, "PROBE_AFTER_S", math.inf, "probing near the ceiling"),
    Switch(token_bucket, "MAX_PROBE_INTERVAL_S", 30.0, "probing more rarely after each refusal"),
    Switch(token_bucket, "PROBE_STEP", 1.0, "small steps near the ceiling"),
    Switch(token_bucket, "GROW_AFTER_S", math.inf, "growing below the ceiling"),
    Switch(token_bucket, "GROW_STEP", 1.02, "large steps where no ceiling is known"),
    Switch(token_bucket, "DECAY", 1.0, "forgetting old estimates"),
    Switch(token_bucket, "MAX_MULTIPLIER", math.inf, "the largest multiplier of an estimate"),
    Switch(account, "NEAR_LIMIT", math.inf, "a refusal at a full bucket is about its rate"),
    Switch(account, "MIN_REQUESTS_TO_INFER", 0, "no rate from a refusal after hardly any request"),
    Switch(account, "FIRST_PAUSE_S", 0.0, "pausing after refusals that nothing explains"),
    Switch(account, "MAX_PAUSE_S", 1.0, "longer pauses while they do not help"),
    Switch(account, "START_LIMIT", 10_000, "slow start"),
    Switch(concurrency_limit, "CUT_FACTOR", 1.0, "the cut below the level that was refused"),
    Switch(concurrency_limit, "STEP_DOWN", 0.0, "steps of a share instead of one"),
    Switch(concurrency_limit, "GROWTH", 0.0, "growth by a share instead of one"),
    Switch(concurrency_limit, "MAX_GROWTH", 0.05, "growth that becomes faster"),
    Switch(concurrency_limit, "MIN_UTILIZATION", 0.0, "growth only where the limit was used"),
    Switch(concurrency_limit, "UNEXPLAINED_RATIO", 0.0, "refusals at few in flight are about something else"),
    Switch(concurrency_limit, "MAX_REJECTIONS_IN_A_ROW", math.inf, "undoing a cut that did not help"),
    Switch(concurrency_limit, "COOLDOWN_S", 0.0, "one cut for each episode"),
    Switch(concurrency_limit, "PROBE_AFTER_ANSWERS", math.inf, "probing above a level that was refused"),
    Switch(concurrency_limit, "MAX_PROBE_AFTER", 50, "probing more rarely after each refusal"),
]


@contextmanager
def switched_off(switch: Switch) -> Iterator[None]:
    was = getattr(switch.module, switch.name)
    setattr(switch.module, switch.name, switch.off)
    try:
        yield
    finally:
        setattr(switch.module, switch.name, was)


COLUMNS = {
    "used_first": ("used", -1),
    "used_then": ("used", -1),
    "refused_first": ("429", 1),
    "refused_then": ("429", 1),
}
NOISE = 0.003
"""A difference below this is none, besides what other seeds bring."""


def ablation() -> None:
    usual = {scenario.name: [scenario.run(seed) for seed in SEEDS] for scenario in SCENARIOS}
    print("| scenario | used, first minute | used then | 429, first minute | 429 then |")
    print("|---|---|---|---|---|")
    for name, (one, *_) in usual.items():
        print(
            f"| {name} | {one.used_first:.1%} | {one.used_then:.1%} | {one.refused_first:.1%} | {one.refused_then:.1%} |"
        )
    print("\n| constant | switched off | mechanism | worse without | better without |")
    print("|---|---|---|---|---|", flush=True)
    for switch in SWITCHES:
        with switched_off(switch):
            found = {scenario.name: scenario.run() for scenario in SCENARIOS}
        worse, better = _differences(found, usual)
        print(f"| `{switch.name}` | {switch.off:g} | {switch.mechanism} | {worse} | {better} |", flush=True)


def _differences(found: dict[str, Figures], usual: dict[str, list[Figures]]) -> tuple[str, str]:
    """The two largest harms and the largest gain, in percentage points beyond what other seeds bring."""
    worse: list[tuple[float, str]] = []
    better: list[tuple[float, str]] = []
    for name, figures in found.items():
        for column, (label, sign) in COLUMNS.items():
            value, seeds = getattr(figures, column), [getattr(each, column) for each in usual[name]]
            for bound, direction, differences in ((max, sign, worse), (max, -sign, better)):
                by = direction * value - bound(direction * each for each in seeds)
                if by > NOISE:
                    differences.append((by, f"{label} {100 * direction * by:+.1f} {name}"))
    said = [[text for _, text in sorted(each, reverse=True)] for each in (worse, better)]
    return "; ".join(said[0][:2]) or "-", "; ".join(said[1][:1]) or "-"


if __name__ == "__main__":
    ablation()
