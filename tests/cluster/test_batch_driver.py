"""Many questions as one run: order, failures in place, one budget, lost actors, and the record."""

from __future__ import annotations

import asyncio

import pytest
import ray

from rlm_ray import Limits, Rates
from rlm_ray.cluster.driver import ClusterDriver
from rlm_ray.core.context import make_context
from rlm_ray.journal.run_store import RunStore
from rlm_ray.runs.batch_run import open_batch_run
from rlm_ray.runs.run import new_run_id
from rlm_ray.testing import Failure, ModelServer
from rlm_ray.testing.responses import is_session

pytestmark = pytest.mark.ray

TEXTS = [f"row {number} " * (number + 1) for number in range(40)]


def lengths(request):
    """Two turns: look, and answer with the length; a text that says so cannot be answered."""
    if not is_session(request):
        return "plain"
    if "poison" in str(request.messages):
        return Failure(400, "not this one")
    return (
        "```python\nn = len(context)\nprint(n)\n```" if request.turn == 1 else "```python\nFINAL(str(n))\n```"
    )


async def first_calls(server, count):
    while server.calls < count:
        await asyncio.sleep(0.01)


def test_answers_come_in_the_order_of_the_texts_and_a_failure_stays_in_its_place(ask):
    texts = [*TEXTS[:20], "poison", *TEXTS[20:]]
    with ModelServer(lengths) as server:
        results = ask(server).map("how long?", texts)
    answers = [result.answer for result in results]
    assert answers == [str(len(text)) if text != "poison" else None for text in texts]
    assert "not this one" in results[20].why
    assert [result.usage.total.calls for result in results] == [2] * 20 + [0] + [2] * 20
    assert len({result.run_id for result in results}) == 1


def test_all_rows_share_one_budget(ask):
    with ModelServer(lengths) as server:
        results = ask(server, limits=Limits(calls=60)).map("how long?", TEXTS)
        assert server.calls <= 60
    assert {result.stop_reason for result in results} == {"answered", "calls"}


async def test_rows_outlive_the_actors_they_run_in(ask, cluster):
    with ModelServer(lengths, latency_s=0.1) as server:
        asking = asyncio.ensure_future(ask(server).amap("how long?", TEXTS))
        await first_calls(server, 10)
        engine = await ClusterDriver.connect(cluster)
        name, handle = next(iter((await engine._pool.handles.remote()).items()))
        await engine._pool.on_actor_died.remote(name)  # also one that was only out of reach
        results = await asking
        assert [result.answer for result in results] == [str(len(text)) for text in TEXTS]
        assert server.calls <= 2 * len(TEXTS) + 64
    with pytest.raises(ray.exceptions.RayActorError):
        await handle.stats.remote()
    await engine.grow_to(2)


async def test_rows_of_one_call_each_travel_together_and_outlive_the_pool_with_their_actor(ask, cluster):
    def length(request):
        return str(len(request.last.partition("\n\nContext:\n")[2]))

    with ModelServer(length, latency_s=0.2) as server:
        asking = asyncio.ensure_future(ask(server, max_depth=0).amap("how long?", TEXTS))
        await first_calls(server, 4)
        engine = await ClusterDriver.connect(cluster)
        ray.kill(engine._pool)
        results = await asking
        assert [result.answer for result in results] == [str(len(text)) for text in TEXTS]
        assert [result.usage.total.calls for result in results] == [1] * len(TEXTS)
        assert server.calls <= len(TEXTS) + 32
    tree = results[0].tree
    assert [node.is_leaf for node in tree.root.children] == [True] * len(TEXTS)
    await engine.grow_to(2)


@pytest.mark.parametrize("depth", [0, 1], ids=["one call each", "sessions"])
async def test_a_job_that_is_taken_up_pays_for_no_row_twice(ask, depth):
    with ModelServer(lengths) as server:
        settings, run_id = ask(server, max_depth=depth).settings, new_run_id()
        for rows in (15, 40):
            async with open_batch_run(settings, "how long?", run_id=run_id) as job:
                done = [
                    await job.ask(row, "how long?", make_context(TEXTS[row])) for row in range(0, rows, 5)
                ]
        calls = 1 + depth
        assert [each.answer for each in done] == [str(len(text)) if depth else "plain" for text in TEXTS[::5]]
        assert [each.usage.total.calls for each in done] == [calls] * 8
        assert server.calls == calls * 8
    assert RunStore(settings.run_dir, run_id).last_end().usage["total"]["calls"] == calls * 8


async def test_a_question_asked_while_a_job_runs_does_not_wait_for_its_rows(ask):
    with ModelServer(lambda _: "fine", latency_s=0.1) as server:
        model = ask(server, max_depth=0, rates=Rates(in_flight=2))
        rows = asyncio.ensure_future(model.amap("how long?", TEXTS * 3))
        await first_calls(server, 4)
        assert (await model.arun("a question", "a text")).answer == "fine"
        assert server.calls < len(TEXTS)
        rows.cancel()
        await asyncio.wait([rows])
