"""The host runs on any event loop."""

from __future__ import annotations

import asyncio

import pytest
from sandbox_fakes import QUICK, Served

from rlm_ray.core.context import make_context
from rlm_ray.sandbox.host.sandbox import SandboxManager

uvloop = pytest.importorskip("uvloop")


async def _session() -> None:
    async with SandboxManager(QUICK) as host:
        for size in (10, 400_000):
            repl = await host.open(make_context("x" * size), "q")
            result = await repl.run(["print(len(context), recursive_llm('q', context))"], Served())
            assert result.output == f"{size} Q\n"
        run = asyncio.create_task(repl.run(["while True: pass"], Served()))
        await asyncio.sleep(0.05)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert host.live_children == 1


def test_a_session_runs_on_uvloop() -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_session())
