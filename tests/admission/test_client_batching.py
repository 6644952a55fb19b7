"""When the next batch of a client goes."""

import asyncio
from itertools import pairwise

import pytest
from virtual_time import in_virtual_time

from rlm_ray.admission.client import COALESCE_S, MAX_RTT_S, FlushTimer


class Sent(list):
    """The moments at which a post sent."""

    def __init__(self):
        self.post = FlushTimer(self._send)

    def _send(self):
        self.append(asyncio.get_running_loop().time())


def sent(script):
    """When it sent, by a script that is given the post, and after it."""

    moments = Sent()

    async def work():
        await script(moments.post)
        await asyncio.sleep(10)

    in_virtual_time(work())
    return moments


def test_the_first_after_a_pause_goes_at_once():
    async def script(post):
        post.schedule()
        await asyncio.sleep(5)
        post.schedule()

    assert sent(script) == [0, 5]


def test_what_comes_within_a_few_milliseconds_travels_together():
    async def script(post):
        for _ in range(100):
            post.schedule()
            await asyncio.sleep(0.0002)

    moments = sent(script)
    assert moments[0] == 0
    assert len(moments) <= 0.02 / COALESCE_S + 2
    assert min(later - earlier for earlier, later in pairwise(moments)) >= COALESCE_S * 0.999


def test_who_can_wait_waits_for_company():
    async def script(post):
        post.schedule(0.5)

    assert sent(script) == [0.5]


def test_who_is_in_a_hurry_takes_the_patient_along():
    async def script(post):
        post.schedule(0.5)
        await asyncio.sleep(0.1)
        post.schedule()

    assert sent(script) == [0.1]


def test_who_can_wait_delays_nobody():
    async def script(post):
        post.schedule(0.1)
        post.schedule(0.5)

    assert sent(script) == [0.1]


def test_the_longer_the_trips_the_longer_it_collects():
    async def script(post):
        for _ in range(100):
            post.record_rtt(0.04)
        post.schedule()
        await asyncio.sleep(0.001)
        post.schedule()

    assert sent(script) == [0, pytest.approx(0.04)]


def test_a_trip_that_was_held_says_nothing_about_the_way():
    async def script(post):
        post.record_rtt(MAX_RTT_S + 1)
        post.schedule()
        await asyncio.sleep(0.001)
        post.schedule()

    assert sent(script) == [0, COALESCE_S]


def test_nothing_goes_while_it_is_shut_not_even_what_was_due():
    async def script(post):
        post.schedule(0.1)
        post.pause()
        post.schedule()

    assert sent(script) == []


def test_once_reopened_it_sends_at_once():
    async def script(post):
        post.pause()
        await asyncio.sleep(1)
        post.resume()

    assert sent(script) == [1]


def test_what_was_to_go_does_not_after_a_stop():
    async def script(post):
        post.schedule()
        post.stop()

    assert sent(script) == []
