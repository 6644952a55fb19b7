"""A REPL that is opened ahead: closed whatever happens to its session."""

import asyncio

import pytest

from rlm_ray.core.context import make_context
from rlm_ray.errors import SandboxError
from rlm_ray.session.repl import PrefetchedRepl


class ClosableRepl:
    closed = 0

    async def aclose(self):
        self.closed += 1


@pytest.mark.parametrize("turns", range(6))
@pytest.mark.parametrize("cancels", [1, 2, 3])
async def test_repl_that_opens_while_its_session_is_cancelled_is_closed(cancels, turns):
    repl, opens = ClosableRepl(), asyncio.Event()

    async def open_repl(*_):
        await opens.wait()
        return repl

    async def session():
        async with PrefetchedRepl(open_repl, make_context("text"), "q"):
            await asyncio.Event().wait()

    work = asyncio.create_task(session())
    await asyncio.sleep(0)
    work.cancel()
    await asyncio.sleep(0)
    opens.set()
    for _ in range(cancels - 1):
        for _ in range(turns):
            await asyncio.sleep(0)
        work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    for _ in range(10):
        await asyncio.sleep(0)
    assert repl.closed == 1


async def test_repl_that_cannot_be_opened_fails_whoever_asks_for_it_and_nobody_else():
    async def open_repl(*_):
        raise SandboxError("no room")

    async with PrefetchedRepl(open_repl, make_context("text"), "q") as repl:
        with pytest.raises(SandboxError, match="no room"):
            await repl.get()
