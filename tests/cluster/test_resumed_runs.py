"""A run outlives what it runs on, and goes on later for free up to where it was."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

import pytest
import ray
from deep_tree import CALLS, TEXT, TREE
from waiting import until

from rlm_ray import RLM, Limits
from rlm_ray.cluster.detached_actor import current_node_id
from rlm_ray.cluster.driver import ClusterDriver
from rlm_ray.cluster.services import journal_actor
from rlm_ray.errors import InputError, JournalError
from rlm_ray.events.records import CallEnded
from rlm_ray.journal.run_store import RunStore, find_run
from rlm_ray.runs.resume import RELEASE_TIMEOUT_S
from rlm_ray.testing import ModelServer
from rlm_ray.testing.responses import recursion, run_query

pytestmark = pytest.mark.ray


@pytest.fixture
def slow():
    """A model that takes its time, so that there is a middle to strike at."""
    with ModelServer(recursion, latency_s=0.15) as server:
        yield server


@pytest.fixture
def answer(ask, server):
    """What an undisturbed run answers."""
    return ask(server, max_depth=2, max_leaf_chars=200).completion(TREE, TEXT)


async def struck(run, server, calls, strike):
    """The result of a run that is struck after so many calls, and what was in flight around that moment."""
    await until(lambda: server.calls >= calls)
    in_flight = server.in_flight
    await strike()
    for _ in range(60):  # Ray kills from afar
        in_flight = max(in_flight, server.in_flight)
        await asyncio.sleep(0.01)
    result = await run.result()
    await until(lambda: not server.in_flight)
    return result, in_flight


@pytest.mark.parametrize("calls", [3, 20, 50])
async def test_a_run_whose_root_loses_its_actor_goes_on_from_its_record(ask, slow, cluster, answer, calls):
    run = await ask(slow, max_depth=2, max_leaf_chars=200).astart(TREE, TEXT)
    engine = await ClusterDriver.connect(cluster)

    async def strike():
        handles = await engine._pool.handles.remote()
        ray.kill(handles[run.actor])

    result, in_flight = await struck(run, slow, calls, strike)
    assert result.answer == answer
    assert slow.calls - CALLS <= max(in_flight, result.usage.repaid_calls)
    await engine.grow_to(2)


async def test_a_killed_journal_comes_back_and_nothing_is_missing_in_it(ask, slow, answer):
    run = await ask(slow, max_depth=2, max_leaf_chars=200).astart(TREE, TEXT)

    async def strike():
        for _ in range(2):
            ray.kill(journal_actor(current_node_id()), no_restart=False)
            await asyncio.sleep(0.3)

    result, _ = await struck(run, slow, 10, strike)
    assert (result.answer, slow.calls) == (answer, CALLS)
    records = RunStore(result.run_dir, result.run_id).records()
    assert sum(isinstance(record, CallEnded) for record in records) == CALLS


def test_a_finished_run_is_answered_from_its_record_for_nothing(ask, server):
    rlm = ask(server, max_depth=2, max_leaf_chars=200)
    result = rlm.run(TREE, TEXT)
    calls = server.calls
    again = RLM.resume(result.run_id)
    assert (again.answer, again.usage.total.calls) == (result.answer, result.usage.total.calls)
    assert server.calls == calls


def test_a_changed_model_gets_its_own_answers_and_unchanged_parts_are_kept(ask, server):
    result = ask(server, max_depth=2, max_leaf_chars=200).run(TREE, TEXT)
    server.reset()
    again = RLM.resume(
        result.run_id,
        TEXT,
        model="openai/other",
        recursive_model="openai/root",
        api_key="k",
        trust_record=True,
    )
    assert again.answer == result.answer
    assert [request.model for request in server.requests] == ["other"] * 2  # its children are what they were


def test_a_run_stopped_by_a_limit_goes_on_under_a_higher_one(ask, server):
    rlm = ask(server, max_depth=2, max_leaf_chars=200, limits=Limits(calls=30))
    stopped = rlm.run(TREE, TEXT)
    assert stopped.stop_reason == "calls"
    again = RLM.resume(stopped.run_id, limits=Limits(calls=100), api_key="k", trust_record=True)
    assert again.stop_reason == "answered"
    assert again.usage.total.calls <= CALLS + 1  # and the last call of the life before


def test_a_run_that_is_going_on_cannot_be_taken_up(ask):
    async def twice(server):
        run = await ask(server).astart("q", TEXT)
        await until(lambda: server.calls)
        with pytest.raises(JournalError, match="is running"):
            await RLM.aresume(run.run_id)
        return await run.result()

    with ModelServer(
        lambda _: "```python\nFINAL(str(len(context)))\n```", latency_s=RELEASE_TIMEOUT_S + 1
    ) as server:
        assert asyncio.run(twice(server)).answered


def test_who_keeps_no_content_must_ask_again(ask, server):
    result = ask(server, record_content=False).run(run_query("print(len(context))"), TEXT)
    assert b"session done" not in RunStore(result.run_dir, result.run_id).read()
    with pytest.raises((JournalError, InputError), match="without content"):
        RLM.resume(result.run_id)


DRIVER = """
import sys
from rlm_ray import RLM, Cluster
url, query, context, run_dir = sys.argv[1:]
cluster = Cluster(max_actors=2, cpus_per_actor=0)
rlm = RLM(
    model="openai/root", api_base=url, api_key="k", max_depth=2, max_leaf_chars=200, cluster=cluster, run_dir=run_dir,
    deduplicate_maps=False
)
rlm.completion(query, context)
"""
"""Its Ray is its own and dies with it."""


def test_a_run_whose_driver_was_killed_is_resumed_by_the_command_line(answer, slow, tmp_path):
    environment = {**os.environ, "RAY_ADDRESS": "", "RLM_RAY_RUN_DIR": str(tmp_path)}
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, slow.url, TREE, TEXT, str(tmp_path)],
        env=environment,
        start_new_session=True,
    )
    try:
        asyncio.run(until(lambda: slow.calls >= 30, 60))
    finally:
        driver.kill()
        driver.wait()
    asyncio.run(until(lambda: not slow.in_flight))
    folder = find_run("last", str(tmp_path))
    recorded = sum(isinstance(record, CallEnded) for record in folder.records())
    in_flight = slow.calls - recorded
    environment["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address
    resume = [sys.executable, "-m", "rlm_ray", "resume", "last", "--api-key", "k", "--trust-record"]
    done = subprocess.run(
        resume, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=90, check=False
    )
    assert done.stdout.strip() == answer, done.stderr
    assert slow.calls <= CALLS + in_flight
    assert folder.load("context.bin") is None  # it has its answer
