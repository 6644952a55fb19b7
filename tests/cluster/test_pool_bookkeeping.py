"""What the pool keeps in order by itself, whoever is gone: leases, permits, its own checks; and what its driver does without it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from ray.exceptions import RayActorError
from virtual_time import in_virtual_time

from rlm_ray.cluster import pool as pool_module
from rlm_ray.cluster.driver import POOL_ATTEMPTS, ClusterDriver
from rlm_ray.cluster.pool import Pool
from rlm_ray.config import Cluster
from rlm_ray.errors import ClusterError


class Admission:
    """An admission that knows whose drivers are gone, or does not answer."""

    def __init__(self, *answers):
        self.answers = list(answers)

    async def driverless(self, run_ids):
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return tuple(run_id for run_id in run_ids if run_id in answer)

    async def forget_holder(self, name):
        raise ClusterError("the admission of the cluster does not answer")


def pool_with(*leases, admission):
    """Return a pool whose one actor is gone, with these leases of runs."""
    pool = Pool(Cluster())
    pool._admission = admission
    pool._slots.add("actor", 0.0)
    for number, run_id in enumerate(leases):
        pool._slots.lease(1, 8, f"root-{number}")
        pool._root_leases[f"root-{number}"] = "actor", run_id
    return pool


GONE = ClusterError("the admission of the cluster does not answer")


@pytest.mark.parametrize(
    ("answers", "taken"),
    [
        ([{"a"}], 2),
        ([{"a"}, {"a"}], 1),
        ([{"a"}, set(), {"a"}], 2),  # a connection that only broke
        ([{"a"}, {"b"}], 2),
        ([{"a", "b"}, {"a", "b"}], 0),
        ([{"a"}, GONE, {"a"}], 1),
        ([GONE, GONE], 2),
    ],
    ids=["once", "twice", "not in a row", "another", "both", "no answer between", "no answer"],
)
async def test_slot_is_taken_back_when_its_run_had_no_driver_at_two_checks(answers, taken):
    pool = pool_with("a", "b", admission=Admission(*answers))
    for _ in answers:
        await pool.return_driverless()
    assert pool._slots.at_work == taken == len(pool._root_leases)


async def test_who_tells_that_an_actor_died_is_no_caller_of_an_admission_that_is_gone():
    await pool_with("a", admission=Admission())._return_permits("actor")


async def test_whoever_waited_gets_the_actor_that_died_before_they_went_on(monkeypatch):
    monkeypatch.setattr(pool_module, "max_actors", lambda _: 1)
    pool = pool_with("a", admission=Admission())
    handle = pool._handles["actor"] = object()
    pool._is_configured.set()
    pool._capacity_checked_at = float("inf")
    waiting = asyncio.create_task(pool.acquire_root_slot(1, "b"))
    await asyncio.sleep(0)
    await pool.release(["actor"], "root-0")
    del pool._handles["actor"]  # the caller hears from the call itself that it is dead
    actor, found, _ = await waiting
    assert (actor, found) == ("actor", handle)


class Actor:
    """The handle of an actor that is asked one thing, and lives or not."""

    def __init__(self, error=None):
        self.error, self.environments = error, []
        self.set_environment = SimpleNamespace(remote=self._take)

    async def _take(self, environment):
        if self.error is not None:
            raise self.error
        self.environments.append(environment)


async def test_new_keys_reach_every_actor_also_where_one_has_just_died():
    pool = pool_with("a", admission=Admission())
    actors = [Actor(), Actor(RayActorError()), Actor()]
    pool._handles = dict(zip("abc", actors, strict=True))
    await pool.set_environment({"OPENAI_API_KEY": "new"})
    assert [actor.environments for actor in actors] == [
        [{"OPENAI_API_KEY": "new"}],
        [],
        [{"OPENAI_API_KEY": "new"}],
    ]


def test_check_that_fails_is_made_again():
    tries = []

    async def check():
        tries.append(asyncio.get_running_loop().time())
        raise KeyError("actor")

    async def checks():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3.5):
                await pool_module._repeat(1.0, check)

    in_virtual_time(checks())
    assert tries == [1.0, 2.0, 3.0]


class Successors:
    """Pools of which the first are lost: each is the handle that the driver has of it."""

    def __init__(self, lost):
        self.lost = lost
        self.actor = SimpleNamespace(handles=SimpleNamespace(remote=self._handles))

    def _handles(self):
        answer = asyncio.get_running_loop().create_future()
        if self.lost:
            answer.set_exception(RayActorError())
        else:
            answer.set_result({"actor": "handle"})
        return answer

    def make_successor(self):
        return Successors(self.lost - 1)


class Thread:
    """The thread of the connection, as far as it keeps the pool."""

    def __init__(self, pool):
        self.pool = pool

    def replace(self, name, lost, make):
        if self.pool is lost:
            self.pool = make()
        return self.pool


def drivers_of(pool, count):
    thread = Thread(pool)
    for _ in range(count):
        driver = object.__new__(ClusterDriver)
        driver._handle, driver._thread, driver._workers_asked = pool, thread, 1
        yield driver


@pytest.mark.parametrize("lost", range(POOL_ATTEMPTS + 1))
async def test_a_driver_whose_pool_is_lost_asks_the_next_and_shares_it_with_the_others(lost):
    for driver in drivers_of(Successors(lost), 3):
        if lost < POOL_ATTEMPTS:
            assert await driver._ask_pool("handles") == {"actor": "handle"}
            assert driver._handle is driver._thread.pool
        else:  # what the next row would meet, too, so it ends a batch
            with pytest.raises(ClusterError, match="lost again and again") as raised:
                await driver._ask_pool("handles")
            assert type(raised.value) is ClusterError
            break
