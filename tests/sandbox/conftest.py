from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from sandbox_fakes import QUICK, Cells, Served

from rlm_ray.core.context import make_context
from rlm_ray.sandbox.host.sandbox import SandboxManager


@pytest.fixture
def served() -> Served:
    return Served()


@pytest.fixture
async def host() -> AsyncIterator[SandboxManager]:
    async with SandboxManager(QUICK) as host:
        yield host
    assert host.live_children == 0


@pytest.fixture
async def cells(host: SandboxManager, served: Served) -> Cells:
    return Cells(await host.open(make_context("the quick brown fox " * 50), "what jumps?"), served)
