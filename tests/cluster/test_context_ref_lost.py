"""The object store loses a context in the middle of a run: it is packed again, and what is on record is not paid again."""

from __future__ import annotations

import asyncio
import contextlib
import os
from dataclasses import replace

import pytest
import ray
from process_tree import kill_processes
from waiting import until

from rlm_ray.cluster.driver import ClusterDriver
from rlm_ray.testing import ModelServer
from rlm_ray.testing.responses import Reply, recursion, run_query

pytestmark = pytest.mark.ray

DOCUMENTS = [f"document {number} says something" for number in range(3_000)]
"""So many that the list of where each begins lies in the object store, too. Who reads it keeps no hold of it there."""
LEAVES = run_query(
    "r = recursive_map('what?', [context[i:2*i+1] for i in range(8)])",
    "FINAL(' '.join(x.split()[-2] for x in r))",
)
CHILDREN = f"recursive_map('''{LEAVES}''', [context[i*700:(i+1)*700] for i in range(4)])"
PLAIN = "recursive_map('what?', [context[i:i+i%3+1] for i in range(40)])"
FEW = "r = recursive_map('what?', [context[i:i+1] for i in range(8)])"
"""Plain calls that the session's own actor makes: the other one has not read the context when it is lost."""


@pytest.fixture
def server():
    """The root's model takes so long that a loss gets about; the others answer at once."""

    def reply(request):
        return Reply(recursion(request), latency_s=1.0 if request.model == "root" else 0.0)

    with ModelServer(reply) as running:
        yield running


@pytest.fixture
def keepers(monkeypatch):
    """The processes that own a part of what the driver packs, in the order of packing: it is lost with them."""

    class Keeper:  # in here, so that it travels to its process by value
        def put(self, data):
            return [ray.put(data)], os.getpid()

    kept = []
    pack = ClusterDriver.pack

    async def packed(engine, context):
        parcel = await pack(engine, context)
        if isinstance(parcel.index, ray.ObjectRef):
            keeper = ray.remote(Keeper).options(num_cpus=0).remote()
            (index,), pid = await keeper.put.remote(await parcel.index)
            kept.append((pid, keeper))
            parcel = replace(parcel, index=index)
        return parcel

    monkeypatch.setattr(ClusterDriver, "pack", packed)
    return kept


async def until_lost(ref):
    async with asyncio.timeout(30.0):
        with contextlib.suppress(ray.exceptions.ObjectLostError):
            while True:
                await ref
                await asyncio.sleep(0.01)


def lose(keepers):
    kill_processes(pid for pid, _ in keepers)


@pytest.mark.parametrize(
    ("work", "calls"),
    [(CHILDREN, 3 + 8 + 4 * (2 + 8)), (PLAIN, 3 + 8 + 40)],
    ids=["child sessions", "plain calls"],
)
async def test_a_run_whose_context_is_lost_packs_it_again(ask, server, keepers, work, calls):
    rlm = ask(server, recursive_model="openai/child", max_depth=2, max_leaf_chars=200)
    query = run_query(FEW, f"r += {work}", "FINAL('|'.join(r))")
    run = await rlm.astart(query, DOCUMENTS)
    await until(lambda: server.calls)
    lose(keepers)
    result = await run.result()
    assert result.answer.count("|") == 7 + (4 if work is CHILDREN else 40)
    assert len(keepers) == 2
    assert server.calls == calls


async def test_rows_whose_contexts_are_lost_pack_them_again(ask, server, keepers):
    rlm = ask(server, recursive_model="openai/child", max_depth=2, max_leaf_chars=200)
    query = run_query(FEW, f"r += {CHILDREN}", "FINAL('|'.join(r))")
    job = asyncio.create_task(rlm.amap(query, [DOCUMENTS, DOCUMENTS[1:]]))
    await until(lambda: server.calls == 2)
    lose(keepers)
    results = await job
    assert [result.stop_reason for result in results] == ["answered"] * 2
    assert len(keepers) == 4
    assert server.calls == 2 * (3 + 8 + 4 * (2 + 8))


async def test_pieces_of_a_job_whose_context_is_lost_pack_it_again(ask, server, keepers, monkeypatch):
    leaves = ClusterDriver.run_leaf_calls

    async def leaves_after_a_loss(engine, batch, *more):
        if len(keepers) == 1:
            lose(keepers)
            await until_lost(batch.context.index)
        return await leaves(engine, batch, *more)

    monkeypatch.setattr(ClusterDriver, "run_leaf_calls", leaves_after_a_loss)
    found = await ask(server).amap_reduce(
        "what?", DOCUMENTS, split_by="documents", size=40_000, reduce="collect"
    )
    assert found.stop_reason == "answered"
    assert (
        len(keepers) == 3
    )  # packed, packed again after the loss, and once for the documents that are asked alone
    assert found.answered == len(DOCUMENTS)
