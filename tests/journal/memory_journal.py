"""A journal in memory."""

from __future__ import annotations

import asyncio

from rlm_ray.errors import JournalError
from rlm_ray.events.records import from_line
from rlm_ray.journal.server import JournalRef

REF = JournalRef("nowhere", "20260102-030405-abcdef", "owner", "home")


class MemoryJournal:
    """A `Transport` that keeps what it is sent; closed gates hold appends back, `error` makes them fail."""

    def __init__(self, data=b""):
        self.data = data
        self.appends = []
        self.times = []
        self.reads = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.error = None
        self.most = 1 << 20

    async def append(self, ref, data):
        self.times.append(asyncio.get_running_loop().time())
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        self.appends.append(data)
        self.data += data
        return len(self.data)

    async def read(self, ref, offset, wait_s):
        self.reads += 1
        if self.error is not None:
            raise self.error
        end = self.data.rfind(b"\n", offset, offset + self.most) + 1
        return self.data[offset:end]

    @property
    def records(self):
        return [from_line(line) for line in self.data.splitlines()]


FULL = JournalError("run", "the disk is full")


async def turns(count=3):
    """Let all that is ready run."""
    for _ in range(count):
        await asyncio.sleep(0)
