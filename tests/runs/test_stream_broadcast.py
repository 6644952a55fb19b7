"""Records of one run for many listeners."""

from __future__ import annotations

import asyncio
import threading

from rlm_ray.core.context import InputSummary
from rlm_ray.events.records import RunFinished, RunStarted
from rlm_ray.runs.stream import RecordBroadcast

RECORD = RunStarted(1.0, "r", "q", {}, InputSummary(), "0")
END = RunFinished(2.0, "answered", answer="x")


async def test_a_feed_gives_everyone_everything_and_the_end_last():
    feed = RecordBroadcast()
    early = asyncio.create_task(collected(feed))
    thread = threading.Thread(target=lambda: [feed.add(RECORD), feed.add(END), feed.add(RECORD)])
    thread.start()
    thread.join()
    await asyncio.sleep(0)
    feed.close(END)
    assert await early == await collected(feed) == [RECORD, RECORD, END]


async def collected(feed):
    return [record async for records in feed.follow() for record in records]
