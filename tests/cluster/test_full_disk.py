"""The disk of the run folder fills up in the middle of a run: it stops and can go on later, or goes on unrecorded."""

from __future__ import annotations

import asyncio
import os
import resource

import pytest

from rlm_ray import RLM
from rlm_ray.cluster.engine import Engine
from rlm_ray.cluster.journal import home, journal_actor
from rlm_ray.errors import JournalError
from rlm_ray.testing import ModelServer
from rlm_ray.testing.scripts import recursion, run_query

TEXT = "some text to read. " * 500
LEAVES = run_query(
    "r = recursive_map('what?', [context[i*90:i*90+i+20] for i in range(8)])",
    "FINAL(' '.join(x.split()[-2] for x in r))",
)
TREE = run_query(
    f"r = recursive_map('''{LEAVES}''', [context[i*900:(i+1)*900] for i in range(6)])", "FINAL('|'.join(r))"
)
CALLS = 2 + 6 * (2 + 8)
ANSWER = "|".join(["46 47 48 49 50 51 52 53"] * 6)
ROOM = 20_000
"""Bytes: about a third of the journal of this run."""


@pytest.fixture
def server():
    with ModelServer(recursion, latency_s=0.05) as running:
        yield running


@pytest.fixture
async def disk(cluster):
    """Files of the journal's process cannot grow beyond `ROOM`; `disk(None)` makes room again."""
    await Engine.connect(cluster)
    pid = await journal_actor(home()).__ray_call__.remote(lambda _: os.getpid())

    def limit(size):
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard if size is None else size, hard))

    limit(ROOM)
    yield limit
    limit(None)


async def test_a_run_whose_disk_is_full_stops_and_goes_on_when_there_is_room(ask, server, disk):
    run = await ask(server, max_depth=2, leaf_chars=200).astart(TREE, TEXT)
    with pytest.raises(
        JournalError, match=r"a file may not grow so large here; raise the limit .* choose another run_dir"
    ):
        await run.result()
    async with asyncio.timeout(5):
        while server.in_flight:  # noqa: ASYNC110 - for what happens in other processes
            await asyncio.sleep(0.01)
    assert 3 < server.calls < CALLS
    disk(None)
    result = await RLM.aresume(run.run_id, api_key="k")
    assert result.answer == ANSWER
    unrecorded = server.peak_in_flight  # what went out when nothing more could be written
    assert server.calls <= CALLS + result.usage.repaid_calls + unrecorded


async def test_a_run_may_go_on_unrecorded_when_the_disk_is_full(ask, server, disk):
    result = await ask(server, max_depth=2, leaf_chars=200, on_journal_error="go_on").arun(TREE, TEXT)
    assert (result.answer, server.calls) == (ANSWER, CALLS)
    assert result.usage.total.calls == CALLS
