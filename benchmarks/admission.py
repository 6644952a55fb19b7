"""What admission gets out of a quota, and what it costs.

    python benchmarks/admission.py simulate    strict and hidden limits in virtual time: a table, about a minute
    python benchmarks/admission.py ablation    the same with one constant of the policy switched off after the other
    python benchmarks/admission.py order       first answer and open sessions: 200 roots x 10 x 10 calls, 50 places
    python benchmarks/admission.py shell       acquires per second and latency in one process
    python benchmarks/admission.py actor       the same at a Ray actor, from four actors: by line, by actor calls
    python benchmarks/admission.py quota       a strict provider's quota used by real runs, and by peers (`peers.py`)
    python benchmarks/admission.py hidden      the same with a limit that nobody tells
    python benchmarks/admission.py budget      64 children that would spend ten times the limit
    python benchmarks/admission.py kill        the admission actor killed while a quota is used

Simulated providers count a sliding minute exactly, refill all the time, or have so many places; the way there
and back takes 5-100 ms at random. `used` is of the provider's limit, `429` of all requests sent.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import statistics
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from rlm_ray.admission.client import AdmissionClient
from rlm_ray.admission.controller import AdmissionController
from rlm_ray.admission.protocol import (
    AttemptOutcome,
    ClientMessage,
    PermitRequest,
    RunPolicy,
    ServerMessage,
    Settle,
)
from rlm_ray.admission.server import AdmissionServer
from rlm_ray.cluster.detached_actor import service_stub
from rlm_ray.core.limits import Limits, Rates
from rlm_ray.core.llm import Usage
from rlm_ray.testing.simulation import (
    CrowdedProvider,
    Record,
    RefillingProvider,
    SlidingProvider,
    Workload,
    simulate,
)
from rlm_ray.util.rpc import RpcAddress, RpcServer
from rlm_ray.util.rpc_service import service_of

SECONDS = 180.0
ROUND_TRIP_S = 0.105


def main() -> None:
    import ablation
    import live

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="?", default="simulate")
    parser.add_argument("--calls", type=int, default=12_000, help="of quota; four roots share them")
    parser.add_argument("--kill-calls", type=int, default=2_000)
    parser.add_argument(
        "--ray-data-python", help="a Python with ray[data] and aiohttp, for that peer of quota"
    )
    parser.add_argument("--ray-data-calls", type=int, default=1_200, help="it is too slow for more")
    options = parser.parse_args()
    measures: dict[str, Callable[[], None]] = {
        "simulate": simulations,
        "ablation": ablation.ablation,
        "order": order,
        "shell": shell,
        "actor": actor,
        "quota": lambda: live.quota(options.calls, options.ray_data_python, options.ray_data_calls),
        "hidden": live.hidden,
        "budget": live.budget,
        "kill": lambda: live.kill(options.kill_calls),
    }
    if options.what not in measures:
        parser.error(f"there is no {options.what!r}; try {', '.join(measures)}")
    measures[options.what]()


def simulations() -> None:
    print(f"{'':46} {'minute 1':>8} {'then':>7} {'429':>7} {'429 then':>8}")
    for latency_s in (0.2, 1.0, 5.0):
        mixed = Workload(
            latency_s,
            max_tokens=1000,
            estimate=1.2,
            input_tokens=lambda draw: int(draw.lognormvariate(5.5, 1)),
        )
        _known("small", Workload(latency_s))
        _known("mixed", mixed)
    for latency_s in (0.2, 1.0, 5.0):
        for rpm in (300, 1000, 6000):
            _hidden(f"rpm={rpm}, sliding minute", SlidingProvider(rpm), latency_s, rpm)
            _hidden(f"rpm={rpm}, refilling", RefillingProvider(rpm), latency_s, rpm)
        for places in (10, 50, 200):
            most = places / (latency_s + ROUND_TRIP_S) * 60
            _hidden(f"places={places}", CrowdedProvider(places), latency_s, most)


def _known(name: str, workload: Workload) -> None:
    rates = Rates(rpm=6000, tpm=1_000_000)
    record = simulate(SlidingProvider(6000, 1e6), workload, seconds=SECONDS, rates=rates)

    def used(start: float, end: float) -> float:
        requests, tokens = record.requests_per_minute(start, end), record.tokens_per_minute(start, end)
        return max(float(requests) / 6000, float(tokens) / 1e6)

    _row(f"known rpm=6000 tpm=1M, {name}, {workload.latency_s} s", record, used)


def _hidden(name: str, provider: Any, latency_s: float, most: float) -> None:
    record = simulate(provider, Workload(latency_s), seconds=SECONDS)
    _row(
        f"hidden {name}, {latency_s} s",
        record,
        lambda start, end: record.requests_per_minute(start, end) / most,
    )


def _row(name: str, record: Record, used: Callable[[float, float], float]) -> None:
    print(
        f"{name:46} {used(0, 60):8.1%} {used(60, SECONDS):7.1%} {record.refused_share():7.2%}"
        f" {record.refused_share(60):8.2%}",
        flush=True,
    )


def order() -> None:
    """Each root makes 10 calls to its children, each child 10 of its own; a call takes 1 s, and 50 run at once."""
    for name, by_age in (("first come", False), ("oldest root, then deepest", True)):
        trees = Trees(by_age=by_age)
        trees.run()
        print(
            f"{name:30} first answer t={trees.first_at:4.0f} s, most open sessions {trees.most_open:5},"
            f" end t={trees.now:4.0f} s"
        )


class Trees:
    """200 roots x 10 children x 10 calls in virtual time."""

    def __init__(self, *, by_age: bool) -> None:
        self.by_age = by_age
        self.admission = AdmissionController()
        self.admission.open_run(RunPolicy("run", rates=Rates(in_flight=50)), 0.0)
        self.now = self.first_at = 0.0
        self.most_open = 0
        self._children: dict[tuple[int, ...], int] = {}
        self._under_way: deque[tuple[float, str]] = deque()

    def run(self) -> None:
        for root in range(200):
            self._ask((root,))
        while self._grant() or self._under_way:
            self.now = self._under_way[0][0]
            while self._under_way and self._under_way[0][0] <= self.now:
                self._answer(self._under_way.popleft()[1])

    def _ask(self, path: tuple[int, ...]) -> None:
        age, depth = (float(path[0]), len(path)) if self.by_age else (0.0, 0)
        ticket = ".".join(map(str, path))
        ask = PermitRequest(
            "run",
            "key",
            "model",
            0,
            0,
            run_started_at=age,
            depth=depth,
            request_id=ticket,
            client_id="holder",
        )
        self.admission.request(ask, self.now)

    def _grant(self) -> int:
        verdicts = self.admission.decisions(self.now)
        self._under_way.extend((self.now + 1.0, verdict.request_id) for verdict in verdicts)
        return len(verdicts)

    def _answer(self, ticket: str) -> None:
        self.admission.release(Settle(ticket, AttemptOutcome.OK, Usage()), self.now)
        path = tuple(int(part) for part in ticket.split("."))
        if len(path) == 3:
            self._return_to(path[:-1])
            return
        self._children[path] = 10
        self.most_open = max(self.most_open, len(self._children))
        for child in range(10):
            self._ask((*path, child))

    def _return_to(self, path: tuple[int, ...]) -> None:
        self._children[path] -= 1
        if self._children[path]:
            return
        del self._children[path]
        if len(path) > 1:
            self._return_to(path[:-1])
        else:
            self.first_at = self.first_at or self.now


async def _load(client: AdmissionClient, per_s: float, seconds: float) -> list[float]:
    """Acquire and settle at an even pace; the latencies in ms."""
    latencies: list[float] = []

    async def once() -> None:
        started_at = time.perf_counter()
        async with client.permit(PermitRequest("run", "key", "model", 100, 100, 0.001)) as permit:
            latencies.append(1000 * (time.perf_counter() - started_at))
            permit.release(AttemptOutcome.OK, Usage(90, 30), 0.0005)

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


TERMS = RunPolicy("run", Limits(cost_usd=1e6), Rates(rpm=1e8, tpm=1e12, in_flight=10_000))


def shell() -> None:
    async def run(per_s: float) -> None:
        served = AdmissionServer(AdmissionController(), "epoch")
        await served.open_run(TERMS)
        client = AdmissionClient("client", served)
        started_at = time.perf_counter()
        latencies = await _load(client, per_s, 3.0)
        _print_latencies(f"one process, {per_s:.0f}/s asked", latencies, time.perf_counter() - started_at)
        await client.aclose()

    for per_s in (500, 1000, 2000, 4000):
        asyncio.run(run(per_s))


class AdmissionActor(AdmissionServer):
    """What `cluster/` wraps: the server, and a direct TCP connection to it."""

    async def address(self, host: str) -> RpcAddress:
        service = service_of(AdmissionServer)
        methods, token = frozenset(service.methods), secrets.token_bytes(32)
        return await RpcServer(self, methods, token, service.codec).listen(host)


class ActorTransport:
    """Every exchange is an actor call."""

    def __init__(self, admission: Any) -> None:
        self.admission = admission

    async def exchange(self, batch: ClientMessage) -> ServerMessage:
        replies: ServerMessage = await self.admission.exchange.remote(batch)
        return replies


class Loader:
    """One of the actors that make calls."""

    async def run(self, name: str, transport: Any, per_s: float, seconds: float) -> tuple[list[float], float]:
        if isinstance(transport, RpcAddress):
            address = transport
            transport = service_stub(
                AdmissionServer, "admission", lambda _: lambda: asyncio.sleep(0, address)
            )
        client = AdmissionClient(name, transport)
        started_at = time.perf_counter()
        latencies = await _load(client, per_s, seconds)
        took_s = time.perf_counter() - started_at
        await client.aclose()
        return latencies, took_s


def actor() -> None:
    import ray

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    options = {"num_cpus": 0, "max_concurrency": 10_000}
    admission = ray.remote(AdmissionActor).options(**options).remote(AdmissionController(), "epoch")
    held = admission.hold_run.remote("run")  # never returns
    ray.get(admission.open_run.remote(TERMS))
    address = ray.get(admission.address.remote("127.0.0.1"))
    loaders = [ray.remote(Loader).options(num_cpus=0).remote() for _ in range(4)]
    for way, transport in {
        "warm-up": address,
        "line": address,
        "actor calls": ActorTransport(admission),
    }.items():
        for per_s in (200, 1000, 2000, 4000):
            results = ray.get(
                [
                    loader.run.remote(f"{way}/{per_s}/{number}", transport, per_s / 4, 4.0)
                    for number, loader in enumerate(loaders)
                ]
            )
            latencies = [latency for some, _ in results for latency in some]
            _print_latencies(
                f"{way}, 4 clients, {per_s}/s asked", latencies, max(took for _, took in results)
            )
    del held
    ray.shutdown()


if __name__ == "__main__":
    main()
