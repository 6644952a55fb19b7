"""What is asked one by one travels together."""

from __future__ import annotations

import asyncio

from rlm_ray.util.batcher import LINGER_S, Batcher


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
    return Batcher(post, max_items=most, capacity=lambda: room, size_of=lambda _: size)


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
