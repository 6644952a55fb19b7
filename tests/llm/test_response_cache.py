"""Identical calls are paid once."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from dataclasses import asdict, replace

import pytest

from rlm_ray.core.llm import Message, ModelReply, ModelRequest, Usage
from rlm_ray.errors import ClusterError, InputError
from rlm_ray.llm import response_cache as cache_module
from rlm_ray.llm.response_cache import (
    Reservation,
    ResponseCache,
    ResponseCacheClient,
    prune_replies,
    request_key,
)

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


async def get_or_reserve(cache, token, *, owner="process", lease_s=60.0):
    return await cache.get_or_reserve("k", "run", owner, token, lease_s)


async def test_an_answer_is_remembered_also_by_the_next_cache_over_the_folder(tmp_path):
    cache = ResponseCache(str(tmp_path))
    assert await get_or_reserve(cache, "a") is None
    await cache.put("k", "a", REPLY)
    assert await get_or_reserve(cache, "b") == REPLY
    assert await get_or_reserve(ResponseCache(str(tmp_path)), "c") == REPLY
    assert await cache.pop_hits("run") == 1
    assert await cache.pop_hits("run") == 0


async def test_a_call_in_flight_is_joined(tmp_path):
    cache = ResponseCache(str(tmp_path))
    assert await get_or_reserve(cache, "a") is None
    others = [asyncio.create_task(get_or_reserve(cache, str(n))) for n in range(10)]
    await asyncio.sleep(0)
    await cache.put("k", "a", REPLY)
    assert await asyncio.gather(*others) == [REPLY] * 10


async def one_takes_over(cache, end):
    """Whoever holds the reservation `a` ends by `end`: exactly one of five who wait makes the call then."""
    others = [asyncio.create_task(get_or_reserve(cache, str(n))) for n in range(5)]
    await asyncio.sleep(0)
    await end()
    done, waiting = await asyncio.wait(others, return_when=asyncio.FIRST_COMPLETED)
    assert [task.result() for task in done] == [None]
    assert len(waiting) == 4
    (winner,) = (str(n) for n, task in enumerate(others) if task in done)
    await cache.put("k", winner, REPLY)
    assert await asyncio.gather(*waiting) == [REPLY] * 4
    assert (await cache.stats())["reservations"] == 0


async def test_when_a_call_is_given_up_exactly_one_of_those_who_wait_makes_it(tmp_path):
    cache = ResponseCache(str(tmp_path))
    await get_or_reserve(cache, "a")
    await one_takes_over(cache, lambda: cache.release("k", "a"))


async def test_when_the_owner_is_gone_exactly_one_of_those_who_wait_makes_the_call(tmp_path):
    cache = ResponseCache(str(tmp_path))
    alive = asyncio.create_task(cache.hold("owner"))
    await asyncio.sleep(0)
    await get_or_reserve(cache, "a", owner="owner")
    await one_takes_over(cache, lambda: asyncio.sleep(0, alive.cancel()))


async def test_when_the_lease_is_over_exactly_one_of_those_who_wait_makes_the_call(tmp_path):
    cache = ResponseCache(str(tmp_path))
    await get_or_reserve(cache, "a", lease_s=0.01)
    await one_takes_over(cache, lambda: asyncio.sleep(0))


async def test_a_lease_that_is_over_is_free_for_the_next_who_asks(tmp_path):
    now = [0.0]
    cache = ResponseCache(str(tmp_path), clock=lambda: now[0])
    await get_or_reserve(cache, "a", lease_s=5)
    now[0] = 5.0
    assert await get_or_reserve(cache, "b") is None


async def test_a_late_word_of_a_former_owner_does_not_end_the_reservation_of_the_next(tmp_path):
    now = [0.0]
    cache = ResponseCache(str(tmp_path), clock=lambda: now[0])
    await get_or_reserve(cache, "a", owner="old", lease_s=5)
    now[0] = 5.0
    assert await get_or_reserve(cache, "b") is None
    waiting = asyncio.create_task(get_or_reserve(cache, "c"))
    await asyncio.sleep(0)
    await cache.release("k", "a")
    await cache.release("k", "unheard of")
    await asyncio.sleep(0)
    assert not waiting.done()
    await cache.release("k", "b")
    assert await waiting is None


async def test_the_late_reply_of_a_former_owner_is_remembered(tmp_path):
    cache = ResponseCache(str(tmp_path))
    await get_or_reserve(cache, "a", lease_s=0)
    assert await get_or_reserve(cache, "b") is None
    await cache.put("k", "a", REPLY)
    assert await get_or_reserve(cache, "c") == REPLY


async def test_a_reply_that_cannot_be_stored_reaches_those_who_wait(tmp_path):
    cache = ResponseCache(str(tmp_path))
    await get_or_reserve(cache, "a")
    waiting = asyncio.create_task(get_or_reserve(cache, "b"))
    await asyncio.sleep(0)
    cache._database.execute("DROP TABLE replies")
    await cache.put("k", "a", REPLY)
    assert await waiting == REPLY


async def test_no_more_replies_are_kept_than_may_be(tmp_path, monkeypatch):
    monkeypatch.setattr(cache_module, "MAX_REPLIES", 10)
    monkeypatch.setattr(cache_module, "DROPPED_AT_ONCE", 3)
    cache = ResponseCache(str(tmp_path))
    for number in range(50):
        await cache.put(str(number), "t", REPLY)
        assert (await cache.stats())["replies"] <= 10
    assert await cache.get_or_reserve("49", "run", "o", "t", 1) == REPLY
    assert await cache.get_or_reserve("0", "run", "o", "t", 1) is None


async def test_no_more_runs_are_counted_than_may_be(tmp_path, monkeypatch):
    monkeypatch.setattr(cache_module, "MAX_COUNTED_RUNS", 3)
    cache = ResponseCache(str(tmp_path))
    await cache.put("k", "a", REPLY)
    for number in range(9):
        await cache.get_or_reserve("k", f"run {number}", "o", "t", 1)
    assert (await cache.stats())["runs"] == 3
    assert await cache.pop_hits("run 8") == 1


async def test_a_file_of_an_older_version_is_read(tmp_path):
    database = sqlite3.connect(tmp_path / "responses.sqlite")
    database.execute("CREATE TABLE replies (key TEXT PRIMARY KEY, reply TEXT NOT NULL)")
    database.execute("INSERT INTO replies VALUES ('k', ?)", (json.dumps(asdict(REPLY)),))
    database.commit()
    database.close()
    assert await get_or_reserve(ResponseCache(str(tmp_path)), "a") == REPLY


async def test_old_replies_are_pruned(tmp_path):
    cache = ResponseCache(str(tmp_path))
    await cache.put("k", "a", REPLY)
    assert prune_replies(str(tmp_path), 3600) == 0
    assert prune_replies(str(tmp_path), -1, dry_run=True) == 1
    assert await get_or_reserve(cache, "b") == REPLY
    assert prune_replies(str(tmp_path), -1) == 1
    assert await get_or_reserve(cache, "c") is None


def test_pruning_what_is_no_cache_says_so(tmp_path):
    with pytest.raises(InputError, match="holds no response cache"):
        prune_replies(str(tmp_path / "nowhere"), 1)
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    "reply", [replace(REPLY, finish_reason="length"), replace(REPLY, text="")], ids=["cut", "empty"]
)
async def test_what_is_no_whole_answer_is_not_remembered(tmp_path, reply):
    cache = ResponseCache(str(tmp_path))
    assert await get_or_reserve(cache, "a") is None
    waiting = asyncio.create_task(get_or_reserve(cache, "b"))
    await asyncio.sleep(0)
    await cache.put("k", "a", reply)
    assert await waiting == reply
    assert await get_or_reserve(cache, "c") is None


async def test_an_empty_reply_that_an_older_version_remembered_is_asked_again(tmp_path):
    cache = ResponseCache(str(tmp_path))
    cache._store("k", replace(REPLY, text=""))
    assert await get_or_reserve(cache, "a") is None
    cache._store("k", replace(REPLY, text="<think>hm</think>hello"))
    assert await get_or_reserve(cache, "b") == REPLY


async def test_a_client_is_given_a_reply_that_another_call_has_put(tmp_path):
    client = ResponseCacheClient(ResponseCache(str(tmp_path)))
    reservation = await client.get_or_reserve("k", "run", 60.0)
    waiting = asyncio.create_task(client.get_or_reserve("k", "run", 60.0))
    await asyncio.sleep(0)
    await reservation.put(REPLY)
    assert await waiting == REPLY
    assert await client.pop_hits("run") == 1


class LatePuts(ResponseCache):
    """Stores a reply once it may, unless the word of it is lost on its way."""

    def __init__(self, folder: str, *, is_lost: bool) -> None:
        super().__init__(folder)
        self.may_store, self._is_lost = asyncio.Event(), is_lost

    async def put(self, *arguments):
        await self.may_store.wait()
        if self._is_lost:
            raise ClusterError("lost")
        return await super().put(*arguments)


async def test_the_reply_of_a_call_that_is_cancelled_while_it_is_stored_is_not_lost(tmp_path):
    cache = LatePuts(str(tmp_path), is_lost=False)
    client = ResponseCacheClient(cache)
    reservation = await client.get_or_reserve("k", "run", 60.0)
    waiting = asyncio.create_task(client.get_or_reserve("k", "run", 60.0))
    storing = asyncio.create_task(reservation.put(REPLY))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    storing.cancel()
    await asyncio.wait([storing])
    reservation.release()
    cache.may_store.set()
    assert await asyncio.wait_for(waiting, 5) == REPLY


async def test_who_waits_for_a_reply_that_is_lost_on_its_way_makes_the_call(tmp_path):
    cache = LatePuts(str(tmp_path), is_lost=True)
    client = ResponseCacheClient(cache)
    reservation = await client.get_or_reserve("k", "run", 60.0)
    waiting = asyncio.create_task(client.get_or_reserve("k", "run", 60.0))
    cache.may_store.set()
    await reservation.put(REPLY)
    assert isinstance(await asyncio.wait_for(waiting, 5), Reservation)


async def test_a_reservation_of_a_client_that_is_released_is_the_next_ones(tmp_path):
    client = ResponseCacheClient(ResponseCache(str(tmp_path)))
    first = await client.get_or_reserve("k", "run", 60.0)
    waiting = asyncio.create_task(client.get_or_reserve("k", "run", 60.0))
    await asyncio.sleep(0)
    first.release()
    first.release()
    assert isinstance(await waiting, Reservation)


async def test_a_client_that_is_cancelled_gives_up_what_it_may_have_reserved(tmp_path):
    answered = asyncio.Event()

    class Slow(ResponseCache):
        async def get_or_reserve(self, *arguments):
            await super().get_or_reserve(*arguments)
            await answered.wait()

    slow = Slow(str(tmp_path))
    call = asyncio.create_task(ResponseCacheClient(slow).get_or_reserve("k", "run", 60.0))
    while not slow._in_flight:  # noqa: ASYNC110 - for a task of this loop
        await asyncio.sleep(0)
    call.cancel()
    await asyncio.wait([call])
    await asyncio.sleep(0.01)
    assert not slow._in_flight


@pytest.mark.parametrize("error", [ClusterError("gone"), TimeoutError("late")])
async def test_a_cache_that_does_not_answer_is_a_cache_without_the_reply(error, caplog):
    class Gone:
        async def fail(self, *_):
            raise error

        get_or_reserve = put = release = pop_hits = fail

        async def hold(self, *_):
            await asyncio.Event().wait()

    client = ResponseCacheClient(Gone())
    reservation = await client.get_or_reserve("k", "run", 60.0)
    assert isinstance(reservation, Reservation)
    await reservation.put(REPLY)
    assert await client.pop_hits("run") == 0
    assert caplog.text.count("the response cache does not answer") == 4
