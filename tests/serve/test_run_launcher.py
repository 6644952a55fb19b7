"""Runs of a burst begin a few at a time, behind the requests; and what is left of a run that could not say how it ended."""

from __future__ import annotations

import asyncio

from rlm_ray.core.repl_types import Citation
from rlm_ray.errors import ClusterError
from rlm_ray.journal.run_store import RunStore
from rlm_ray.runs.run import Result
from rlm_ray.serve import run_launcher
from rlm_ray.serve.run_launcher import StartThrottle, end_of_result, record_failure
from rlm_ray.serve.run_registry import KeySpending
from rlm_ray.serve.run_store import StoredRequest, end_from_error, end_of, load_request

REQUEST = StoredRequest("20260101-000000-abcdef", "ann", "chat", "rlm/m", 1.0, "q")


def test_a_run_that_ended_before_it_began_is_found_with_its_end(tmp_path):
    folder, end = RunStore(str(tmp_path), REQUEST.run_id), end_from_error(ClusterError("lost"))
    assert record_failure(folder, REQUEST, end) == KeySpending(1)
    assert load_request(folder) == REQUEST
    assert end_of(folder) == end


def test_a_storage_that_fails_still_lets_a_run_be_accounted_for(tmp_path):
    (tmp_path / "file").write_text("no folder")
    folder = RunStore(str(tmp_path / "file"), REQUEST.run_id)
    assert record_failure(folder, REQUEST, end_from_error(ClusterError("lost"))) == KeySpending(1)


def test_the_end_of_a_run_has_what_its_answer_cites():
    cited = (Citation("in 1907", start=4, end=11),)
    end = end_of_result(Result("In 1907.", "answered", "", REQUEST.run_id, 2, 1.0, citations=cited))
    assert (end.answer, end.stop_reason, end.turns, end.citations) == ("In 1907.", "answered", 2, cited)


async def settled():
    """Whoever could go on has gone on."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_slot_is_free_when_its_run_has_begun():
    few = StartThrottle(places=2)
    begun = [asyncio.Event() for _ in range(3)]
    turns = [asyncio.create_task(few.acquire(each)) for each in begun]
    await settled()
    assert [turn.done() for turn in turns] == [True, True, False]
    begun[1].set()
    await turns[2]
    for each in begun:
        each.set()
    await settled()


async def test_a_run_that_is_slow_to_begin_gives_its_slot_to_the_next(monkeypatch):
    monkeypatch.setattr(run_launcher, "PLACE_S", 0.01)
    few = StartThrottle(places=1)
    await few.acquire(asyncio.Event())
    second = asyncio.create_task(few.acquire(asyncio.Event()))
    await settled()
    assert not second.done()
    await asyncio.wait_for(second, 5)


async def test_requests_go_first():
    few = StartThrottle()
    begun = asyncio.Event()
    with few.request_pending():
        turn = asyncio.create_task(few.acquire(begun))
        await settled()
        assert not turn.done()
    await turn
    begun.set()
    await settled()


async def test_requests_without_end_do_not_hold_runs_back_for_ever(monkeypatch):
    monkeypatch.setattr(run_launcher, "MAX_YIELD_S", 0.01)
    few = StartThrottle()
    begun = asyncio.Event()
    begun.set()
    with few.request_pending():
        turn = asyncio.create_task(few.acquire(begun))
        await settled()
        assert not turn.done()
        await asyncio.wait_for(turn, 5)
    await settled()
