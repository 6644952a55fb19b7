"""What a hundred nodes would do, from what one to four nodes cost: which process has no CPU left first, and at which rate.

    python benchmarks/scale_model.py scale.json                    # prediction beside measurement, a hundred nodes
    python benchmarks/scale_model.py scale.json --dense dense.json # the CPU of an item from runs that the CPU binds
    python benchmarks/scale_model.py scale.json --simulate         # and 1,600 clients, by the code itself (some minutes)

Three processes are there once, whatever the number of nodes: the admission of the cluster, the journal of a run, and the
driver of a run (its pool is asked ten times a second by each map, whatever the calls). Each is one event loop, so it is full at one second of CPU in a second:

    load = rate * (messages of a call * (CPU of a message + (1 - load) * CPU of a wake-up) + CPU of a call)

since a message that finds the process asleep costs more than one that waits behind others; a full process never sleeps.
Session actors are as many as the cluster has CPUs, so theirs is bounded by the nodes. The CPU of a message and of a call
is that of `message_cost.py`; the rest comes from the runs on few nodes, whose model is slow, and for a hundred nodes from
runs whose model is so fast that the CPU binds (`scale.py --latency-s 0.05`): there a process hardly sleeps. What a call has
of messages depends on how many calls each client has in a second, and on how long it collects:

    messages of a client in a second = 1 / (w + exp(-e * r * w) / (e * r))

for `r` calls in a second of `e` events each (a request, a settlement, a grant that wakes a waiting client), of which those
within `w` of a message go together. `simulate` runs the admission and its clients themselves in virtual time; a test
holds the formula to it.
"""

# ruff: noqa: SLF001 - a virtual clock reaches into its loop
from __future__ import annotations

import argparse
import asyncio
import heapq
import json
import math
import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlm_ray.admission.client import COALESCE_S, AdmissionClient
from rlm_ray.admission.controller import AdmissionController
from rlm_ray.admission.protocol import AttemptOutcome, ClientMessage, PermitRequest, RunPolicy, ServerMessage
from rlm_ray.admission.server import MAX_INTERVAL_S, MAX_MESSAGES_PER_S, AdmissionServer
from rlm_ray.core.limits import Rates
from rlm_ray.core.llm import Usage
from rlm_ray.journal.recorder import COALESCE_S as JOURNAL_COALESCE_S


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds of CPU that a service takes."""

    message: float
    item: float
    """A call at the admission (request, grant and settlement), a line at the journal."""


@dataclass(frozen=True, slots=True)
class WorkCost:
    """What one kind of work takes."""

    cpu_s: Mapping[str, float]
    """Seconds of CPU of an item, by role."""
    calls: float
    """Of an item."""
    lines: float
    """Of the journal, for a call."""
    events: Mapping[str, float]
    """Of a call at the admission and the journal, each a message if it comes alone."""
    overhead_s: float
    """What a run took above its ideal time."""
    wakes: Mapping[str, float] = field(default_factory=dict)
    """Seconds of CPU of a wake-up of each service, where they are known."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A cluster and its load."""

    clients: int
    """Session actors: each has one client of the admission and one writer of the journal."""
    concurrent_calls: int
    latency_s: float
    max_messages_per_s: float = MAX_MESSAGES_PER_S
    """Above so many the admission asks its clients to collect; infinity: never."""

    @property
    def calls_per_s(self) -> float:
        return self.concurrent_calls / self.latency_s

    @property
    def calls_per_client(self) -> float:
        return self.calls_per_s / self.clients


def messages_per_call(calls_per_s: float, events: float, interval_s: float) -> float:
    """Return the messages of a call of one client, whose events come at random times."""
    rate = calls_per_s * events
    return 1 / (interval_s + math.exp(-rate * interval_s) / rate) / calls_per_s


def admission_messages(plan: Plan, events: float) -> tuple[float, float]:
    """Return the messages of a call at the admission, and the seconds that clients are asked to collect."""
    straight = messages_per_call(plan.calls_per_client, events, COALESCE_S)
    if straight * plan.calls_per_s <= plan.max_messages_per_s:
        return straight, 0.0
    interval_s = max(min(plan.clients / plan.max_messages_per_s, MAX_INTERVAL_S), COALESCE_S)
    return messages_per_call(plan.calls_per_client, events, interval_s), interval_s


def events_of(messages: float, calls_per_s: float, interval_s: float) -> float:
    """Return how many events a call has, from the messages that were counted: the inverse of `messages_per_call`."""
    low, high = 1e-3, 50.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (
            (middle, high) if messages_per_call(calls_per_s, middle, interval_s) < messages else (low, middle)
        )
    return low


def service_load(calls_per_s: float, messages: float, items: float, cost: Cost, wake_s: float = 0.0) -> float:
    """Return the seconds of CPU in a second; `wake_s` is that of a wake-up."""
    busy = calls_per_s * (messages * cost.message + items * cost.item)
    asleep = calls_per_s * messages * wake_s
    return busy if busy >= 1 else (busy + asleep) / (1 + asleep)


def saturation(call_s: float) -> float:
    """Return the calls in a second at which a process is full that a call takes so much CPU of."""
    return 1 / call_s if call_s else math.inf


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a run on some nodes should be like."""

    seconds: float
    messages: Mapping[str, float]
    """Of a call."""
    cpu_s: Mapping[str, float]
    """Of an item, by role."""


def predict(
    work: WorkCost, clients: int, calls_per_s: float, ideal_s: float, costs: Mapping[str, Cost]
) -> Prediction:
    """Predict a run of this work at this speed."""
    plan = Plan(clients, 1, 1 / calls_per_s)
    admission, _ = admission_messages(plan, work.events["admission"])
    journal = messages_per_call(plan.calls_per_client, work.events["journal"], JOURNAL_COALESCE_S)
    messages = {"admission": admission, "journal": journal}
    services = {
        name: work.calls
        * service_load(calls_per_s, messages[name], items, costs[name], work.wakes.get(name, 0.0))
        / calls_per_s
        for name, items in (("admission", 1.0), ("journal", work.lines))
    }
    return Prediction(ideal_s + work.overhead_s, messages, {**work.cpu_s, **services})


def calibrate(
    points: Sequence[Mapping[str, Any]], services: Mapping[str, Cost], max_nodes: int = 4
) -> dict[str, WorkCost]:
    """Return the cost of each kind of work, from the runs on so many nodes at most."""
    costs = {}
    for name in dict.fromkeys(point["work"] for point in points):
        few = [point for point in points if point["work"] == name and point["nodes"] <= max_nodes]
        items, calls, lines = (sum(point[count] for point in few) for count in ("items", "calls", "lines"))
        roles = sorted({role for point in few for role in point["cpu_s"]} - {"server", "Ray itself"})
        spent = {role: max(sum(point["cpu_s"].get(role, 0.0) for point in few), 0.0) for role in roles}
        messages = {service: sum(point["messages"][service] for point in few) for service in services}
        explained = {
            service: messages[service] * cost.message + cost.item * (lines if service == "journal" else calls)
            for service, cost in services.items()
        }
        costs[name] = WorkCost(
            {role: seconds / items for role, seconds in spent.items()},
            calls / items,
            lines / calls,
            {service: statistics.mean(_events(point, service) for point in few) for service in services},
            statistics.mean(point["seconds"] - point["ideal_s"] for point in few),
            {
                service: max((spent.get(service, 0.0) - explained[service]) / messages[service], 0.0)
                for service in services
            },
        )
    return costs


def _events(point: Mapping[str, Any], service: str) -> float:
    """Return the events of a call in one run."""
    calls_per_client = point["calls"] / point["seconds"] / point["nodes"]
    interval_s = COALESCE_S if service == "admission" else JOURNAL_COALESCE_S
    return events_of(point["messages"][service] / point["calls"], calls_per_client, interval_s)


def compare(points: Sequence[Mapping[str, Any]], costs: Mapping[str, Cost], nodes: int) -> str:
    """Return the prediction for the runs on so many nodes beside what was measured, as a Markdown table; at most half as many
    nodes are what it is predicted from."""
    rows = ["| work | figure | predicted | measured | error |", "|---|---|---:|---:|---:|"]
    calibrated = calibrate(points, costs, nodes // 2)
    for point in points:
        if point["nodes"] != nodes or point["scaling"] != "weak":
            continue
        work = calibrated[point["work"]]
        speed = point["calls"] / (point["ideal_s"] + work.overhead_s)
        found = predict(work, nodes, speed, point["ideal_s"], costs)
        each = {role: 1e3 * seconds / point["items"] for role, seconds in point["cpu_s"].items()}
        pairs = {
            "seconds": (found.seconds, point["seconds"]),
            "items a second": (point["items"] / found.seconds, point["items"] / point["seconds"]),
            **{
                f"messages a call, {name}": (found.messages[name], point["messages"][name] / point["calls"])
                for name in ("admission", "journal")
            },
            **{
                f"CPU, {role} (ms)": (1e3 * found.cpu_s.get(role, 0.0), each.get(role, 0.0))
                for role in ("admission", "journal", "driver", "actors")
            },
        }
        rows += [
            f"| {point['work']} | {figure} | {guess:.3g} | {truth:.3g} | {_error(guess, truth)} |"
            for figure, (guess, truth) in pairs.items()
        ]
    return "\n".join(rows)


def _error(guess: float, truth: float) -> str:
    return f"{guess / truth - 1:+.0%}" if truth else ""


def many_nodes(work: WorkCost, costs: Mapping[str, Cost], plans: Mapping[str, Plan]) -> str:
    """Return the calls in a second at which each process is full that is there once, for each plan; and its messages of a call."""
    columns = [_full_at(work, costs, plan) for plan in plans.values()]
    rows = [f"| full at, calls/s (messages a call) | {' | '.join(plans)} |", "|---|" + "---:|" * len(plans)]
    rows += [
        f"| {process} | " + " | ".join(column[process] for column in columns) + " |" for process in columns[0]
    ]
    return "\n".join(rows)


def _full_at(work: WorkCost, costs: Mapping[str, Cost], plan: Plan) -> dict[str, str]:
    admission, _ = admission_messages(plan, work.events["admission"])
    journal = messages_per_call(plan.calls_per_client, work.events["journal"], JOURNAL_COALESCE_S)
    services = {
        "the admission": (admission, service_load(1.0, admission, 1.0, costs["admission"])),
        "the journal of a run": (journal, service_load(1.0, journal, work.lines, costs["journal"])),
    }
    each = {role: seconds / work.calls for role, seconds in work.cpu_s.items()}
    others = {
        "the driver of a run": each.get("driver", 0.0),
        "all session actors": each.get("actors", 0.0) / plan.clients,
    }
    full = {
        name: f"{saturation(seconds):,.0f} ({messages:.2f})" for name, (messages, seconds) in services.items()
    }
    return full | {
        name: f"{saturation(seconds):,.0f}" if seconds else "-" for name, seconds in others.items()
    }


class VirtualLoop(asyncio.SelectorEventLoop):
    """Jumps to the next timer when there is nothing else to do."""

    now = 0.0

    def time(self) -> float:
        return self.now

    def _run_once(self) -> None:
        loop: Any = self
        while loop._scheduled and loop._scheduled[0]._cancelled:
            heapq.heappop(loop._scheduled)._scheduled = False
            loop._timer_cancelled_count -= 1
        if not loop._ready and loop._scheduled:
            self.now = max(self.now, loop._scheduled[0]._when)
        super()._run_once()  # type: ignore[misc]  # a private method that typeshed does not know


class _CountingServer(AdmissionServer):
    """The admission, which counts the messages that come to it."""

    def __init__(self, max_messages_per_s: float) -> None:
        clock = asyncio.get_running_loop().time
        super().__init__(AdmissionController(), "epoch", clock=clock, max_messages_per_s=max_messages_per_s)
        self.messages = 0

    async def exchange(self, batch: ClientMessage) -> ServerMessage:
        self.messages += 1
        return await super().exchange(batch)


@dataclass(frozen=True, slots=True)
class Simulated:
    """What came of a simulation, once it had settled."""

    calls_per_s: float
    messages_per_call: float
    wait_s: float
    """For a permit, in the mean."""


def simulate(
    plan: Plan, *, places: int | None = None, warm_up_s: float, seconds: float, seed: int = 0
) -> Simulated:
    """Run the admission and its clients in virtual time; a call takes half to one and a half times the latency.

    `places`: requests that may be under way at once, where fewer than callers.
    """
    draw = random.Random(seed)
    found = [0, 0.0]

    async def caller(client: AdmissionClient, clock: VirtualLoop) -> None:
        await asyncio.sleep(draw.uniform(0, plan.latency_s))
        while True:
            asked_at = clock.time()
            async with client.permit(PermitRequest("run", "key", "model", 4000, 500)) as permit:
                waited_s = clock.time() - asked_at
                await asyncio.sleep(draw.uniform(0.5, 1.5) * plan.latency_s)
                permit.release(AttemptOutcome.OK, Usage(3900, 130), 0.001)
            found[0] += 1
            found[1] += waited_s

    async def work() -> tuple[int, int, float]:
        clock: Any = asyncio.get_running_loop()
        server = _CountingServer(plan.max_messages_per_s)
        await server.open_run(RunPolicy("run", rates=Rates(in_flight=places or plan.concurrent_calls)))
        holding = asyncio.ensure_future(server.hold_run("run"))
        clients = [AdmissionClient(f"client-{n}", server, clock=clock.time) for n in range(plan.clients)]
        callers = [
            asyncio.ensure_future(caller(clients[number % plan.clients], clock))
            for number in range(plan.concurrent_calls)
        ]
        await asyncio.sleep(warm_up_s)
        messages, (calls, waited_s) = server.messages, found
        await asyncio.sleep(seconds)
        counted = found[0] - calls, server.messages - messages, found[1] - waited_s
        for task in (holding, *callers):
            task.cancel()
        await asyncio.gather(holding, *callers, return_exceptions=True)
        for client in clients:
            await client.aclose()
        return int(counted[0]), counted[1], counted[2]

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        calls, messages, waited_s = runner.run(work())
    return Simulated(calls / seconds, messages / calls, waited_s / calls)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("measured", type=Path, help="what scale.py wrote")
    parser.add_argument("--dense", type=Path, help="what scale.py wrote where the CPU binds")
    parser.add_argument("--nodes", type=int, default=100)
    parser.add_argument("--actors", type=int, default=16, help="of a node")
    parser.add_argument("--concurrent", type=int, default=100_000)
    parser.add_argument("--latency-s", type=float, default=10.0)
    parser.add_argument("--simulate", action="store_true")
    options = parser.parse_args()
    measured = json.loads(options.measured.read_text())
    points = measured["points"]
    costs = {name: Cost(**cost) for name, cost in measured["costs"].items()}
    print(
        "CPU, microseconds: "
        + ", ".join(
            f"{n}: {1e6 * c.message:.0f} a message, {1e6 * c.item:.1f} an item" for n, c in costs.items()
        )
    )
    for nodes in (4, 8):
        print(f"\n{nodes} nodes, predicted from at most {nodes // 2}:\n\n{compare(points, costs, nodes)}")
    dense = json.loads(options.dense.read_text())["points"] if options.dense else points
    plans = {
        f"{options.nodes * actors:,} clients, messages {how}": Plan(
            options.nodes * actors, options.concurrent, options.latency_s, most_per_s
        )
        for actors in (options.actors, 2)
        for how, most_per_s in (("as they come", math.inf), ("collected", MAX_MESSAGES_PER_S))
    }
    wanted = next(iter(plans.values())).calls_per_s
    for name, work in calibrate(dense, costs).items():
        print(
            f"\n{options.nodes} nodes, {name}; {wanted:,.0f} calls/s are wanted:\n\n{many_nodes(work, costs, plans)}"
        )
    if options.simulate:
        for name, plan in plans.items():
            found = simulate(plan, warm_up_s=1.5 * plan.latency_s, seconds=plan.latency_s)
            print(f"simulated: {name}: {found}", flush=True)


if __name__ == "__main__":
    main()
