"""What is asked one by one travels together."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from virtual_time import in_virtual_time

from rlm_ray.util.batcher import MAX_RTT_S, Batcher, StreamingBatcher

LINGER_S, INTERVAL_S = 0.005, 0.003


class Post:
    """Sends batches once they are let go."""

    def __init__(self) -> None:
        self.sent: list[list[int]] = []
        self.cancelled = 0
        self.under_way: asyncio.Queue[int] = asyncio.Queue()
        self.let_go = asyncio.Event()
        self.let_go.set()

    async def __call__(self, batch):
        self.sent.append(list(batch))
        self.under_way.put_nowait(len(batch))
        try:
            await self.let_go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if 13 in batch:
            raise OSError("lost")
        return [ValueError(f"odd {each}") if each % 2 else each * 10 for each in batch]


def together(post, *, most=4, room=100, size=1):
    return Batcher(post, linger_s=LINGER_S, max_items=most, capacity=lambda: room, size_of=lambda _: size)


async def test_what_comes_at_once_is_sent_at_once_and_answered_one_by_one():
    post = Post()
    async with together(post) as asks:
        told = await asyncio.gather(*map(asks.submit, range(6)), return_exceptions=True)
    assert post.sent == [[0, 1, 2, 3], [4, 5]]
    assert [told[n] for n in (0, 2, 4)] == [0, 20, 40]
    assert [str(told[n]) for n in (1, 3, 5)] == ["odd 1", "odd 3", "odd 5"]


async def test_answers_are_told_before_failures():
    order: list[int] = []
    async with together(Post()) as asks:
        waiting = {n: asyncio.ensure_future(asks.submit(n)) for n in range(4)}
        for n, each in waiting.items():
            each.add_done_callback(lambda _, n=n: order.append(n))
        await asyncio.wait(waiting.values())
        await asyncio.gather(*waiting.values(), return_exceptions=True)
    assert order == [0, 2, 1, 3]


async def test_no_more_is_under_way_than_there_is_room_for():
    post = Post()
    post.let_go.clear()
    async with together(post, room=6) as asks:
        waiting = [asyncio.ensure_future(asks.submit(2 * n)) for n in range(10)]
        assert [await post.under_way.get() for _ in range(2)] == [4, 2]
        assert len(post.sent) == 2
        post.let_go.set()
        assert await asyncio.gather(*waiting) == [20 * n for n in range(10)]


async def test_large_ones_travel_alone():
    post = Post()
    async with together(post, size=10_000_000) as asks:
        await asyncio.gather(*map(asks.submit, (0, 2, 4)))
    assert post.sent == [[0], [2], [4]]


async def test_a_lost_batch_is_the_failure_of_each_in_it_and_of_no_other():
    post = Post()
    async with together(post, most=2) as asks:
        told = await asyncio.gather(*map(asks.submit, (12, 13, 14, 16)), return_exceptions=True)
    assert [type(each).__name__ for each in told] == ["OSError", "OSError", "int", "int"]


async def test_a_batch_goes_on_while_anybody_waits_for_it():
    post = Post()
    post.let_go.clear()
    async with together(post) as asks:
        one, other = (asyncio.ensure_future(asks.submit(n)) for n in (0, 2))
        await post.under_way.get()
        one.cancel()
        await asyncio.wait([one])
        post.let_go.set()
        assert await other == 20
        assert one.cancelled()
    assert post.cancelled == 0


async def test_a_batch_nobody_waits_for_is_cancelled_and_makes_room():
    post = Post()
    post.let_go.clear()
    async with together(post, room=2) as asks:
        waiting = [asyncio.ensure_future(asks.submit(n)) for n in (0, 2)]
        await post.under_way.get()
        for each in waiting:
            each.cancel()
        await asyncio.wait(waiting)
        post.let_go.set()
        assert await asks.submit(4) == 40
    assert post.cancelled == 1


async def test_one_that_is_given_up_before_it_leaves_takes_no_room():
    post = Post()
    async with together(post, room=1) as asks:
        given_up = asyncio.ensure_future(asks.submit(0))
        asyncio.get_running_loop().call_later(LINGER_S, given_up.cancel)  # as it leaves
        await asyncio.wait([given_up])
        assert await asks.submit(2) == 20


async def test_the_end_cancels_what_is_under_way_and_what_waits():
    post = Post()
    post.let_go.clear()
    async with together(post, room=1) as asks:
        waiting = [asyncio.ensure_future(asks.submit(n)) for n in (0, 2)]
        await post.under_way.get()
    assert post.cancelled == 1
    await asyncio.wait(waiting)
    assert all(each.cancelled() for each in waiting)


class Stream(Post):
    """Answers the items of a batch one by one, when told to."""

    def __init__(self):
        super().__init__()
        self.responds = []

    async def __call__(self, batch, respond):
        self.responds.append(respond)
        await super().__call__(batch)


def streamed(stream, *, room=100):
    return StreamingBatcher(
        stream, linger_s=LINGER_S, max_items=4, capacity=lambda: room, size_of=lambda _: 1
    )


async def begun(batcher, stream, items):
    waiting = [asyncio.ensure_future(batcher.submit(item)) for item in items]
    await stream.under_way.get()
    return waiting


async def test_an_item_of_a_stream_is_answered_before_the_slowest_of_its_batch_and_makes_room():
    stream = Stream()
    stream.let_go.clear()
    async with streamed(stream, room=4) as asks:
        waiting = await begun(asks, stream, range(5))
        respond = stream.responds[0]
        respond(2, "two")
        assert await waiting[2] == "two"
        assert await stream.under_way.get() == 1
        assert stream.sent == [[0, 1, 2, 3], [4]]
        respond(2, "twice")
        respond(0, ValueError("odd"))
        with pytest.raises(ValueError, match="odd"):
            await waiting[0]
        respond(1, "one")
        respond(3, "three")
        stream.responds[1](0, "four")
        stream.let_go.set()
        assert [await waiting[place] for place in (1, 3, 4)] == ["one", "three", "four"]
    assert asks._items_under_way == 0
    assert stream.cancelled == 0


async def test_a_stream_that_breaks_fails_those_who_still_wait():
    stream = Stream()
    stream.let_go.clear()
    async with streamed(stream) as asks:
        waiting = await begun(asks, stream, [13, 1])
        stream.responds[0](1, "one")
        stream.let_go.set()
        told = await asyncio.gather(*waiting, return_exceptions=True)
    assert (str(told[0]), told[1]) == ("lost", "one")


async def test_a_stream_that_ends_without_a_response_gives_the_item_up():
    stream = Stream()
    async with streamed(stream) as asks:
        told = await asyncio.gather(asks.submit(0), return_exceptions=True)
    assert isinstance(told[0], asyncio.CancelledError)
    assert asks._items_under_way == 0


@pytest.mark.parametrize(("given_up", "cancelled"), [([1], 1), ([], 0)], ids=["the rest", "nobody"])
async def test_a_stream_is_cancelled_when_nobody_waits_for_the_rest_of_it(given_up, cancelled):
    stream = Stream()
    stream.let_go.clear()
    async with streamed(stream, room=2) as asks:
        waiting = await begun(asks, stream, range(2))
        stream.responds[0](0, "zero")
        assert await waiting[0] == "zero"
        for place in given_up:
            waiting[place].cancel()
        await asyncio.sleep(0)
        if not given_up:
            stream.responds[0](1, "one")
        await asyncio.wait(waiting)
        stream.let_go.set()
        asks.add(4)
        await asks.flush()
    assert stream.cancelled == cancelled
    assert (asks._items_under_way, asks._abandoned) == (0, set())


async def test_what_is_added_is_sent_in_order_one_batch_at_a_time_and_flush_waits_for_all_before_it():
    post = Post()
    post.let_go.clear()
    async with Batcher(post, max_batches=1) as batches:
        batches.add(0)
        await post.under_way.get()
        batches.add(2)
        flushed = asyncio.create_task(batches.flush())
        await asyncio.sleep(0)
        batches.add(4)
        assert post.sent == [[0]]
        assert not batches.is_idle
        post.let_go.set()
        await flushed
        await batches.flush()
        assert post.sent == [[0], [2, 4]]
        assert batches.is_idle


async def test_a_batch_with_too_few_responses_fails_whoever_waits():
    async def short(items):
        return list(items)[1:]

    async with Batcher(short) as batches:
        told = await asyncio.gather(*map(batches.submit, (1, 2)), return_exceptions=True)
    assert [str(each) for each in told] == ["1 responses came for 2 items"] * 2


def test_a_loop_that_ends_sends_nothing_more():
    sends = []

    async def send(items):
        sends.append(items)
        await asyncio.Event().wait()

    async def work():
        batches = Batcher(send, max_batches=1)
        batches.add(1)
        await asyncio.sleep(1)
        batches.add(2)

    in_virtual_time(work())
    assert sends == [[1]]


async def test_a_flush_that_is_cancelled_cancels_no_batch():
    post = Post()
    post.let_go.clear()
    async with Batcher(post, max_batches=1) as batches:
        batches.add(0)
        flushes = [asyncio.create_task(batches.flush()) for _ in range(2)]
        await post.under_way.get()
        flushes[0].cancel()
        await asyncio.wait(flushes[:1])
        post.let_go.set()
        await flushes[1]
    assert post.cancelled == 0


async def test_what_nobody_waits_for_and_cannot_be_sent_is_logged(caplog):
    async with Batcher(Post()) as batches:
        batches.add(13)
        await batches.flush()
        await asyncio.sleep(0)
    assert "a batch of 1 could not be sent" in caplog.text


async def test_flush_of_nothing_sends_nothing():
    post = Post()
    async with Batcher(post) as batches:
        await batches.flush()
    assert post.sent == []


def sent(script):
    """The moments at which batches were sent, by a script that is given the batcher, and after it."""
    moments: list[float] = []

    async def send(_):
        moments.append(asyncio.get_running_loop().time())

    async def work():
        await script(Batcher(send, interval_s=INTERVAL_S))
        await asyncio.sleep(10)

    in_virtual_time(work())
    return moments


def test_the_first_after_a_pause_goes_at_once():
    async def script(batches):
        batches.send_soon()
        await asyncio.sleep(5)
        batches.send_soon()

    assert sent(script) == [0, 5]


def test_what_comes_within_a_few_milliseconds_travels_together():
    async def script(batches):
        for _ in range(100):
            batches.send_soon()
            await asyncio.sleep(0.0002)

    moments = sent(script)
    assert moments[0] == 0
    assert len(moments) <= 0.02 / INTERVAL_S + 2
    assert min(later - earlier for earlier, later in pairwise(moments)) >= INTERVAL_S * 0.999


def test_who_can_wait_waits_for_company():
    async def script(batches):
        batches.send_soon(linger_s=0.5)

    assert sent(script) == [0.5]


def test_who_is_in_a_hurry_takes_the_patient_along():
    async def script(batches):
        batches.send_soon(linger_s=0.5)
        await asyncio.sleep(0.1)
        batches.send_soon()

    assert sent(script) == [0.1]


def test_who_can_wait_delays_nobody():
    async def script(batches):
        batches.send_soon(linger_s=0.1)
        batches.send_soon(linger_s=0.5)

    assert sent(script) == [0.1]


def test_the_longer_the_trips_the_longer_it_collects():
    async def script(batches):
        for _ in range(100):
            batches.record_rtt(0.04)
        batches.send_soon()
        await asyncio.sleep(0.001)
        batches.send_soon()

    assert sent(script) == [0, pytest.approx(0.04)]


def test_a_trip_that_was_held_says_nothing_about_the_way():
    async def script(batches):
        batches.record_rtt(MAX_RTT_S + 1)
        batches.send_soon()
        await asyncio.sleep(0.001)
        batches.send_soon()

    assert sent(script) == [0, INTERVAL_S]


def test_nothing_goes_while_it_is_shut_not_even_what_was_due():
    async def script(batches):
        batches.send_soon(linger_s=0.1)
        batches.pause()
        batches.send_soon()

    assert sent(script) == []


def test_once_reopened_it_sends_at_once():
    async def script(batches):
        batches.pause()
        await asyncio.sleep(1)
        batches.resume()

    assert sent(script) == [1]


def test_what_was_to_go_does_not_after_a_stop():
    async def script(batches):
        batches.send_soon()
        await batches.aclose()

    assert sent(script) == []


async def test_flush_returns_also_where_the_last_caller_before_it_has_given_up():
    post = Post()
    async with together(post) as asks:
        given_up = asyncio.ensure_future(asks.submit(0))
        await asyncio.sleep(0)
        flushed = asyncio.create_task(asks.flush())
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.wait_for(flushed, 2)
