"""Runs of a burst begin a few at a time, behind the requests."""

from __future__ import annotations

import asyncio

from rlm_ray.serve import run_launcher
from rlm_ray.serve.run_launcher import Starts


async def settled():
    """Whoever could go on has gone on."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_place_is_free_when_its_run_has_begun():
    few = Starts(places=2)
    begun = [asyncio.Event() for _ in range(3)]
    turns = [asyncio.create_task(few.turn(each)) for each in begun]
    await settled()
    assert [turn.done() for turn in turns] == [True, True, False]
    begun[1].set()
    await turns[2]
    for each in begun:
        each.set()
    await settled()


async def test_a_run_that_is_slow_to_begin_gives_its_place_to_the_next(monkeypatch):
    monkeypatch.setattr(run_launcher, "PLACE_S", 0.01)
    few = Starts(places=1)
    await few.turn(asyncio.Event())
    await asyncio.wait_for(few.turn(asyncio.Event()), 5)


async def test_requests_go_first():
    few = Starts()
    begun = asyncio.Event()
    with few.asking():
        turn = asyncio.create_task(few.turn(begun))
        await settled()
        assert not turn.done()
    await turn
    begun.set()
    await settled()


async def test_requests_without_end_do_not_hold_runs_back_for_ever(monkeypatch):
    monkeypatch.setattr(run_launcher, "POLITE_S", 0.01)
    few = Starts()
    begun = asyncio.Event()
    begun.set()
    with few.asking():
        await asyncio.wait_for(few.turn(begun), 5)
    await settled()
