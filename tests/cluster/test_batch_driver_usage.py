"""What a row of a job has used, added up from its records."""

from __future__ import annotations

from rlm_ray.cluster.batch_driver import RowUsage
from rlm_ray.core.llm import Usage
from rlm_ray.events.records import CallEnded, SessionEnded


def call(*path, role="turn", **more):
    return CallEnded(2.0, path, 1, role, "m", "key", 1.0, usage=Usage(10, 1), **more)


async def test_a_session_row_ends_with_its_session_and_counts_all_below_it():
    usage = RowUsage()
    with usage.track([7]):
        for record in (call(7), call(7, 0, role="leaf"), call(8), SessionEnded(3.0, (7,), "answered")):
            usage.add(record)
        found = await usage.usage_of(7)
    assert (found.total.calls, found.sessions, set(found.rows)) == (2, 1, {("m", 0), ("m", 1)})


async def test_a_row_that_is_one_call_ends_with_it_also_where_it_was_remembered():
    usage = RowUsage()
    with usage.track([1, 2]):
        usage.add(call(1, role="leaf"))
        usage.add(call(2, role="leaf", cache_hit=True))
        found = [await usage.usage_of(row) for row in (1, 2)]
    assert [(each.total.calls, each.sessions) for each in found] == [(1, 0), (0, 0)]


def test_nothing_is_kept_of_rows_that_nobody_watches():
    usage = RowUsage()
    with usage.track([1]):
        usage.add(call(1))
    for record in (call(1), call(2), SessionEnded(3.0, (), "answered")):
        usage.add(record)
    assert not usage._rows
