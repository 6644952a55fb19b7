"""The disk of the run folder fills up in the middle of a run: it stops and can go on later, or goes on unrecorded."""

from __future__ import annotations

import asyncio
import os
import resource

import pytest
from deep_tree import ANSWER, CALLS, TEXT, TREE

from rlm_ray import RLM
from rlm_ray.cluster.detached_actor import current_node_id
from rlm_ray.cluster.driver import ClusterDriver
from rlm_ray.cluster.services import journal_actor
from rlm_ray.errors import JournalError
from rlm_ray.testing import ModelServer
from rlm_ray.testing.responses import recursion

pytestmark = pytest.mark.ray

ROOM = 20_000
"""Bytes: about a third of the journal of this run."""


@pytest.fixture
def server():
    with ModelServer(recursion, latency_s=0.05) as running:
        yield running


@pytest.fixture
async def disk(cluster):
    """Files of the journal's process cannot grow beyond `ROOM`; `disk(None)` makes room again."""
    await ClusterDriver.connect(cluster)
    pid = await journal_actor(current_node_id()).__ray_call__.remote(lambda _: os.getpid())

    def limit(size):
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard if size is None else size, hard))

    limit(ROOM)
    yield limit
    limit(None)


async def test_a_run_whose_disk_is_full_stops_and_goes_on_when_there_is_room(ask, server, disk):
    run = await ask(server, max_depth=2, max_leaf_chars=200).astart(TREE, TEXT)
    with pytest.raises(
        JournalError, match=r"a file may not grow so large here; raise the limit .* choose another run_dir"
    ):
        await run.result()
    async with asyncio.timeout(5):
        while server.in_flight:  # noqa: ASYNC110 - for what happens in other processes
            await asyncio.sleep(0.01)
    assert 3 < server.calls < CALLS
    disk(None)
    result = await RLM.aresume(run.run_id, api_key="k", trust_record=True)
    assert result.answer == ANSWER
    unrecorded = server.peak_in_flight  # what went out when nothing more could be written
    assert server.calls <= CALLS + result.usage.repaid_calls + unrecorded


async def test_a_run_may_go_on_unrecorded_when_the_disk_is_full(ask, server, disk):
    result = await ask(server, max_depth=2, max_leaf_chars=200, on_journal_error="continue").arun(TREE, TEXT)
    assert (result.answer, server.calls) == (ANSWER, CALLS)
    assert result.usage.total.calls == CALLS
