"""Identical calls are paid once."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from rlm_ray.cache import ResponseCache, request_key
from rlm_ray.core.model import Message, ModelReply, ModelRequest, Usage

REQUEST = ModelRequest("m", (Message("user", "hi"),), 10, {"temperature": 0.5, "api_key": "k", "timeout": 3})
REPLY = ModelReply("hello", usage=Usage(1, 2, 3, 4), cost_usd=0.5, headers={"a": "b"})


@pytest.mark.parametrize(
    ("changed", "same"),
    [
        ({}, True),
        ({"params": {"temperature": 0.5, "api_key": "other", "timeout": 9}}, True),
        ({"params": {"temperature": 0.6}}, False),
        ({"model": "n"}, False),
        ({"max_tokens": 11}, False),
        ({"messages": (Message("system", "hi"),)}, False),
    ],
)
def test_a_key_is_made_of_all_that_shapes_the_answer_and_of_nothing_else(changed, same):
    assert (request_key(replace(REQUEST, **changed)) == request_key(REQUEST)) is same


async def test_an_answer_is_remembered_also_by_the_next_cache_over_the_folder(tmp_path):
    cache = ResponseCache(str(tmp_path))
    assert await cache.look("k", "run", 1) is None
    await cache.keep("k", REPLY)
    assert await cache.look("k", "run", 1) == REPLY
    assert await ResponseCache(str(tmp_path)).look("k", "run", 1) == REPLY
    assert await cache.take_hits("run") == 1


async def test_a_call_in_flight_is_joined(tmp_path):
    cache = ResponseCache(str(tmp_path))
    assert await cache.look("k", "run", 1) is None
    others = [asyncio.create_task(cache.look("k", "run", 5)) for _ in range(10)]
    await asyncio.sleep(0)
    await cache.keep("k", REPLY)
    assert await asyncio.gather(*others) == [REPLY] * 10


async def test_when_a_call_fails_exactly_one_of_those_who_wait_makes_it(tmp_path):
    cache = ResponseCache(str(tmp_path))
    await cache.look("k", "run", 1)
    others = [asyncio.create_task(cache.look("k", "run", 5)) for _ in range(5)]
    await asyncio.sleep(0)
    await cache.give_up("k")
    done, waiting = await asyncio.wait(others, return_when=asyncio.FIRST_COMPLETED)
    assert [task.result() for task in done] == [None]
    assert len(waiting) == 4
    await cache.keep("k", REPLY)
    assert await asyncio.gather(*waiting) == [REPLY] * 4


async def test_nobody_waits_for_ever_for_one_who_died(tmp_path):
    cache = ResponseCache(str(tmp_path))
    await cache.look("k", "run", 1)
    assert await cache.look("k", "run", 0.01) is None
