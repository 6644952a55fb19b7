from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from sandbox_fakes import QUICK, Cells, Served

from rlm_ray.core.context import make_context
from rlm_ray.sandbox.host.sandbox import SandboxHost


@pytest.fixture
def served() -> Served:
    return Served()


@pytest.fixture
async def host() -> AsyncIterator[SandboxHost]:
    async with SandboxHost(QUICK) as host:
        yield host
    assert host.children == 0


@pytest.fixture
async def cells(host: SandboxHost, served: Served) -> Cells:
    return Cells(await host.open(make_context("the quick brown fox " * 50), "what jumps?"), served)
