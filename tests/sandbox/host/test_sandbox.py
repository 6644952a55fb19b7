"""The host runs on any event loop."""

from __future__ import annotations

import asyncio

import pytest
from sandbox_fakes import QUICK, Served

from rlm_ray.core.context import make_context
from rlm_ray.sandbox.host.sandbox import Sandbox, SandboxManager

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


async def test_loop_is_interrupted_and_what_was_done_stays() -> None:
    """The many ways to overrun a limit are among the slow tests; this one holds that there is a limit at all."""
    async with SandboxManager(Sandbox(cell_cpu_s=0.2)) as host:
        repl = await host.open(make_context("x"), "q")
        served = Served()
        code = "n = 1\nwhile True:\n    try:\n        while True: n += 1\n    finally:\n        recursive_llm('q')"
        result = await repl.run([code], served)
        assert (result.kill_reason, served.calls) == (None, [])
        assert "CellTimeout: the cell used more than 0.2 s of processor time" in (result.error or "")
        assert (await repl.run(["print(n > 0)"], served)).output == "True\n"
