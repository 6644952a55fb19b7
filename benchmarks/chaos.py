"""Kill anything in the middle of a run: the answer is the same, and nothing is paid twice but what was in flight.

A tree of depth 3 (186 model calls) runs on a local cluster of three nodes. In each run one to three things are killed
at random moments: a REPL (SIGKILL), a session actor, a whole node, the admission, the journal. What is in flight (sent
to the provider and not on record) is watched while each kill takes effect: only those calls may be paid again.

    python benchmarks/chaos.py [--runs 100] [--driver 10] [--seed 0]

`--driver` runs are killed with their driver (SIGKILL) and taken up again by `rlm-ray resume` in another process; what
is in flight is then counted when the last of the driver's cluster is gone.
Exits with 1 if an answer differs or more was paid.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster as Nodes

from rlm_ray import RLM, Cluster
from rlm_ray.cluster.detached_actor import current_node_id
from rlm_ray.cluster.driver import ClusterDriver
from rlm_ray.cluster.services import admission_actor, journal_actor
from rlm_ray.events.records import CallEnded
from rlm_ray.journal.run_store import RunStore, find_run
from rlm_ray.testing import ServerProcess
from rlm_ray.testing.responses import run_query

LATENCY_S = 0.15
TAKES_EFFECT_S = 0.5
"""Ray kills from afar: so long an actor may go on sending calls."""
SILENCE_S = 1.5
"""Without a call for so long, nobody is left of a killed driver's cluster who could make one."""
CLUSTER = Cluster(min_actors=1, max_actors=4, sessions_per_actor=16)
CALLS = 2 + 4 * 2 + 16 * 2 + 16 * 9
TEXT = "".join(f"line {number} of a text that is read in pieces\n" for number in range(2_000))
HEAD = {
    "num_cpus": 1,
    "include_dashboard": False,
    "_system_config": {"health_check_period_ms": 1_000, "health_check_initial_delay_ms": 1_000},
}
"""A lost node is noticed after 5 s instead of 15."""
KINDS = ("sandbox", "actor", "node", "admission", "journal")


def question() -> str:
    """A root, 4 children, 16 grandchildren, 9 plain calls each; the answer holds what all of them said."""
    leaves = run_query(
        "n = len(context) // 9; r = recursive_map('what?', [context[i*n:i*n+i*7+50] for i in range(9)])",
        "FINAL(' '.join(x.split()[-2] for x in r))",
    )
    middle = run_query(
        f"n = len(context) // 4; r = recursive_map('''{leaves}''', [context[i*n:(i+1)*n] for i in range(4)])",
        "FINAL('|'.join(r))",
    )
    return run_query(
        f"n = len(context) // 4; r = recursive_map('''{middle}''', [context[i*n:(i+1)*n] for i in range(4)])",
        "FINAL('/'.join(r))",
    )


@dataclass
class Tally:
    """What all runs came to."""

    runs: int = 0
    right: int = 0
    paid: int = 0
    one_pass: int = 0
    in_flight: int = 0
    repaid: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Sample:
    """What the provider and the run's journal said at one moment."""

    at: float
    arrived: int
    answering: int
    recorded: int

    @property
    def answered_only(self) -> int:
        """Answered, and not on record: on the way to it, or lost with who had asked."""
        return self.arrived - self.answering - self.recorded


class Watch:
    """Which calls were in flight, a hundred times a second: sent to the provider and not on record yet."""

    def __init__(self, server: ServerProcess, journal: Path) -> None:
        self._server, self._journal = server, journal
        self._samples: list[Sample] = []
        self._recorded = self._read = 0
        self._over = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def in_flight(self, windows: list[tuple[float, float]]) -> int:
        """The most at once while each of the kills took effect; what an earlier kill had cost counts there only."""
        total, since = 0, 0.0
        for start, stop in windows:
            before = [sample.answered_only for sample in self._samples if since <= sample.at <= start]
            lost = max(0, min(before, default=0))
            during = [sample for sample in self._samples if start - 0.02 <= sample.at <= stop]
            total += max((s.answering + max(0, s.answered_only - lost) for s in during), default=0)
            since = stop
        return total

    def close(self) -> None:
        self._over.set()

    def _run(self) -> None:
        while not self._over.wait(0.01):
            stats = self._server.stats()
            self._count_records()
            self._samples.append(
                Sample(time.perf_counter(), stats["calls"], stats["in_flight"], self._recorded)
            )

    def _count_records(self) -> None:
        if self._journal.exists():
            with self._journal.open("rb") as file:
                file.seek(self._read)
                data = file.read()
            whole = data.rfind(b"\n") + 1
            self._read += whole
            self._recorded += data[:whole].count(b'{"kind": "call",')


class Chaos:
    """The cluster, the provider, and what can be killed."""

    def __init__(self, server: ServerProcess, run_dir: str, seed: int) -> None:
        self.server, self.run_dir = server, run_dir
        self.dice = random.Random(seed)
        self.nodes = Nodes(initialize_head=True, head_node_args=HEAD)
        self.workers = [self.nodes.add_node(num_cpus=2) for _ in range(2)]
        self.windows: list[tuple[float, float]] = []
        """When the kills of this run took effect."""

    def rlm(self) -> RLM:
        return RLM(
            deduplicate_maps=False, direct_call_below_chars=0,
            model="openai/chaos", api_base=self.server.url, api_key="none", cluster=CLUSTER, max_depth=3,
            max_leaf_chars=1_000, run_dir=self.run_dir,
        )  # fmt: skip

    async def strike(self, kind: str) -> bool:
        """Kill one; False where there is none of the kind."""
        strikes: dict[str, Callable[[], Awaitable[bool]]] = {
            "sandbox": self._sandbox, "actor": self._actor, "node": self._node,
            "admission": self._admission, "journal": self._journal,
        }  # fmt: skip
        started = time.perf_counter()
        struck = await strikes[kind]()
        if struck and kind in ("actor", "node", "sandbox"):
            self.windows.append((started, time.perf_counter() + TAKES_EFFECT_S))
        return struck

    async def _sandbox(self) -> bool:
        census = await (await ClusterDriver.connect(CLUSTER)).stats()
        zygotes = [child for counts in census.values() for child in children_of(counts["pid"])]
        repls = [child for zygote in zygotes for child in children_of(zygote)]
        if not repls:
            return False
        os.kill(self.dice.choice(repls), signal.SIGKILL)
        return True

    async def _actor(self) -> bool:
        engine = await ClusterDriver.connect(CLUSTER)
        handles = list((await engine.run_on_ray_thread(_handles(engine))).values())
        if not handles:
            return False
        ray.kill(self.dice.choice(handles))
        return True

    async def _node(self) -> bool:
        node = self.workers.pop(self.dice.randrange(len(self.workers)))
        self.nodes.remove_node(node, allow_graceful=False)
        self.workers.append(self.nodes.add_node(num_cpus=2))  # Ray wants the main thread for this
        return True

    async def _admission(self) -> bool:
        ray.kill(admission_actor(), no_restart=False)
        return True

    async def _journal(self) -> bool:
        ray.kill(journal_actor(current_node_id()), no_restart=False)
        return True


async def _handles(engine: ClusterDriver) -> dict[str, Any]:
    handles: dict[str, Any] = await engine._pool.handles.remote()  # noqa: SLF001 - a benchmark may look inside
    return handles


def children_of(pid: int) -> list[int]:
    """The processes right below one; none where it is gone."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return []


async def disturbed(chaos: Chaos, right: str, length_s: float, tally: Tally) -> None:
    """One run with one to three kills."""
    chaos.server.reset()
    chaos.windows = []
    kinds = [chaos.dice.choice(KINDS) for _ in range(chaos.dice.randint(1, 3))]
    moments = sorted(chaos.dice.uniform(0.05, 0.95) * length_s for _ in kinds)
    started = time.perf_counter()
    run = await chaos.rlm().astart(question(), TEXT)
    watch = Watch(chaos.server, Path(chaos.run_dir) / run.run_id / "journal.jsonl")
    work = asyncio.ensure_future(run.result())
    struck = []
    for kind, moment in zip(kinds, moments, strict=True):
        await asyncio.sleep(max(0.0, started + moment - time.perf_counter()))
        if not work.done() and await chaos.strike(kind):
            struck.append(kind)
    try:
        result = await work
    except Exception as error:  # noqa: BLE001 - whatever it is, it is counted
        tally.bad.append(f"{run.run_id} {struck}: {error!r}")
        tally.runs += 1
        print(f"{tally.runs:4} ERROR {tally.bad[-1]}", flush=True)
        return
    finally:
        await settle(chaos.server)
        watch.close()
    in_flight = watch.in_flight(chaos.windows)
    record(
        tally,
        chaos,
        in_flight,
        result.answer,
        right,
        struck,
        result.usage.repaid_calls,
        time.perf_counter() - started,
    )


def record(  # noqa: PLR0913, PLR0917 - what a run came to
    tally: Tally,
    chaos: Chaos,
    in_flight: int,
    answer: str | None,
    right: str,
    struck: list[str],
    repaid: int,
    seconds: float,
) -> None:
    paid = chaos.server.stats()["calls"]
    tally.runs += 1
    tally.right += answer == right
    tally.paid += paid
    tally.one_pass += CALLS
    tally.in_flight += in_flight
    tally.repaid += repaid
    tally.kills.update(struck)
    tally.seconds.append(seconds)
    verdict = "right" if answer == right else "WRONG"
    print(
        f"{tally.runs:4} {verdict} {seconds:5.1f} s  paid {paid} = {CALLS} + {paid - CALLS}, in flight at the kills"
        f" {in_flight}, counted as repaid {repaid}  {' '.join(struck) or '-'}",
        flush=True,
    )
    if answer != right or paid > CALLS + in_flight:
        tally.bad.append(f"run {tally.runs}: {verdict}, paid {paid}, allowed {CALLS + in_flight}, {struck}")


async def settle(server: ServerProcess) -> None:
    """Calls whose caller is dead are still answered: count them, too."""
    for _ in range(50):
        if not server.stats()["in_flight"]:
            return
        await asyncio.sleep(0.05)


async def all_disturbed(chaos: Chaos, runs: int) -> Tally:
    tally = Tally()
    first = await chaos.rlm().arun(question(), TEXT)
    started = time.perf_counter()
    undisturbed = await chaos.rlm().arun(question(), TEXT)
    length_s = time.perf_counter() - started
    assert first.answer == undisturbed.answer
    assert undisturbed.usage.total.calls == CALLS, undisturbed.usage.total.calls
    print(f"undisturbed: {CALLS} calls in {length_s:.1f} s", flush=True)
    for _ in range(runs):
        await disturbed(chaos, str(undisturbed.answer), length_s, tally)
    return tally


DRIVER = """
import sys
from rlm_ray import RLM
from chaos import CLUSTER, TEXT, question
url, run_dir = sys.argv[1:]
rlm = RLM(deduplicate_maps=False, direct_call_below_chars=0, model="openai/chaos", api_base=url, api_key="none", cluster=CLUSTER, max_depth=3, max_leaf_chars=1000, run_dir=run_dir)
rlm.prewarm(1)
print("warm", flush=True)
print(rlm.completion(question(), TEXT))
"""


def driver_killed(server: ServerProcess, run_dir: str, dice: random.Random, right: str, tally: Tally) -> None:
    """A driver in a process of its own, killed at a random moment; then `rlm-ray resume last`."""
    server.reset()
    environment = {**os.environ, "RAY_ADDRESS": "", "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-c", DRIVER, server.url, run_dir]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    enough = dice.randint(1, CALLS - 5)
    while server.stats()["calls"] < enough and process.poll() is None:
        time.sleep(0.01)
    folder = find_run("last", run_dir)
    process.kill()
    sent, known = server.stats()["calls"], answers_in(folder)
    process.wait()
    sent_by_all = last_words(server)
    unknown = sent_by_all - answers_in(folder)
    started = time.perf_counter()
    resume = [sys.executable, "-m", "rlm_ray", "resume", "last", "--set", f"run_dir={run_dir}"]
    resume += ["--api-key", "none", "--trust-record", "--json"]
    done = subprocess.run(resume, env=environment, capture_output=True, text=True, check=False, timeout=300)
    paid = server.stats()["calls"]
    result = json.loads(done.stdout) if done.stdout else {"answer": None, "usage": None}
    answer = result["answer"]
    repaid = result["usage"]["total"]["repaid_calls"] if result["usage"] else 0
    tally.runs += 1
    tally.right += answer == right
    tally.paid += paid
    tally.one_pass += CALLS
    tally.in_flight += unknown
    tally.repaid += repaid
    tally.kills["driver"] += 1
    print(
        f"driver killed after {sent} calls, {sent - known} in flight, {sent_by_all - sent} more sent until Ray was gone"
        f" too: {'right' if answer == right else 'WRONG'}, paid {paid} = {CALLS} + {paid - CALLS}, sent and not on"
        f" record {unknown}, counted as repaid {repaid}; resumed in {time.perf_counter() - started:.1f} s",
        flush=True,
    )
    if answer != right or paid > CALLS + unknown:
        tally.bad.append(
            f"driver run {tally.runs}: paid {paid}, allowed {CALLS + unknown}, {done.returncode} {done.stderr[-300:]}"
        )


def answers_in(folder: RunStore) -> int:
    """How many calls have their answers on record."""
    return sum(isinstance(record, CallEnded) and not record.error_kind for record in folder.records())


def last_words(server: ServerProcess) -> int:
    """Calls in all when none comes any more: the actors outlive their driver by a moment."""
    calls, quiet_since = -1, time.monotonic()
    while time.monotonic() - quiet_since < SILENCE_S:
        stats = server.stats()
        if stats["calls"] != calls or stats["in_flight"]:
            calls, quiet_since = stats["calls"], time.monotonic()
        time.sleep(0.02)
    return calls


def summary(name: str, tally: Tally) -> None:
    if not tally.runs:
        return
    print(
        f"{name}: {tally.right} of {tally.runs} with the same answer; paid {tally.paid} = one pass of all"
        f" {tally.one_pass} + {tally.paid - tally.one_pass}; in flight at the kills {tally.in_flight}; counted as"
        f" repaid {tally.repaid}; kills {dict(tally.kills)}"
    )
    for line in tally.bad:
        print("  BAD", line)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--driver", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    tallies = []
    with (
        tempfile.TemporaryDirectory() as run_dir,
        ServerProcess(["--script", "recursion", "--latency-s", str(LATENCY_S)]) as server,
    ):
        if options.runs:
            chaos = Chaos(server, run_dir, options.seed)
            ray.init(address=chaos.nodes.address, include_dashboard=False, log_to_driver=False)
            tallies.append(("disturbed", asyncio.run(all_disturbed(chaos, options.runs))))
            ray.shutdown()
            chaos.nodes.shutdown()
        if options.driver:
            tally = Tally()
            dice = random.Random(options.seed)
            right = str(
                RLM(deduplicate_maps=False, direct_call_below_chars=0, model="openai/chaos", api_base=server.url, api_key="none", cluster=CLUSTER, max_depth=3,
                    max_leaf_chars=1_000, run_dir="").completion(question(), TEXT)
            )  # fmt: skip
            ray.shutdown()
            for _ in range(options.driver):
                driver_killed(server, run_dir, dice, right, tally)
            tallies.append(("driver killed", tally))
    for name, tally in tallies:
        summary(name, tally)
    sys.exit(1 if any(tally.bad for _, tally in tallies) else 0)


if __name__ == "__main__":
    main()
