"""What a message costs the admission and the journal, and what a call (a line) in it: CPU of their processes, over TCP.

    python benchmarks/message_cost.py
    python benchmarks/message_cost.py --clients 400 --calls-per-s 4000

Each service runs in a process of its own, on the loop that Ray gives its actors; eight connections send messages of 1, 2,
4 and 8 items one after the other. An item of the admission is a request, its grant and the settlement of the one
before; one of the journal is a line of 560 bytes. The figures are those of the straight line through the four.

With `--clients` so many clients of the admission, all in this process, make so many calls of two seconds together, once
with messages as they come and once with clients that are asked to collect.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import multiprocessing
import random
import secrets
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import uvloop
from census import cpu_s

from rlm_ray.admission.client import AdmissionClient
from rlm_ray.admission.controller import AdmissionController
from rlm_ray.admission.protocol import AttemptOutcome, ClientMessage, PermitRequest, RunPolicy, Settle
from rlm_ray.admission.server import MAX_MESSAGES_PER_S, AdmissionServer
from rlm_ray.core.limits import Limits, Rates
from rlm_ray.core.llm import Usage
from rlm_ray.journal.server import JournalRef, JournalServer
from rlm_ray.util.rpc import RpcAddress, RpcClient, RpcServer
from rlm_ray.util.rpc_service import service_of

SIZES = (1, 2, 4, 8)
CONNECTIONS = 8
CALL_S = 2.0
MESSAGES = 24_000
"""Of one item; larger ones are fewer at the admission."""
POLICY = RunPolicy("run", Limits(cost_usd=1e6), Rates(rpm=1e8, tpm=1e12, in_flight=1_000_000))
LINE = b'{"kind": "call", ' + b"x" * 540 + b"}\n"


def serve(kind: str, pipe: Connection, token: bytes, max_per_s: float = math.inf) -> None:
    """Serve until something comes through the pipe."""

    async def run() -> None:
        server = (
            AdmissionServer(AdmissionController(), "epoch", max_messages_per_s=max_per_s)
            if kind == "admission"
            else JournalServer()
        )
        service = service_of(type(server))
        pipe.send(
            await RpcServer(server, frozenset(service.methods), token, service.codec).listen("127.0.0.1")
        )
        if isinstance(server, AdmissionServer):
            await server.open_run(POLICY)
            holding = asyncio.ensure_future(server.hold_run(POLICY.run_id))
        await asyncio.to_thread(pipe.recv)
        if isinstance(server, AdmissionServer):
            holding.cancel()

    uvloop.run(run())


async def ask(call: Callable[..., Awaitable[Any]], name: str, size: int, messages: int) -> None:
    """Ask for permits and settle those of the message before."""
    held: list[str] = []
    for number in range(messages):
        ids = [f"{name}:{number}:{place}" for place in range(size)]
        asks = tuple(
            PermitRequest("run", "key", "openai/m", 1000, 500, 0.001, 1.0, 1, request_id=each, client_id=name)
            for each in ids
        )
        settles = tuple(Settle(each, AttemptOutcome.OK, Usage(900, 130), 0.0005) for each in held)
        reply = await call("exchange", ClientMessage(name, "epoch", asks, settles, long_poll=True))
        assert len(reply.verdicts) == size, reply
        held = ids


async def write(call: Callable[..., Awaitable[Any]], ref: JournalRef, size: int, messages: int) -> None:
    """Append lines."""
    for _ in range(messages):
        await call("append", ref, LINE * size)


async def send_all(kind: str, address: RpcAddress, size: int, messages: int, folder: str) -> None:
    codec = service_of(AdmissionServer if kind == "admission" else JournalServer).codec
    clients = [RpcClient(lambda: asyncio.sleep(0, address), codec) for _ in range(CONNECTIONS)]
    ref = JournalRef(folder, "20260101-000000", "attempt", "node")
    async with asyncio.TaskGroup() as group:
        for number, client in enumerate(clients):
            if kind == "admission":
                group.create_task(ask(client.call, f"{size}-{number}", size, messages))
            else:
                group.create_task(write(client.call, ref, size, messages))
    for client in clients:
        await client.aclose()


@contextmanager
def served(kind: str, max_per_s: float = math.inf) -> Iterator[tuple[RpcAddress, int]]:
    """Serve in a process of its own; its address and its number."""
    here, there = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(
        target=serve, args=(kind, there, secrets.token_bytes(32), max_per_s)
    )
    server.start()
    assert server.pid is not None
    yield here.recv(), server.pid
    here.send("end")
    server.join()


def message_cost(kind: str) -> dict[str, float]:
    """Return seconds of CPU of a message and of an item in it."""
    spent = []
    with tempfile.TemporaryDirectory() as folder, served(kind) as (address, pid):
        asyncio.run(send_all(kind, address, 1, 100, folder))  # warms up
        for size in SIZES:
            messages = MESSAGES // CONNECTIONS // (size if kind == "admission" else 1)
            before = cpu_s(pid)
            asyncio.run(send_all(kind, address, size, messages, folder))
            spent.append((cpu_s(pid) - before) / (messages * CONNECTIONS))
    item, message = statistics.linear_regression(SIZES, spent)
    return {"message": round(message, 8), "item": round(item, 8)}


def message_costs() -> dict[str, dict[str, float]]:
    """Return the costs of both services."""
    return {kind: message_cost(kind) for kind in ("admission", "journal")}


class _CountingStub:
    """Calls the admission over a connection of its own, and counts."""

    messages = 0

    def __init__(self, address: RpcAddress) -> None:
        self.rpc = RpcClient(lambda: asyncio.sleep(0, address), service_of(AdmissionServer).codec)

    async def exchange(self, message: ClientMessage) -> Any:
        _CountingStub.messages += 1
        return await self.rpc.call("exchange", message)


async def many_clients(address: RpcAddress, pid: int, clients: int, calls_per_s: float) -> str:
    """Make calls of two seconds for a while; the CPU of a call at the admission, its messages, and the wait for a permit."""
    stubs = [_CountingStub(address) for _ in range(clients)]
    members: list[AdmissionClient] = [
        AdmissionClient(f"client-{number}", stub)  # type: ignore[arg-type]  # all of the server that a client calls
        for number, stub in enumerate(stubs)
    ]
    calls, waited_s = 0, 0.0

    async def caller(client: AdmissionClient) -> None:
        nonlocal calls, waited_s
        await asyncio.sleep(random.uniform(0, CALL_S))
        while True:
            asked_at = time.perf_counter()
            async with client.permit(PermitRequest("run", "key", "openai/m", 1000, 500, 0.001)) as permit:
                waited_s += time.perf_counter() - asked_at
                await asyncio.sleep(random.uniform(0.5, 1.5) * CALL_S)
                permit.release(AttemptOutcome.OK, Usage(900, 130), 0.0005)
            calls += 1

    callers = [asyncio.create_task(caller(members[n % clients])) for n in range(round(calls_per_s * CALL_S))]
    await asyncio.sleep(3 * CALL_S)
    before, spent = (calls, waited_s, _CountingStub.messages), cpu_s(pid)
    await asyncio.sleep(4 * CALL_S)
    made, waited, messages = calls - before[0], waited_s - before[1], _CountingStub.messages - before[2]
    spent = cpu_s(pid) - spent
    for task in callers:
        task.cancel()
    await asyncio.gather(*callers, return_exceptions=True)
    for member, stub in zip(members, stubs, strict=True):
        await member.aclose()
        await stub.rpc.aclose()
    return (
        f"{made / 4 / CALL_S:.0f} calls/s, {messages / made:.2f} messages a call, {1e6 * spent / made:.0f} us of CPU a call, "
        f"{100 * spent / 4 / CALL_S:.0f}% of a core, {1e3 * waited / made:.0f} ms for a permit"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=0)
    parser.add_argument("--calls-per-s", type=float, default=4000)
    options = parser.parse_args()
    if not options.clients:
        for name, cost in message_costs().items():
            print(f"{name}: {1e6 * cost['message']:.0f} us a message, {1e6 * cost['item']:.1f} us an item")
        return
    for how, max_per_s in {"as they come": math.inf, "asked to collect": MAX_MESSAGES_PER_S}.items():
        with served("admission", max_per_s) as (address, pid):
            found = asyncio.run(many_clients(address, pid, options.clients, options.calls_per_s))
        print(f"{options.clients} clients, {how}: {found}", flush=True)


if __name__ == "__main__":
    main()
