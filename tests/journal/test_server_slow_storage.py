"""A storage that is slow to open or to close holds up its own run and no other."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace

import fsspec
import pytest
from journal_samples import LINES, RUN
from memory_journal import turns
from virtual_time import in_virtual_time

from rlm_ray.errors import JournalError
from rlm_ray.journal.run_store import RunStore
from rlm_ray.journal.server import IN_MEMORY, LATE_WRITE_S, JournalRef, JournalServer

WAIT_S = 5.0


class Storage:
    """Lets a writer be opened when it is told to, and counts."""

    def __init__(self, monkeypatch):
        self.opened, self.errors, self.is_free = 0, [], threading.Event()
        make = RunStore.writer

        def writer(store, owner):
            if store.address.startswith("memory:"):
                self.is_free.wait(WAIT_S)
                self.opened += 1
                if self.errors:
                    raise self.errors.pop()
            return make(store, owner)

        monkeypatch.setattr(RunStore, "writer", writer)


@pytest.fixture
def storage(monkeypatch):
    storage = Storage(monkeypatch)
    yield storage
    storage.is_free.set()


@pytest.fixture
def far(memory_url):
    return JournalRef(memory_url, RUN, "first", "home")


@pytest.fixture
def near(tmp_path):
    return JournalRef(str(tmp_path / "runs"), RUN, "near", "home")


async def begun(call):
    task = asyncio.create_task(call)
    await asyncio.sleep(0)
    return task


async def test_other_runs_go_on_while_a_storage_is_opened(storage, far, near):
    server = JournalServer()
    opening = await begun(server.open(far))
    await server.open(near)
    assert await server.append(near, LINES[0]) == len(LINES[0])
    assert not opening.done()
    storage.is_free.set()
    assert await opening == 0


async def test_messages_that_come_at_once_open_one_writer_and_lose_nothing(storage, far):
    server = JournalServer()
    tasks = [await begun(server.append(far, line)) for line in LINES[:3]]
    storage.is_free.set()
    await asyncio.gather(*tasks)
    assert (storage.opened, await server.open(far)) == (1, sum(map(len, LINES[:3])))
    assert sorted(RunStore(far.run_dir, RUN).read().splitlines(keepends=True)) == sorted(LINES[:3])


async def test_who_no_longer_waits_for_the_opening_leaves_it_to_the_next(storage, far):
    server = JournalServer()
    given_up = await begun(server.open(far))
    given_up.cancel()
    await asyncio.wait([given_up])
    storage.is_free.set()
    assert await server.append(far, LINES[0]) == len(LINES[0])
    assert storage.opened == 1


async def test_an_owner_that_comes_while_the_one_before_is_opened_takes_the_run_over(storage, far):
    server, second = JournalServer(), replace(far, attempt_id="second")
    first = await begun(server.open(far))
    taking = await begun(server.open(second))
    storage.is_free.set()
    assert (await first, await taking) == (0, 0)
    with pytest.raises(JournalError, match="taken up by another process"):
        await server.append(far, LINES[0])
    assert await server.append(second, LINES[1]) == len(LINES[1])


async def test_a_storage_that_refuses_is_asked_again_with_the_next_message(storage, far):
    storage.errors.append(JournalError(RUN, "the bucket is not there"))
    storage.is_free.set()
    server = JournalServer()
    with pytest.raises(JournalError, match="the bucket is not there"):
        await server.append(far, LINES[0])
    assert await server.append(far, LINES[0]) == len(LINES[0])


async def test_a_run_that_is_closed_is_free_for_others_and_has_all_that_came_before(storage, far):
    storage.is_free.set()
    server, store = JournalServer(), RunStore(far.run_dir, RUN)
    await server.open(far)
    writing = await begun(server.append(far, LINES[0]))
    await server.close(far)
    assert store.current_writer() is None
    assert await writing == len(LINES[0])
    assert store.read() == LINES[0]
    writer = store.writer("another process")
    assert writer.size == len(LINES[0])
    writer.close()


def test_the_journal_of_a_run_that_keeps_no_record_goes_with_the_run_also_where_a_record_comes_late():
    ref, memory = JournalRef(IN_MEMORY, RUN, "first", "home"), fsspec.filesystem("memory")

    async def run():
        server = JournalServer()
        await server.open(ref)
        holding = await begun(server.hold(ref))
        await server.append(ref, LINES[0])
        assert memory.find("rlm_ray")
        await server.close(ref)
        await holding
        assert not memory.find("rlm_ray")
        await server.append(ref, LINES[1])
        await asyncio.sleep(LATE_WRITE_S)
        while server._closings:
            await turns()
        assert not memory.find("rlm_ray")

    in_virtual_time(run())
