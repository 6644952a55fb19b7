"""What admission gets out of a quota, and what it costs.

    python benchmarks/admission.py simulate    strict and hidden limits in virtual time: a table, about a minute
    python benchmarks/admission.py order       first answer and open sessions: 200 roots x 10 x 10 calls, 50 places
    python benchmarks/admission.py shell       acquires per second and latency in one process
    python benchmarks/admission.py actor       the same through a Ray actor, from four actors

Simulated providers count a sliding minute exactly, refill all the time, or have so many places; the way there
and back takes 5-100 ms at random. `used` is of the provider's limit, `429` of all requests sent.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "admission"))

from simulation import (
    CrowdedProvider,
    Provider,
    Record,
    RefillingProvider,
    SlidingProvider,
    Workload,
    simulate,
)

from rlm_ray.admission.admission import Admission
from rlm_ray.admission.client import AdmissionClient
from rlm_ray.admission.protocol import Ask, Batch, Granted, Outcome, Replies, RunTerms, Settle
from rlm_ray.admission.shell import AdmissionShell
from rlm_ray.core.limits import Limits, Rates
from rlm_ray.core.model import Usage

SECONDS = 180.0
ROUND_TRIP_S = 0.105


def main(what: str) -> None:
    {"simulate": simulations, "order": order, "shell": shell, "actor": actor}[what]()


def simulations() -> None:
    print(f"{'':46} {'minute 1':>8} {'then':>7} {'429':>7} {'429 then':>8}")
    known = Rates(rpm=6000, tpm=1_000_000)
    for latency_s in (0.2, 1.0, 5.0):
        for name, workload in {
            "small": Workload(latency_s),
            "mixed": Workload(
                latency_s,
                max_tokens=1000,
                estimate=1.2,
                input_tokens=lambda draw: int(draw.lognormvariate(5.5, 1)),
            ),
        }.items():
            record = simulate(SlidingProvider(6000, 1e6), workload, seconds=SECONDS, rates=known)
            used: Callable[[float, float], float] = lambda start, end, record=record: max(
                record.requests_per_minute(start, end) / 6000, record.tokens_per_minute(start, end) / 1e6
            )
            _row(f"known rpm=6000 tpm=1M, {name}, {latency_s} s", record, used)
    hidden: list[tuple[str, Callable[[], Provider], float]] = [
        *((f"hidden rpm={rpm}, sliding", lambda rpm=rpm: SlidingProvider(rpm), rpm) for rpm in (300, 1000, 6000)),
        *((f"hidden rpm={rpm}, refilling", lambda rpm=rpm: RefillingProvider(rpm), rpm) for rpm in (300, 1000, 6000)),
        *((f"hidden places={places}", lambda places=places: CrowdedProvider(places), -places) for places in (10, 50, 200)),
    ]  # fmt: skip
    for name, provider, limit in hidden:
        for latency_s in (0.2, 1.0, 5.0):
            record = simulate(provider(), Workload(latency_s), seconds=SECONDS)
            per_minute = limit if limit > 0 else -limit / (latency_s + ROUND_TRIP_S) * 60
            _row(
                f"{name}, {latency_s} s",
                record,
                lambda start, end, record=record, most=per_minute: (
                    record.requests_per_minute(start, end) / most
                ),
            )


def _row(name: str, record: Record, used: Callable[[float, float], float]) -> None:
    print(
        f"{name:46} {used(0, 60):8.1%} {used(60, SECONDS):7.1%} {record.refused_share():7.2%}"
        f" {record.refused_share(60):8.2%}",
        flush=True,
    )


def order() -> None:
    """Each root makes 10 calls to its children, each child 10 of its own; a call takes 1, and 50 run at once."""
    for name, by_age in (("first come", False), ("oldest root, then deepest", True)):
        first, most_open, end = _trees(by_age=by_age)
        print(f"{name:30} first answer t={first:6.0f}  most open sessions {most_open:5}  end t={end:6.0f}")


def _trees(*, by_age: bool) -> tuple[float, int, float]:
    admission = Admission()
    admission.open_run(RunTerms("run", rates=Rates(in_flight=50)), 0.0)
    admission._doors.clear()
    left: dict[tuple[int, ...], int] = {}
    opened: set[tuple[int, ...]] = set()
    under_way: list[tuple[float, str]] = []
    most_open, first, now = 0, 0.0, 0.0

    def ask(path: tuple[int, ...], turn: int) -> None:
        ticket = f"{'.'.join(map(str, path))}/{turn}"
        age, depth = (float(path[0]), len(path)) if by_age else (0.0, 0)
        admission.ask(
            Ask("run", "key", "m", 0, 0, root_order=age, depth=depth, ticket=ticket, holder="h"), now
        )

    def done(path: tuple[int, ...]) -> None:
        nonlocal first
        opened.discard(path)
        if len(path) == 1:
            first = first or now
            return
        left[path[:-1]] -= 1
        if not left[path[:-1]]:
            done(path[:-1])

    for root in range(200):
        ask((root,), 0)
    while True:
        for verdict in admission.poll(now):
            assert isinstance(verdict, Granted)
            path = tuple(int(part) for part in verdict.ticket.split("/")[0].split("."))
            if len(path) < 3:
                opened.add(path)
            under_way.append((now + 1.0, verdict.ticket))
        most_open = max(most_open, len(opened))
        if not under_way:
            return first, most_open, now
        now = under_way[0][0]
        while under_way and under_way[0][0] <= now:
            ticket = under_way.pop(0)[1]
            admission.settle(Settle(ticket, Outcome.OK, Usage()), now)
            path = tuple(int(part) for part in ticket.split("/")[0].split("."))
            if len(path) == 3:
                done(path)
            else:
                left[path] = 10
                for child in range(10):
                    ask((*path, child), 0)


async def _load(client: AdmissionClient, per_s: float, seconds: float) -> list[float]:
    """Acquire and settle at an even pace; the latencies in ms."""
    latencies: list[float] = []

    async def once() -> None:
        started_at = time.perf_counter()
        async with client.permit(Ask("run", "key", "model", 100, 100, 0.001)) as permit:
            latencies.append(1000 * (time.perf_counter() - started_at))
            permit.settle(Outcome.OK, Usage(90, 30), 0.0005)

    started_at = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for turn in range(int(per_s * seconds)):
            late_s = started_at + turn / per_s - time.perf_counter()
            if late_s > 0:
                await asyncio.sleep(late_s)
            group.create_task(once())
    await client.flush()
    return latencies


def _print_latencies(name: str, latencies: list[float], seconds: float) -> None:
    cuts = statistics.quantiles(latencies, n=100)
    print(
        f"{name:40} {len(latencies) / seconds:7.0f}/s  median {cuts[49]:6.2f} ms  p95 {cuts[94]:6.2f} ms"
        f"  p99 {cuts[98]:6.2f} ms",
        flush=True,
    )


TERMS = RunTerms("run", Limits(cost_usd=1e6), Rates(rpm=1e8, tpm=1e12, in_flight=10_000))


def shell() -> None:
    async def run(per_s: float) -> None:
        served = AdmissionShell(Admission(), "epoch")
        await served.open_run(TERMS)
        client = AdmissionClient("client", served)
        started_at = time.perf_counter()
        latencies = await _load(client, per_s, 3.0)
        _print_latencies(f"one process, {per_s:.0f}/s asked", latencies, time.perf_counter() - started_at)
        await client.aclose()

    for per_s in (500, 1000, 2000, 4000):
        asyncio.run(run(per_s))


class Loader:
    """One of the actors that make calls."""

    async def run(self, name: str, admission: Any, per_s: float, seconds: float) -> tuple[list[float], float]:
        class Line:
            async def exchange(self, batch: Batch) -> Replies:
                replies: Replies = await admission.exchange.remote(batch)
                return replies

        client = AdmissionClient(name, Line())
        started_at = time.perf_counter()
        latencies = await _load(client, per_s, seconds)
        took_s = time.perf_counter() - started_at
        await client.aclose()
        return latencies, took_s


def actor() -> None:
    import ray

    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
    admission = (
        ray.remote(AdmissionShell).options(num_cpus=0, max_concurrency=10_000).remote(Admission(), "epoch")
    )
    ray.get(admission.open_run.remote(TERMS))
    loaders = [ray.remote(Loader).options(num_cpus=0).remote() for _ in range(4)]
    for turn, per_s in enumerate((200, 500, 1000, 2000, 3000)):
        results = ray.get(
            [
                loader.run.remote(f"{turn}/{number}", admission, per_s / 4, 4.0)
                for number, loader in enumerate(loaders)
            ]
        )
        latencies = [latency for some, _ in results for latency in some]
        _print_latencies(
            f"Ray actor, 4 clients, {per_s}/s asked", latencies, max(took for _, took in results)
        )
    ray.shutdown()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "simulate")
