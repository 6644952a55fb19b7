"""CPU of one model call in the calling process, by each transport, over a model server in a process of its own.

    python benchmarks/model_call.py [--calls 2000] [--concurrency 50] [--chars 2000] [--transports auto,litellm] [--json FILE]

The gateway, the admission and the journal are not part of it: it is `LitellmProvider.complete` alone.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from dataclasses import replace
from pathlib import Path

import uvloop
from figures import Figure, write_figures

from rlm_ray.core.llm import Message, ModelRequest
from rlm_ray.llm.litellm_client import LitellmProvider
from rlm_ray.testing import ServerProcess


async def measure(request: ModelRequest, calls: int, concurrency: int) -> tuple[float, float]:
    """Return CPU milliseconds and wall-clock milliseconds a call."""
    provider = LitellmProvider()
    left = iter(range(calls))

    async def work() -> None:
        for _ in left:
            await provider.complete(request)

    for _ in range(3):
        await provider.complete(request)
    began, cpu = time.perf_counter(), time.process_time()
    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(work())
    spent, took = time.process_time() - cpu, time.perf_counter() - began
    return spent / calls * 1e3, took / calls * 1e3


def main() -> None:
    """Print a line for each transport."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=2_000)
    parser.add_argument("--concurrency", type=int, default=50)
    parser.add_argument("--chars", type=int, default=2_000)
    parser.add_argument("--transports", default="auto,litellm")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    figures = []
    with ServerProcess(["--latency-s", "0.005"]) as server:
        params = {"api_base": server.url, "api_key": "k", "timeout": 60.0, "temperature": 0}
        text = ("word " * arguments.chars)[: arguments.chars]
        messages = (Message("system", "You are brief."), Message("user", text))
        for transport in arguments.transports.split(","):
            request = ModelRequest("openai/scripted", messages, 100, params)
            if transport != "today":
                request = replace(request, transport=transport)
            measured = uvloop.run(measure(request, arguments.calls, arguments.concurrency))
            work = "model call, transport alone" if transport == "auto" else f"the same by {transport}"
            figures.append(
                Figure("cpu", work, "ours", measured[0], "ms", reach=1.0 if transport == "auto" else None)
            )
            print(f"{transport:10} {measured[0]:.2f} ms CPU, {measured[1]:.2f} ms wall clock a call")
    write_figures(arguments.json, figures)


if __name__ == "__main__":
    main()
