"""Runs of a burst begin a few at a time, behind the requests."""

from __future__ import annotations

import asyncio

from rlm_ray.serve import run_launcher
from rlm_ray.serve.run_launcher import StartThrottle


async def settled():
    """Whoever could go on has gone on."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_place_is_free_when_its_run_has_begun():
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


async def test_a_run_that_is_slow_to_begin_gives_its_place_to_the_next(monkeypatch):
    monkeypatch.setattr(run_launcher, "PLACE_S", 0.01)
    few = StartThrottle(places=1)
    await few.acquire(asyncio.Event())
    await asyncio.wait_for(few.acquire(asyncio.Event()), 5)


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
        await asyncio.wait_for(few.acquire(begun), 5)
    await settled()
