"""A sandbox for the tests of a module: a zygote takes long to start, a REPL out of it does not.

Such tests share the event loop of their module, since a sandbox belongs to one loop.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from sandbox_fakes import QUICK, Cells, Served

from rlm_ray.core.context import make_context
from rlm_ray.sandbox.host.sandbox import SandboxManager


@pytest.fixture
def served() -> Served:
    return Served()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def manager() -> AsyncIterator[SandboxManager]:
    """The zygote; a file that kills it, or counts its children, has one for each test instead."""
    async with SandboxManager(QUICK) as manager:
        yield manager


@pytest_asyncio.fixture(loop_scope="module")
async def host(manager: SandboxManager) -> AsyncIterator[SandboxManager]:
    """The sandbox without any REPL, before the test and after it."""
    yield manager
    for repl in list(manager._repls):
        await repl.aclose()
    assert manager.live_children == 0


@pytest_asyncio.fixture(loop_scope="module")
async def cells(host: SandboxManager, served: Served) -> Cells:
    return Cells(await host.open(make_context("the quick brown fox " * 50), "what jumps?"), served)
