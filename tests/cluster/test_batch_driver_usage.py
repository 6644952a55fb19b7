"""What a row of a job has used, and how the outcomes of plain calls come back."""

from __future__ import annotations

import asyncio
import contextlib
from types import SimpleNamespace

import pytest
from virtual_time import in_virtual_time

from rlm_ray.cluster.batch_driver import BatchDriver, RowUsage
from rlm_ray.cluster.driver import USAGE_S, ClusterDriver, Slot
from rlm_ray.cluster.subcalls.leaf_calls import TextRoom, UsageRecorder, in_portions
from rlm_ray.core.llm import Usage
from rlm_ray.errors import ActorLostError, ClusterError, ModelError
from rlm_ray.events.records import CallEnded, SessionEnded, to_line
from rlm_ray.events.usage import RunUsage
from rlm_ray.journal.recorder import NullRecorder
from rlm_ray.journal.replay import ReplayIndex


def call(*path, role="turn", **more):
    return CallEnded(2.0, path, 1, role, "m", "key", 1.0, usage=Usage(10, 1), **more)


async def test_a_session_row_ends_with_its_session_and_counts_all_below_it():
    usage = RowUsage()
    with usage.track([7]):
        for record in (call(7), call(7, 0, role="leaf"), call(8), SessionEnded(3.0, (7,), "answered")):
            usage.add(record)
        found = await usage.usage_of(7)
    assert (found.total.calls, found.sessions, set(found.rows)) == (2, 1, {("m", 0), ("m", 1)})


@pytest.mark.parametrize(
    ("on_record", "recorded", "calls"),
    [
        ([], [call(1, role="leaf")], 1),
        ([], [call(1, role="leaf", cache_hit=True)], 0),
        ([], [], 0),
        ([], [CallEnded(2.0, (1,), 2, "leaf", "m", "key", 1.0), call(1, role="leaf")], 2),
        ([call(1, role="leaf")], [], 1),
        ([call(2, role="leaf")], [], 0),
        ([call(1, role="leaf")], [call(1, role="leaf")], 1),
    ],
    ids=["made", "remembered", "not made", "put right", "on record", "another's", "made again"],
)
def test_a_plain_call_s_usage_is_that_of_its_records(on_record, recorded, calls):
    recorder = NullRecorder()
    recorder.replay = ReplayIndex()
    recorder.replay.ingest(b"".join(map(to_line, on_record)))
    counting = UsageRecorder(recorder)
    for record in recorded:
        counting.append(record)
    found = counting.usage((1,))
    assert (found.total.calls, set(found.rows)) == (calls, {("m", 0)} if calls else set())


@pytest.mark.parametrize(
    ("sizes", "begins_s"),
    [
        ([40, 60, 10, 95], [0, 0, 1, 2]),
        ([10] * 10, [0] * 10),
        ([150, 10, 10], [0, 1, 1]),
        ([10, 150, 10], [0, 1, 2]),
        ([60, 60, 60], [0, 1, 2]),
        ([100, 0, 0], [0, 0, 0]),
        ([99, 1, 1], [0, 0, 1]),
    ],
    ids=["in order", "all fit", "too large", "too large later", "one by one", "no text", "one more"],
)
def test_no_more_text_is_held_than_there_is_room_for_and_each_has_its_turn(sizes, begins_s):
    room, began = TextRoom(100), {}

    async def call(place, nbytes):
        async with room.hold(nbytes):
            began[place] = asyncio.get_running_loop().time()
            await asyncio.sleep(1)

    async def all_calls():
        await asyncio.gather(*(call(*each) for each in enumerate(sizes)))

    in_virtual_time(all_calls())
    assert [began[place] for place in range(len(sizes))] == begins_s
    assert (room._held, len(room._waiting)) == (0, 0)


@pytest.mark.parametrize(
    "cancelled_s", [0.5, 1.0, 1.5], ids=["while it waits", "in its turn", "in the middle"]
)
def test_a_call_that_is_cancelled_gives_its_room_to_the_next(cancelled_s):
    room, ended = TextRoom(100), []

    async def call(nbytes):
        async with room.hold(nbytes):
            await asyncio.sleep(1)
        ended.append(nbytes)

    async def cancel_the_second():
        calls = [asyncio.ensure_future(call(nbytes)) for nbytes in (100, 99, 98)]
        asyncio.get_running_loop().call_later(cancelled_s, calls[1].cancel)
        await asyncio.wait(calls)

    in_virtual_time(cancel_the_second())
    assert ended == [100, 98]
    assert (room._held, len(room._waiting)) == (0, 0)


async def finish(at_s, result):
    await asyncio.sleep(at_s)
    if isinstance(result, Exception):
        raise result
    return result


@pytest.mark.parametrize(
    ("ends_s", "portions"),
    [
        ([0.01] * 8, [(0.01, 8)]),
        ([0.1 + 0.005 * n for n in range(8)], [(0.135, 8)]),
        ([1, 1.5, 3, 4], [(1.5, 2), (3.05, 1), (4, 1)]),
        ([0.1, 5, 5, 5, 5, 5, 5, 5], [(1.1, 1), (5, 7)]),
        ([0.1, 0.5, 0.9, 1.3, 90], [(0.9, 3), (1.35, 1), (90, 1)]),
        ([3], [(3, 1)]),
        ([], []),
    ],
    ids=["at once", "soon after", "half", "no later", "one hangs", "one", "none"],
)
def test_results_come_a_few_at_a_time_and_none_waits_for_the_slowest(ends_s, portions):
    came = []

    async def take():
        tasks = [asyncio.ensure_future(finish(at_s, at_s)) for at_s in ends_s]
        loop = asyncio.get_running_loop()
        came.extend([(loop.time(), portion) async for portion in in_portions(tasks)])

    in_virtual_time(take())
    assert [(round(at, 3), len(portion)) for at, portion in came] == portions
    assert sorted(result for _, portion in came for result in portion) == sorted(ends_s)


def test_an_error_of_one_is_raised_where_its_result_would_come():
    async def take():
        tasks = [asyncio.ensure_future(finish(n, ValueError("odd") if n == 3 else n)) for n in range(1, 4)]
        return [portion async for portion in in_portions(tasks)]

    with pytest.raises(ValueError, match="odd"):
        in_virtual_time(take())


@pytest.mark.parametrize("wait_s", [0.0, 10.0])
def test_usage_of_a_row_whose_last_record_does_not_come_is_waited_for_no_longer(wait_s):
    usage = RowUsage()

    async def ask():
        with usage.track([7]):
            usage.add(call(7))
            return (await usage.usage_of(7, wait_s)).total.calls

    assert in_virtual_time(ask()) == wait_s


def test_nothing_is_kept_of_rows_that_nobody_watches():
    usage = RowUsage()
    with usage.track([1]):
        usage.add(call(1))
    for record in (call(1), call(2), SessionEnded(3.0, (), "answered")):
        usage.add(record)
    assert not usage._rows


class Leases:
    """The engine of a batch, as far as it takes slots back."""

    def __init__(self):
        self.released = []

    def release_slot(self, slot):
        self.released.append(slot.lease)


@pytest.mark.parametrize(
    ("error", "released"),
    [(ActorLostError("died"), ["2", "4", "1"]), (ModelError("m", "refused"), []), (None, [])],
    ids=["its actor died", "it failed", "it ended"],
)
async def test_a_row_whose_actor_died_leaves_no_slot_of_that_actor_to_another_row(error, released):
    driver = object.__new__(BatchDriver)
    driver._engine, driver._free_slots = Leases(), asyncio.Queue()
    for name, lease in [("a", "1"), ("a", "2"), ("b", "3"), ("a", "4"), ("b", "5")]:
        driver._free_slots.put_nowait(Slot(name, None, lease))
    with contextlib.suppress(ActorLostError, ModelError):
        async with driver._slot() as slot:
            assert slot.lease == "1"
            if error is not None:
                raise error
    left = [driver._free_slots.get_nowait().lease for _ in range(driver._free_slots.qsize())]
    assert driver._engine.released == released
    assert sorted(left + released) == ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize(("error", "took_s"), [(ClusterError("does not answer"), 0.0), (None, USAGE_S)])
def test_an_admission_that_cannot_be_asked_takes_nothing_from_what_a_limit_left(error, took_s):
    async def usage(run_id):
        if error is not None:
            raise error
        await asyncio.sleep(60)

    engine = object.__new__(ClusterDriver)
    engine._thread = SimpleNamespace(run=lambda work: work)
    engine.admission = SimpleNamespace(usage=usage)
    found = []

    async def ask():
        found.append(await engine.usage("run"))

    assert (in_virtual_time(ask()), found) == (took_s, [RunUsage()])
