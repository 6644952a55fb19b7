"""Many streamed chats at once through Ray Serve, with and without the replica killed in the middle.

    python benchmarks/serve.py                 # 200 chats against a model that answers after 200 ms
    python benchmarks/serve.py --kill-after 1  # and the replica killed after a second
    python benchmarks/serve.py --upload-mb 100 # a file uploaded, and a question about it

Each chat has an answer of its own, so a mixed-up one is seen. Its critical path is a turn and one level of sub-calls.

The client is a bare one: openai's takes 7 ms of CPU for each chat, and in one process none of two hundred hears anything
until all of them have asked.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import json
import socket
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import openai
import ray
from census import Census
from figures import Figure, median_figure, write_figures
from ray import serve
from starlette.requests import Request
from starlette.responses import StreamingResponse

from rlm_ray.serve import ServerConfig
from rlm_ray.serve.launcher import LocalServer, deploy
from rlm_ray.testing import ServerProcess
from rlm_ray.testing.responses import run_query

LATENCY_S = 0.2
CRITICAL_S = 2 * LATENCY_S
MODEL = "rlm/openai/root"
TRIES = 20
PAUSE_S = 1.0
TIMEOUT_S = 120.0
ASK_AGAIN = frozenset({429, 500, 502, 503, 504})


@dataclass
class Chat:
    number: int
    answer: str = ""
    first_s: float = 0.0
    """Until the first byte of the try that was answered."""
    seconds: float = 0.0
    """Of that try."""
    tries: int = 0

    @property
    def right(self) -> bool:
        return self.answer == f"answer {self.number}: 2"


class BareApplication:
    """Streams two constant lines: what Ray Serve takes for a streamed chat without any work."""

    async def __call__(self, request: Request) -> StreamingResponse:
        await request.json()
        return StreamingResponse(self._lines(), media_type="text/event-stream")

    async def _lines(self) -> AsyncIterator[str]:
        for _ in range(2):
            yield "data: {}\n\n"


async def bare_load(url: str, requests: int) -> list[float]:
    """Ask the bare application all at once; seconds until the first byte of each."""

    async def ask() -> float:
        started = time.perf_counter()
        async for _ in _streamed(f"{url}/bare", {"text": "text " * 1_000}):
            return time.perf_counter() - started
        raise RuntimeError("the bare application said nothing")

    return await asyncio.gather(*(ask() for _ in range(requests)))


async def play(chat: Chat, url: str) -> None:
    """Ask until the whole answer is there; a broken stream or a refusal is asked again, as clients do."""
    while not chat.answer and chat.tries < TRIES:
        if chat.tries:
            await asyncio.sleep(PAUSE_S)
        chat.tries += 1
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(TIMEOUT_S):
                await _ask(chat, url)


async def _ask(chat: Chat, url: str) -> None:
    program = f"FINAL('answer {chat.number}: ' + str(len(recursive_map('q', [context[:9], context[9:]]))))"
    texts = [f"text of {chat.number} " * 500, run_query(program)]
    messages = [{"role": "user", "content": text} for text in texts]
    started = time.perf_counter()
    first, answer, whole = 0.0, "", False
    async for chunk in _streamed(
        f"{url}/v1/chat/completions", {"model": MODEL, "stream": True, "messages": messages}
    ):
        first = first or time.perf_counter() - started
        for choice in chunk.get("choices", ()):
            answer += choice["delta"].get("content") or ""
            whole = whole or choice["finish_reason"] is not None
    if whole:
        chat.answer, chat.first_s, chat.seconds = answer, first, time.perf_counter() - started


async def _streamed(url: str, body: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    """The chunks of a chat. Nothing where it is refused for the moment."""
    where = urlsplit(url)
    host, port = where.netloc.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        data = json.dumps(body).encode()
        head = f"POST {where.path} HTTP/1.0\r\nhost: {host}\r\ncontent-type: application/json\r\n"
        writer.write(f"{head}content-length: {len(data)}\r\n\r\n".encode() + data)
        status = int((await reader.readline() or b"- 503").split()[1])
        if status != 200 and status not in ASK_AGAIN:
            raise RuntimeError(f"{status}: {(await reader.read()).decode()}")
        async for line in reader:
            if line.startswith(b"data: {"):
                yield json.loads(line.removeprefix(b"data: "))
    finally:
        writer.close()


async def load(url: str, chats: int, kill_after_s: float | None) -> list[Chat]:
    """All at once; the replica may be killed meanwhile."""
    played = [Chat(number) for number in range(chats)]
    async with asyncio.TaskGroup() as group:
        for chat in played:
            group.create_task(play(chat, url))
        if kill_after_s is not None:
            await asyncio.sleep(kill_after_s)
            await asyncio.to_thread(kill_the_replica)
    return played


def kill_the_replica() -> None:
    for actor in ray.util.list_named_actors(all_namespaces=True):
        if actor["name"].startswith("SERVE_REPLICA::rlm#"):
            ray.kill(ray.get_actor(actor["name"], namespace=actor["namespace"]))


def told(name: str, chats: list[Chat], seconds: float, cpu_s: float) -> tuple[float, float, float]:
    """Print a round; returns p50 of the first byte, p99 above the critical path, milliseconds of CPU a chat."""
    overheads = [chat.seconds - CRITICAL_S for chat in chats if chat.answer]
    firsts = [chat.first_s for chat in chats if chat.answer]
    wrong = sum(bool(chat.answer) and not chat.right for chat in chats)
    print(
        f"{name}: {sum(chat.right for chat in chats)} of {len(chats)} right, {wrong} wrong, "
        f"{sum(not chat.answer for chat in chats)} without an answer, "
        f"{sum(chat.tries - 1 for chat in chats)} asked again; {seconds:.1f} s in all\n"
        f"    above the critical path: p50 {_share(overheads, 50):.2f} s, p99 {_share(overheads, 99):.2f} s; "
        f"first byte: p50 {_share(firsts, 50) * 1e3:.0f} ms, p99 {_share(firsts, 99) * 1e3:.0f} ms; "
        f"{1e3 * cpu_s / len(chats):.0f} ms of CPU a chat",
        flush=True,
    )
    return _share(firsts, 50), _share(overheads, 99), 1e3 * cpu_s / len(chats)


def figures_of(count: int, rounds: list[tuple[float, float, float]], bare: list[float]) -> list[Figure]:
    """Make the figures of so many chats at once; `bare` is the first byte of the bare application, round by round."""
    firsts, overheads, cpus = zip(*rounds, strict=True)
    at_once = f"{count} streamed chats at once"
    reach_s = 1.0 if count <= 50 else None
    reach_first_s = 1.3 * statistics.median(bare)
    return [
        median_figure(
            "other", f"a bare Ray Serve application, {at_once}: first byte, p50", "ours", bare, "s"
        ),
        median_figure("other", f"{at_once}: first byte, p50", "ours", firsts, "s", reach=reach_first_s),
        median_figure(
            "other", f"{at_once}: above the critical path, p99", "ours", overheads, "s", reach=reach_s
        ),
        median_figure(
            "cpu", f"streamed chat with two calls, {count} at once", "ours", cpus, "ms", reach=40.0
        ),
    ]


def _cpu_s(census: Census) -> float:
    """Of all but the model's server and this process, which asks."""
    return sum(s for role, s in census.look()[1].items() if role not in {"server", "driver"})


def _share(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def upload(url: str, megabytes: int) -> None:
    """A file as large as this, and a question that reads all of it."""
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0)
    data = (b"hay " * 255 + b"pin\n") * 1024 * megabytes
    started = time.perf_counter()
    file = client.files.create(file=("hay.txt", io.BytesIO(data)), purpose="user_data")
    uploaded_s = time.perf_counter() - started
    program = run_query("FINAL(str(context.count('pin')))")
    started = time.perf_counter()
    wish = {"rlm": {"file_ids": [file.id]}}
    answer = client.responses.create(model=MODEL, input=program, extra_body=wish).output_text
    asked_s = time.perf_counter() - started
    right = answer == str(1024 * megabytes)
    print(
        f"{len(data):,} bytes: uploaded in {uploaded_s:.2f} s, asked about in {asked_s:.2f} s, right: {right}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--chats", type=int, nargs="+", default=[200])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kill-after", type=float)
    parser.add_argument("--upload-mb", type=int)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with (
        ServerProcess(["--script", "recursion", "--latency-s", str(LATENCY_S)]) as server,
        tempfile.TemporaryDirectory() as folder,
    ):
        settings = {
            "model": "openai/root",
            "params": {"api_base": server.url, "api_key": "k"},
            "cluster": {"sessions_per_actor": 128, "max_actors": 2, "min_actors": 2},
        }
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        site = LocalServer(ServerConfig(run_dir=folder, settings=settings), port=port)
        with deploy(site):
            serve.run(
                serve.deployment(
                    BareApplication, max_ongoing_requests=1_000, ray_actor_options={"num_cpus": 0}
                ).bind(),
                name="bare",
                route_prefix="/bare",
            )
            asyncio.run(load(site.url, 20, None))
            asyncio.run(bare_load(site.url, 20))
            if options.upload_mb:
                upload(site.url, options.upload_mb)
                return
            census, figures = Census(server.pid), []
            for count in options.chats:
                rounds, bare = [], []
                for number in range(1 if options.kill_after else options.rounds):
                    bare.append(statistics.median(asyncio.run(bare_load(site.url, count))))
                    print(f"{count} at a bare application: first byte: p50 {bare[-1] * 1e3:.0f} ms")
                    before_s, started = _cpu_s(census), time.perf_counter()
                    chats = asyncio.run(load(site.url, count, options.kill_after))
                    seconds, cpu_s = time.perf_counter() - started, _cpu_s(census) - before_s
                    rounds.append(told(f"{count} chats, round {number + 1}", chats, seconds, cpu_s))
                figures += figures_of(count, rounds, bare)
            write_figures(options.json, figures)


if __name__ == "__main__":
    main()
