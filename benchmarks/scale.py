"""The same work over more and more nodes: calls and sessions per second, messages and CPU of a call, by process.

Nodes are those of `ray.cluster_utils`, one CPU each, all on this machine; the model is a scripted server whose latency
(varied by half) binds and not the CPU. A node stands for a share of a fleet: so many requests at once (`--places`), so many sessions
(`--slots`). Weak scaling: the work grows with the nodes, and the seconds should not. Strong: it stays, and the seconds
should fall as the nodes grow.

    python benchmarks/scale.py                             # 1, 2, 4 and 8 nodes: about ten minutes; scale.json, scale.svg
    python benchmarks/scale.py --nodes 8 --work rows       # some of it, again or in addition: the rest stays in scale.json
    python benchmarks/scale.py --report scale.json         # the table and the plot again

`ideal` is what latency alone allows; `efficiency` is that divided by what it took. CPU is that of all processes of a
role for one call (rows, leaves) or one session, in milliseconds, without what its processes take when idle. Messages are calls of the admission's `exchange` and the
journal's `append`. What the figures say about a hundred nodes is in `scale_model.py`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from census import Census
from message_cost import message_costs
from plot import line_chart

from rlm_ray import RLM, Cluster, Rates
from rlm_ray.cluster.detached_actor import current_node_id
from rlm_ray.cluster.services import admission_actor, journal_actor
from rlm_ray.testing import Reply, ServerProcess
from rlm_ray.testing.responses import Request, recursion, run_query

TURNS = 2
"""Of a session of the script `recursion`: one that looks, one that answers."""
IDLE_S = 4.0
ROLES = ("actors", "pool", "admission", "journal", "driver")


@dataclass(frozen=True)
class Shape:
    """How much a node carries, and how long the model takes."""

    places: int = 64
    """Requests at once for each node: the model's fleet grows with the nodes."""
    slots: int = 16
    """Sessions at once for each node."""
    rounds: int = 6
    """How often each place is used in weak scaling."""
    waves: int = 3
    """How often each slot is used there."""
    strong_nodes: int = 4
    """Strong scaling has the weak scaling's work of so many nodes."""
    latency_s: float = 2.0


@dataclass(frozen=True, slots=True)
class Point:
    """One measurement."""

    work: str
    """`rows`: a batch of plain calls; `leaves`: one `recursive_map` of plain calls; `sessions`: one of child sessions."""
    scaling: str
    nodes: int
    items: int
    """Calls or child sessions."""
    calls: int
    """Requests that the model's server saw."""
    seconds: float
    ideal_s: float
    cpu_s: dict[str, float] = field(default_factory=dict)
    """Without what the processes take when nothing is to be done."""
    idle_cpu: dict[str, float] = field(default_factory=dict)
    """That: seconds of CPU in a second."""
    messages: dict[str, int] = field(default_factory=dict)
    journal_bytes: int = 0
    lines: int = 0
    """Of the journal."""

    @property
    def efficiency(self) -> float:
        return self.ideal_s / self.seconds


def varied(request: Request) -> Reply:
    """Play `recursion` after half to one and a half times the latency, so that calls do not end together."""
    mean_s = float(os.environ["LATENCY_S"])
    return Reply(recursion(request), latency_s=random.uniform(0.5 * mean_s, 1.5 * mean_s))


async def rows(rlm: RLM, count: int, folder: Path) -> None:
    """Ask one plain call a row."""
    corpus = folder / f"rows-{count}.jsonl"
    with corpus.open("w") as file:
        for number in range(count):
            file.write(json.dumps({"id": str(number), "text": f"{number} some words of a row"}) + "\n")
    summary = await rlm.abatch("What?", corpus, out=folder / f"out-{time.monotonic()}.jsonl")
    assert summary.rows == count, summary


async def leaves(rlm: RLM, count: int, _: Path) -> None:
    """Ask all in one map of one root: plain calls, or child sessions where nothing is short enough for a plain call."""
    program = f"r = recursive_map('q', [context[i:i+9] for i in range(0, {9 * count}, 9)]); print(len(r))"
    query = run_query(program)
    result = await rlm.arun(query, "".join(f"{i:8} " for i in range(count)))
    assert result.answer == "session done", result


WORK: dict[str, tuple[Callable[[RLM, int, Path], Awaitable[None]], dict[str, int]]] = {
    "rows": (rows, {"max_depth": 0}),
    "leaves": (leaves, {"max_depth": 1}),
    "sessions": (leaves, {"max_depth": 2, "max_leaf_chars": 0}),
}
"""What does the work, and the settings that make it that work."""


def items_of(work: str, nodes: int, shape: Shape) -> int:
    """Return how many items weak scaling has on so many nodes."""
    return nodes * (shape.slots * shape.waves if work == "sessions" else shape.places * shape.rounds)


def ideal_s(work: str, items: int, nodes: int, shape: Shape) -> float:
    """Return the seconds that the model's latency takes in the mean, with all places (or slots) used all the time."""
    if work == "sessions":
        return shape.latency_s * TURNS * (1 + items / (nodes * shape.slots))
    root = 0 if work == "rows" else TURNS
    return shape.latency_s * (root + items / (nodes * shape.places))


class Scale:
    """Measures on one cluster of so many nodes."""

    def __init__(self, nodes: int, shape: Shape, server: ServerProcess, folder: Path) -> None:
        import ray

        self._nodes, self._shape, self._server, self._folder = nodes, shape, server, folder
        self._census = Census(server.pid)
        self._journals = folder / "runs"
        settings: dict[str, Any] = {
            "model": "openai/benchmark",
            "api_base": server.url,
            "api_key": "none",
            "deduplicate_maps": False,
            "direct_call_below_chars": 0,
            "run_dir": str(self._journals),
            "rates": Rates(in_flight=nodes * shape.places),
            "cluster": Cluster(sessions_per_actor=shape.slots, min_actors=nodes, max_actors=nodes),
        }
        self._rlm = {work: RLM(**settings | how) for work, (_, how) in WORK.items()}
        self._get = ray.get
        self._idle_cpu: dict[str, float] = {}

    async def warm_up(self) -> None:
        """Start all actors, and let the admission find out that all places may be used: it begins with twenty."""
        await self._rlm["rows"].aprewarm(self._nodes)
        await self._do("rows", 4 * self._nodes * self._shape.places)
        await self._do("sessions", 2 * self._nodes)
        await asyncio.sleep(IDLE_S / 2)
        before = self._census.look()[1]
        await asyncio.sleep(IDLE_S)
        idle = _difference(before, self._census.look()[1])
        self._idle_cpu = {role: round(seconds / IDLE_S, 4) for role, seconds in idle.items()}

    async def _do(self, work: str, items: int) -> None:
        do, _ = WORK[work]
        await do(self._rlm[work], items, self._folder)

    async def measure(self, work: str, scaling: str) -> Point:
        nodes = self._nodes if scaling == "weak" else self._shape.strong_nodes
        items = items_of(work, nodes, self._shape)
        before, calls = self._counts(), self._server.stats()["calls"]
        started_at = time.perf_counter()
        await self._do(work, items)
        seconds = time.perf_counter() - started_at
        after = self._counts()
        cpu_s, messages, size = (_difference(old, new) for old, new in zip(before, after, strict=True))
        return Point(
            work,
            scaling,
            self._nodes,
            items,
            self._server.stats()["calls"] - calls,
            round(seconds, 3),
            ideal_s(work, items, self._nodes, self._shape),
            {role: round(took - self._idle_cpu.get(role, 0.0) * seconds, 4) for role, took in cpu_s.items()},
            self._idle_cpu,
            {name: int(count) for name, count in messages.items()},
            int(size["bytes"]),
            int(size["lines"]),
        )

    def _counts(self) -> tuple[dict[str, float], Mapping[str, int], Mapping[str, int]]:
        """Return seconds of CPU by role, messages by service, and bytes and lines of journals."""
        actors = admission_actor(), journal_actor(current_node_id())
        counts = {name: calls for actor in actors for name, calls in self._get(actor.calls.remote()).items()}
        journals = [file.read_bytes() for file in self._journals.rglob("*.jsonl")]
        size = {"bytes": sum(map(len, journals)), "lines": sum(data.count(b"\n") for data in journals)}
        messages = {
            "admission": counts["admission"].get("exchange", 0),
            "journal": counts["journal"].get("append", 0),
        }
        return self._census.look()[1], messages, size


def _difference(old: Mapping[str, float], new: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value - old.get(name, 0.0), 4) for name, value in new.items()}


@contextmanager
def cluster_of(nodes: int) -> Iterator[None]:
    """Start so many nodes of one CPU, beside one of none for the driver and its services."""
    import ray
    from ray.cluster_utils import Cluster as Nodes

    cluster = Nodes(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(nodes):
            cluster.add_node(num_cpus=1, wait=False)
        cluster.wait_for_nodes()
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        yield
    finally:
        ray.shutdown()
        cluster.shutdown()


async def _measure_all(
    nodes: int, shape: Shape, works: Sequence[str], scalings: Sequence[str]
) -> list[Point]:
    points: list[Point] = []
    os.environ["LATENCY_S"] = str(shape.latency_s)
    with tempfile.TemporaryDirectory() as folder, ServerProcess(["--script", "scale:varied"]) as server:
        scale = Scale(nodes, shape, server, Path(folder))
        await scale.warm_up()
        for work in works:
            for scaling in scalings:
                if scaling == "strong" and nodes == shape.strong_nodes and "weak" in scalings:
                    points.append(replace(points[-1], scaling="strong"))  # it is the same
                else:
                    points.append(await scale.measure(work, scaling))
                print(row_of(points[-1]), flush=True)
    return points


HEADER = (
    "| work | scaling | nodes | items | ideal s | s | efficiency | per s | messages: admission | journal | "
    + " | ".join(f"{role} ms" for role in ROLES)
    + " |\n|---|---|"
    + "---:|" * (8 + len(ROLES))
)


def row_of(point: Point) -> str:
    """Return a measurement as a row of the table; messages are for a call, CPU for an item."""
    each = [f"{1e3 * point.cpu_s.get(role, 0.0) / point.items:.2f}" for role in ROLES]
    figures = [
        point.work, point.scaling, point.nodes, point.items, f"{point.ideal_s:.1f}", f"{point.seconds:.2f}",
        f"{point.efficiency:.0%}", f"{point.items / point.seconds:.1f}",
        *(f"{point.messages.get(name, 0) / max(point.calls, 1):.2f}" for name in ("admission", "journal")), *each,
    ]  # fmt: skip
    return "| " + " | ".join(map(str, figures)) + " |"


def plot(points: Sequence[Point]) -> str:
    """Draw the speed of each kind of work in weak scaling as a multiple of one node's, and what would be straight."""
    series: dict[str, list[tuple[float, float]]] = {}
    for point in points:
        if point.scaling == "weak":
            series.setdefault(point.work, []).append((point.nodes, point.items / point.seconds))
    lines = {
        work: [(n, speed / line[0][1] * line[0][0]) for n, speed in line] for work, line in series.items()
    }
    widest = max((point.nodes for point in points), default=1)
    straight = [(float(n), float(n)) for n in (1, widest)]
    return line_chart(
        "Speed over nodes, work growing with them", lines | {"straight": straight}, x_label="nodes",
        y_label="times the speed of one node",
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nodes", type=int, nargs="*", default=[1, 2, 4, 8])
    parser.add_argument("--work", nargs="*", default=list(WORK), choices=list(WORK))
    parser.add_argument("--scaling", nargs="*", default=["weak", "strong"], choices=["weak", "strong"])
    parser.add_argument("--places", type=int, default=Shape.places)
    parser.add_argument("--slots", type=int, default=Shape.slots)
    parser.add_argument("--rounds", type=int, default=Shape.rounds)
    parser.add_argument("--waves", type=int, default=Shape.waves)
    parser.add_argument("--latency-s", type=float, default=Shape.latency_s)
    parser.add_argument("--out", type=Path, default=Path("scale.json"))
    parser.add_argument("--report", type=Path, help="a file of earlier measurements, instead of measuring")
    options = parser.parse_args()
    shape = Shape(options.places, options.slots, options.rounds, options.waves, latency_s=options.latency_s)
    out = options.report or options.out
    figures: dict[str, Any] = (
        json.loads(out.read_text()) if out.exists() else {"shape": asdict(shape), "points": []}
    )
    points = [Point(**point) for point in figures["points"]]
    if not options.report:
        figures.setdefault("costs", message_costs())
        print(HEADER)
        for nodes in options.nodes:
            with cluster_of(nodes):
                found = asyncio.run(_measure_all(nodes, shape, options.work, options.scaling))
            new = {(point.work, point.scaling, point.nodes) for point in found}
            old = [point for point in points if (point.work, point.scaling, point.nodes) not in new]
            points = sorted([*old, *found], key=lambda point: (point.work, point.scaling, point.nodes))
            out.write_text(json.dumps(figures | {"points": list(map(asdict, points))}, indent=1) + "\n")
    print("\n".join([HEADER, *map(row_of, points)]))
    out.with_suffix(".svg").write_text(plot(points))


if __name__ == "__main__":
    main()
