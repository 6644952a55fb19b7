"""Two tenants on one service: how long one waits while the other does what it should not.

    python benchmarks/neighbours.py               # every kind of noise, each before, during and after
    python benchmarks/neighbours.py --only fences

The quiet tenant asks a question over a text of 5,000 characters four times a second. The noisy one sends, one kind after
the other: 22 MB of messages; contexts at a server that stalls; questions whose model replies with 8,000 fences. Last, in
one process without the service: a REPL's process that floods its host with frames and notes, beside an honest one.
Everything is on loopback and bounded in count and time.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import socket
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml  # type: ignore[import-untyped]  # it comes with Ray, without types

from rlm_ray.core.context import make_context
from rlm_ray.core.repl_types import ReplRequest, SubCallOutcome
from rlm_ray.sandbox.host.sandbox import ReplProcess, Sandbox, SandboxManager
from rlm_ray.serve import ServerConfig
from rlm_ray.serve.api_keys import hash_key
from rlm_ray.serve.launcher import LocalServer, deploy
from rlm_ray.testing import ServerProcess
from rlm_ray.testing.responses import Request, is_session

MODEL = "rlm/openai/root"
LATENCY_S = 0.1
PHASE_S = 12.0
EVERY_S = 0.25
TIMEOUT_S = 60.0
FENCES = 8_000
Post = Callable[..., Awaitable[int]]


def reply(request: Request) -> str:
    """The model: fences where they are asked for, else the length of the context as an answer."""
    if "FENCES" in str(request.messages[:2]) and request.turn == 1:
        return "```text\n" * FENCES
    return "```python\nFINAL(str(len(context)))\n```" if is_session(request) else "plain"


class Client:
    """Posts to the service, one connection for each request."""

    def __init__(self, url: str) -> None:
        self._host, port = urlsplit(url).netloc.split(":")
        self._port = int(port)

    async def post(self, key: str, body: bytes) -> int:
        """The status of a chat; 0 where there is none in time."""
        with contextlib.suppress(OSError, TimeoutError, IndexError, ValueError):
            async with asyncio.timeout(TIMEOUT_S):
                return await self._post(key, body)
        return 0

    async def _post(self, key: str, body: bytes) -> int:
        reader, writer = await asyncio.open_connection(self._host, self._port)
        try:
            head = (
                f"POST /v1/chat/completions HTTP/1.0\r\nhost: {self._host}\r\nauthorization: Bearer {key}\r\n"
            )
            head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            with contextlib.suppress(ConnectionError):  # it may refuse before it has read all
                await writer.drain()
            status = int((await reader.readline()).split()[1])
            await reader.read()
            return status
        finally:
            writer.close()


def chat(*texts: str, **rlm: Any) -> bytes:
    messages = [{"role": "user", "content": text} for text in texts]
    return json.dumps({"model": MODEL, "messages": messages, "rlm": rlm}).encode()


QUIET = chat("text " * 1_000, "How long is it?")


async def quiet(post: Post, seconds: float) -> list[float]:
    """The waits of the quiet tenant, begun at a steady pace whatever comes back."""
    waits: list[float] = []

    async def one() -> None:
        began = time.perf_counter()
        status = await post("quiet", QUIET)
        waits.append(time.perf_counter() - began if status == 200 else TIMEOUT_S)

    async with asyncio.TaskGroup() as group:
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            group.create_task(one())
            await asyncio.sleep(EVERY_S)
    return waits


async def measure(name: str, post: Post, noise: Callable[[], Awaitable[Sequence[object]]]) -> None:
    before = await quiet(post, PHASE_S)
    making = asyncio.create_task(_gathered(noise()))
    during = await quiet(post, PHASE_S)
    told = await making
    after = await quiet(post, PHASE_S)
    print(f"{name}: {_shares(before, during, after)}; the noisy tenant was told {told}", flush=True)


async def _gathered(noise: Awaitable[Sequence[object]]) -> dict[str, int]:
    found = [str(one) for one in await noise]
    return {one: found.count(one) for one in sorted(set(found))}


def _shares(*phases: list[float]) -> str:
    words = ("before", "during", "after")
    return ", ".join(
        f"{word} p50 {statistics.median(waits) * 1e3:,.0f} p99 {_p99(waits) * 1e3:,.0f} ms ({len(waits)})"
        for word, waits in zip(words, phases, strict=True)
    )


def _p99(waits: list[float]) -> float:
    return statistics.quantiles(waits, n=100, method="inclusive")[98] if len(waits) > 1 else waits[0]


def noises(post: Post, stalled: str) -> dict[str, Callable[[], Awaitable[Sequence[object]]]]:
    many = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "x"}] * 600_000}).encode()

    async def messages() -> list[int]:
        return [await post("noisy", many) for _ in range(3)]

    async def stalls() -> list[int]:
        return await asyncio.gather(
            *(post("noisy", chat("Who?", context_uri=f"{stalled}{n}")) for n in range(80))
        )

    async def fences() -> list[int]:
        return await asyncio.gather(*(post("noisy", chat("text " * 1_000, "FENCES")) for _ in range(2)))

    return {f"{len(many) / 1e6:.0f} MB of messages": messages, "stalled contexts": stalls, "fences": fences}


async def service(url: str, stalled: str, only: str) -> None:
    post = Client(url).post
    await quiet(post, 5)
    for name, noise in noises(post, stalled).items():
        if only in name:
            await measure(name, post, noise)


FLOODS = {
    "prints": "h = json.dumps({'kind': 'printed', 'sizes': [100_000], 'chars': 1}).encode(); b = b'n' * 100_000",
    "notes of 59 MB": (
        "h = json.dumps({'kind': 'done', 'sizes': [0, 59_000_000], 'chars': 0, 'notes': 1, 'looked': True, 'failed': "
        "False, 'variables': []}).encode(); b = b'n' * 59_000_000"
    ),
    "heads of 3 MB": (
        "h = json.dumps({'kind': 'printed', 'sizes': [1], 'chars': 1, 'x': [0] * 1_000_000}).encode(); b = b'n'"
    ),
}


async def frames() -> None:
    """An honest REPL beside one whose process sends what it likes; the language filter is off for that one."""
    async with SandboxManager(Sandbox(cell_timeout_s=5.0, cell_cpu_s=5.0)) as host:
        honest = await host.open(make_context("text"), "q")
        for name, flood in FLOODS.items():
            hostile = await host.open(make_context("text"), "q", filtered=False)
            code = f"import os, json\n{flood}\nf = len(h).to_bytes(4, 'little') + len(b).to_bytes(4, 'little') + h + b\n"
            code += "d = f\nwhile True: d = d[os.write(3, d):] or f"
            before = await _cells(honest, 2.0)
            flooding = asyncio.create_task(hostile.run([code], _serve))
            during = await _cells(honest, 6.0)
            result = await flooding
            after = await _cells(honest, 2.0)
            notes = sum(map(len, result.notes))
            print(
                f"frames, {name}: {_shares(before, during, after)}; {notes:,} characters of notes were taken;"
            )
            print(f"    {result.kill_reason}", flush=True)
            await hostile.aclose()


async def _cells(repl: ReplProcess, seconds: float) -> list[float]:
    waits = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        began = time.perf_counter()
        await repl.run(["print(1)"], _serve)
        waits.append(time.perf_counter() - began)
        await asyncio.sleep(0.02)
    return waits


async def _serve(request: ReplRequest) -> Sequence[SubCallOutcome]:
    raise NotImplementedError(request)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", default="", help="messages, contexts, fences or frames")
    only = parser.parse_args().only
    if only in ("", "frames"):
        asyncio.run(frames())
    if only == "frames":
        return
    with (
        ServerProcess(["--script", "neighbours:reply", "--latency-s", str(LATENCY_S)]) as server,
        tempfile.TemporaryDirectory() as folder,
        socket.create_server(
            ("127.0.0.1", 0), backlog=256
        ) as silent,  # it takes connections and says nothing
        socket.create_server(("127.0.0.1", 0)) as free,
    ):
        keys = [{"name": name, "sha256": hash_key(name)} for name in ("quiet", "noisy")]
        keys_file = Path(folder, "keys.yaml")
        keys_file.write_text(yaml.safe_dump({"keys": keys}))
        stalled = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        port = free.getsockname()[1]
        free.close()
        settings = {
            "model": "openai/root",
            "params": {"api_base": server.url, "api_key": "k"},
            "cluster": {"max_actors": 1},
        }
        args = ServerConfig(
            run_dir=f"{folder}/runs", keys_file=str(keys_file), settings=settings, context_uris=[stalled]
        )
        site = LocalServer(args, port=port)
        with deploy(site):
            asyncio.run(service(site.url, stalled, only))


if __name__ == "__main__":
    main()
