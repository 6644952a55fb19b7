"""The corpus of hostile cells through the real engine: Ray, gateway, model server, sandbox.

What is planted: the secret is the run's `api_key` and another key in the driver's and the actors' environment; in the
actors also a live dict, an inheritable file descriptor and a list; outside a file, a file in /dev/shm, a port that
listens, and the context of a neighbour whose session is open all the while. The first test proves that the actors
can reach each of these, so that nothing found means something.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import secrets
import socket
import time
from collections import Counter, defaultdict
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from waiting import until

from rlm_ray import Limits, Sandbox
from rlm_ray.cli import console
from rlm_ray.cluster.driver import ClusterDriver
from rlm_ray.cluster.environment import provider_environment
from rlm_ray.testing import ModelServer, Reply
from rlm_ray.testing.responses import is_session

pytestmark = pytest.mark.ray

CORPUS = Path(__file__).parents[1] / "sandbox" / "data" / "escape_corpus.jsonl"
ESCAPES = {cell["id"]: cell for cell in map(json.loads, CORPUS.read_text().splitlines())}
CHECKS = sorted(
    cell["success_signature"]["check"].replace("_ncallbacks()>0", "_ncallbacks()>callbacks")
    for cell in ESCAPES.values()
    if cell["success_signature"]["kind"] == "host_state"
)
LIMITS = Sandbox(cell_timeout_s=4.0, cell_cpu_s=0.7, memory_mb=96)
SESSION_S = 20.0
"""Far more than any session needs here, so that only a hang reaches it."""
AT_ONCE = 8
AFTERWARDS = "the session went on"
MOST_SHOWN_CHARS = 60_000
"""The prompt with all that a flood of output may add to it."""


@dataclass
class Canaries:
    """The secret, in every place a hostile cell might look, and what they all lead to."""

    secret: str
    file: Path
    fill: Path
    shared: Path
    listener: socket.socket
    documents: list[str] = field(default_factory=lambda: ["a document"])
    callbacks: int = field(default_factory=atexit._ncallbacks)

    def arm(self, code):
        code = code.replace("/tmp/rlm_canary.txt", str(self.file)).replace("/tmp/rlm_fill", str(self.fill))
        return f"canary_port = {self.listener.getsockname()[1]}\ndocuments = context\nlen(context)\n{code}"

    def reached(self):
        """Somebody has connected to the port since the last call."""
        try:
            self.listener.accept()[0].close()
        except BlockingIOError:
            return False
        return True


@dataclass
class Ended:
    """One hostile session: what its model was shown, and how it ended."""

    escape: dict
    result: object
    seconds: float
    asked: list
    """All requests of the session and of its sub-calls."""

    @property
    def name(self):
        return self.escape["id"]

    def told(self, turn):
        """What the model was told at the start of a turn, without the status line."""
        seen = [request.last for request in self.asked if is_session(request) and request.turn == turn]
        return seen[0].rpartition("\n\n")[0] if seen else ""

    @property
    def shown(self):
        """What the model saw of the hostile cell, without the names it made."""
        return self.told(turn=2).partition("\nVariables: ")[0].strip()

    @property
    def everything(self):
        """All that left the session: what the models were shown, the answer, the error."""
        return repr([self.result, *(request.body for request in self.asked)])

    @property
    def how(self):
        """In a few words, which wall the cell met."""
        signs = {
            "its own process died": ("crashed", "broke the protocol"),
            "limit": ("processor time", "ran longer", "MemoryError", "RecursionError", "left out"),
            "kernel": ("PermissionError", "can't start new thread"),
            "exception": ("Error:\n",),
        }
        return next(
            (how for how, found in signs.items() if any(sign in self.shown for sign in found)),
            "nothing to gain",
        )


@pytest.fixture
def canaries(tmp_path, monkeypatch):
    secret = f"canary-{secrets.token_hex(12)}"
    monkeypatch.setenv("RLM_CANARY", secret)
    monkeypatch.setenv("CANARY_API_KEY", secret)
    file, shared = tmp_path / "rlm_canary.txt", Path(f"/dev/shm/rlm_canary_{os.getpid()}")
    file.write_text(secret)
    shared.write_text(secret)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield Canaries(secret, file, tmp_path / "fill", shared, listener)
    shared.unlink()


@pytest.fixture
async def actors(cluster, canaries):
    """The session actors, with the secret planted in each; it is dug up again afterwards."""
    engine = await ClusterDriver.connect(cluster)
    await engine.grow_to(2)
    await engine._pool.set_environment.remote(provider_environment())
    handles = list((await engine._pool.handles.remote()).values())
    await in_all(handles, plant_in_actor(), canaries.secret, str(canaries.file))
    yield handles
    await in_all(handles, set_filter(), True)
    await in_all(handles, dig_up_in_actor())


async def in_all(handles, function, *arguments):
    """Call the function with each actor's instance, in the actor."""
    return await asyncio.gather(*(handle.__ray_call__.remote(function, *arguments) for handle in handles))


def plant_in_actor():
    """A closure, for it travels to the actor by value."""

    def plant(host, secret, file):
        os.environ["RLM_CANARY"] = secret
        host.planted = {"RLM_PLANTED_KEY": secret, "so that": ["gc tracks it"]}
        host.planted_fd = os.open(file, os.O_RDONLY)
        os.set_inheritable(host.planted_fd, True)
        host.documents, host.callbacks = ["a document"], atexit._ncallbacks()

    return plant


def dig_up_in_actor():
    def dig_up(host):
        del os.environ["RLM_CANARY"], os.environ["CANARY_API_KEY"]
        os.close(host.planted_fd)
        del host.planted, host.planted_fd, host.documents, host.callbacks

    return dig_up


def reach_from_actor():
    """What code in an actor finds, where the sandbox does not stand in its way: the hostile cells' own means."""

    def reach(host, port):
        import gc
        import subprocess

        inherited = f"os.pread({host.planted_fd}, 200, 0).decode()"
        script = f"import os; print(os.environ['RLM_CANARY'], os.environ['CANARY_API_KEY'], {inherited})"
        child = ["python3", "-c", script]
        socket.create_connection(("127.0.0.1", port)).close()
        return [
            *subprocess.run(
                child, capture_output=True, text=True, check=True, close_fds=False
            ).stdout.split(),
            *(
                o["RLM_PLANTED_KEY"]
                for o in gc.get_objects()
                if isinstance(o, dict) and "RLM_PLANTED_KEY" in o
            ),
            *(path.read_text() for path in Path("/dev/shm").glob("rlm_canary*")),
        ]

    return reach


def set_filter():
    """Whether new REPLs of an actor filter the language, or leave it to the kernel alone."""

    def patch(_, filtered):
        from functools import partialmethod

        from rlm_ray.sandbox.host.sandbox import SandboxManager

        if not filtered:
            SandboxManager.open_filtered, SandboxManager.open = (
                SandboxManager.open,
                partialmethod(SandboxManager.open, filtered=False),
            )
        elif hasattr(SandboxManager, "open_filtered"):
            SandboxManager.open = SandboxManager.open_filtered
            del SandboxManager.open_filtered

    return patch


def check_in_actor():
    def check(host, checks):
        names = {"documents": host.documents, "callbacks": host.callbacks}
        return [check for check in checks if eval(check, names)]

    return check


async def corrupted(actors, canaries):
    """The corpus's signs of a changed host that hold in the driver or in an actor."""
    names = {"documents": canaries.documents, "callbacks": canaries.callbacks}
    here = [check for check in CHECKS if eval(check, names)]
    return here + [found for there in await in_all(actors, check_in_actor(), CHECKS) for found in there]


async def processes_below(actors):
    """Processes that descend from the actors: their zygotes, and the REPLs of open sessions."""

    def pid(host):
        return os.getpid()

    roots = await in_all(actors, pid)
    parents = console._parents()
    return {below for root in roots for below in console.descendants(root, parents)}


def cell_of(request):
    """The corpus's name of the cell, from the session's question; empty for another session."""
    text = str(request.messages)
    return text.partition("CELL<")[2].partition(">")[0]


def script_for(canaries):
    """The model: hostile on its first turn, honest afterwards; the neighbour's takes a minute."""

    def script(request):
        if not is_session(request):
            return "leaf"
        name = cell_of(request)
        if name == "neighbour":
            return (
                "```python\nheld = context + ''\nprint(len(held))\n```"
                if request.turn == 1
                else Reply("late", latency_s=90)
            )
        turns = (
            [canaries.arm(ESCAPES[name]["code"]), f"FINAL({AFTERWARDS!r})"]
            if name in ESCAPES
            else ["FINAL('fine')"]
        )
        if "code" in ESCAPES.get(name, {}).get("success_signature", {}):
            turns.insert(1, ESCAPES[name]["success_signature"]["code"])
        return f"```python\n{turns[min(request.turn, len(turns)) - 1]}\n```"

    return script


@asynccontextmanager
async def neighbours(rlm, server, actors, canaries):
    """A session in each actor that holds the secret in a large context, in its REPL, while the block lasts."""
    context = "x" * 200_000 + canaries.secret
    runs = [asyncio.create_task(rlm.arun("CELL<neighbour> hold it", context)) for _ in actors]

    async def holding():
        return [cell_of(request) + str(request.turn) for request in server.requests].count(
            "neighbour2"
        ) == len(runs)

    try:
        await until(holding)
        yield
        assert not any(run.done() for run in runs)
    finally:
        for run in runs:
            run.cancel()
        await asyncio.gather(*runs, return_exceptions=True)


async def attack(rlm, server, canaries):
    """All cells, each in a session of its own, some at once; in the order of the corpus."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(name):
        async with gate:
            started = time.monotonic()
            result = await rlm.arun(f"CELL<{name}> what is it?", canaries.documents)
            return result, time.monotonic() - started

    results = await asyncio.gather(*map(one, ESCAPES))
    asked = defaultdict(list)
    for request in server.requests:
        asked[cell_of(request)].append(request)
    return [
        Ended(escape, result, seconds, asked[name])
        for (name, escape), (result, seconds) in zip(ESCAPES.items(), results, strict=True)
    ]


def show(ended):
    for item in sorted(ended, key=lambda item: (item.escape["category"], item.how, item.name)):
        lines = item.shown.splitlines() or ["-"]
        told = f"{item.how:21} {item.seconds:4.1f} s, {item.result.turns} turns  {lines[-1][:90]}"
        print(f"{item.escape['category']:17} {item.name:34} {told}")  # noqa: T201 - the table, shown with -s
    totals = Counter((item.escape["category"], item.how) for item in ended)
    for (category, how), number in sorted(totals.items()):
        print(f"{category:17} {how:21} {number:3}")  # noqa: T201


async def test_what_is_planted_can_be_reached_from_an_actor(actors, canaries):
    """The control: each hiding place is open to code that no sandbox holds."""
    port = canaries.listener.getsockname()[1]
    for found in await in_all(actors, reach_from_actor(), port):
        assert len(found) >= 5
        assert set(found) == {canaries.secret}
    assert canaries.reached()


@pytest.mark.parametrize("filtered", [True, False], ids=["whole sandbox", "kernel alone"])
async def test_no_hostile_cell_reaches_anything_but_its_own_session(ask, cluster, actors, canaries, filtered):
    """All 106: no secret is shown or answered, no host changes, every session goes on, no process is left."""
    engine = await ClusterDriver.connect(cluster)
    with ModelServer(script_for(canaries)) as server:
        rlm = ask(server, sandbox=LIMITS, limits=Limits(time_s=SESSION_S), api_key=canaries.secret)
        calm = ask(server, sandbox=LIMITS)
        await asyncio.gather(*(calm.arun("CELL<calm> fine?", "nothing to see") for _ in range(4)))
        assert await corrupted(actors, canaries) == []
        await in_all(actors, set_filter(), filtered)
        census, processes = await engine.stats(), await processes_below(actors)
        async with neighbours(calm, server, actors, canaries):
            ended = await attack(rlm, server, canaries)
        show(ended)
        assert filtered or any(item.how == "kernel" for item in ended)

        assert [item.name for item in ended if canaries.secret in item.everything] == []
        assert not canaries.reached()
        assert not canaries.fill.exists()
        assert await corrupted(actors, canaries) == []

        assert [item.name for item in ended if item.result.stop_reason != "answered"] == []
        assert {item.name: item.result.answer for item in ended} == dict.fromkeys(ESCAPES, AFTERWARDS)
        assert max(item.seconds for item in ended) < SESSION_S
        assert max(len(item.shown) for item in ended) < MOST_SHOWN_CHARS
        hijack = next(item for item in ended if item.name == "st_hijack_callback")
        assert "leaf" in hijack.told(turn=3)
        assert "hijacked" not in hijack.told(turn=3)

        async def as_before():
            return await processes_below(actors) == processes

        await until(as_before)
        assert await engine.stats() == census
        assert [count["sandboxes"] + count["sessions"] for count in census.values()] == [0, 0]
