"""Who sits where in a pool of actors."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from rlm_ray.cluster.slots import FreeCapacity, Outlook, SlotTable, free_capacity, growth, share


def pool(*actors):
    slots = SlotTable()
    for actor in actors:
        slots.add(actor, 0.0)
    return slots


def test_slots_spread_over_the_actors():
    assert Counter(pool("a", "b", "c").lease(6, 10, "root-0")) == {"a": 2, "b": 2, "c": 2}


def test_a_full_pool_gives_what_it_has():
    slots = pool("a", "b")
    assert len(slots.lease(100, 3, "root-0")) == 6
    assert slots.lease(1, 3, "root-0") == []
    assert pool().lease(1, 3, "root-0") == []


def test_a_session_that_waits_for_children_gives_its_slot_back():
    slots = pool("a")
    slots.lease(1, 1, "root-0")
    slots.mark_waiting("a")
    assert slots.lease(1, 1, "a") == ["a"]
    slots.mark_running("a")
    assert slots.taken("a") == 2


def test_a_session_that_waits_in_a_full_pool_has_a_slot_for_a_child_all_the_same():
    slots = pool("a")
    slots.lease(2, 1, "root-0")
    slots.mark_waiting("a")
    slots.lease(1, 1, "root-0")
    assert slots.lease(1, 1, "a") == []
    assert slots.overcommit_local("a") == ["a"]
    assert slots.taken("a") == 2
    slots.release("a", "a", 1.0)
    assert slots.taken("a") == 1


def test_an_actor_whose_only_session_waits_is_not_idle():
    slots = pool("a")
    slots.lease(1, 1, "root-0")
    slots.mark_waiting("a")
    assert slots.idle(1e9, 1.0) == []


def test_a_dead_lessees_leases_end():
    slots = pool("a", "b")
    slots.lease(4, 4, "a")
    slots.remove("a", 1.0)
    assert slots.taken("b") == 0
    assert slots.lease(9, 4, "root-0") == ["b"] * 4


def test_releasing_twice_changes_nothing():
    slots = pool("a")
    slots.lease(2, 4, "x")
    for _ in range(5):
        slots.release("a", "x", 1.0)
    assert slots.taken("a") == 0
    slots.lease(1, 4, "root-0")
    slots.release("a", "x", 1.0)
    assert slots.taken("a") == 1


def test_only_actors_without_work_are_idle():
    slots = pool("a", "b", "c")
    assert slots.lease(1, 1, "root-0") == ["a"]
    slots.mark_used("b", 95.0)
    assert slots.idle(100.0, 10.0) == ["c"]
    slots.release("a", "root-0", 99.0)
    assert slots.idle(109.0, 10.0) == ["c", "b", "a"]


@pytest.mark.parametrize(
    ("work", "actors", "found", "lasting", "started"),
    [
        (60, 1, FreeCapacity(new_nodes=3), False, 3),
        (61, 1, FreeCapacity(new_nodes=2, same_nodes=1), False, 3),
        (600, 1, FreeCapacity(new_nodes=3), False, 3),
        (600, 1, FreeCapacity(new_nodes=500), False, 74),
        (8, 1, FreeCapacity(new_nodes=3), False, 0),
        (9, 1, FreeCapacity(new_nodes=3), False, 1),
        (9, 1, FreeCapacity(same_nodes=3), False, 0),
        (9, 1, FreeCapacity(same_nodes=3), True, 1),
        (60, 1, FreeCapacity(same_nodes=1), False, 0),
        (60, 1, FreeCapacity(same_nodes=1), True, 1),
        (60, 4, FreeCapacity(new_nodes=3), False, 3),
        (60, 8, FreeCapacity(new_nodes=3), True, 0),
        (60, 1, FreeCapacity(), True, 0),
        (0, 0, FreeCapacity(5, 5), True, 0),
    ],
)
def test_actors_are_started_where_there_is_more_than_a_few_sessions_for_each(
    work, actors, found, lasting, started
):
    assert growth(work, 8, actors, found, is_lasting=lasting) == started


@pytest.mark.parametrize(
    ("free", "nodes", "cpus", "starting", "most", "found"),
    [
        ({"a": 0.0, "b": 1.0, "c": 1.0, "d": 1.0}, {"a"}, 1.0, 0, 3, FreeCapacity(3, 0)),
        ({"a": 0.0, "b": 2.0}, {"a"}, 1.0, 0, 2, FreeCapacity(2, 0)),
        ({"a": 1.0, "b": 1.0}, {"a"}, 1.0, 0, 2, FreeCapacity(1, 1)),
        ({"a": 1.0}, {"a"}, 1.0, 0, 1, FreeCapacity(0, 1)),
        ({"head": 0.0, "a": 0.0, "b": 0.0}, {"a"}, 1.0, 0, 2, FreeCapacity()),
        ({"a": 0.0, "b": 0.9}, {"a"}, 1.0, 0, 2, FreeCapacity()),
        ({"a": 0.0, "b": 0.9}, {"a"}, 0.25, 0, 2, FreeCapacity(2, 0)),
        ({"a": 0.0, "b": 3.0}, {"a"}, 1.0, 2, 5, FreeCapacity(1, 0)),
        ({"a": 2.0, "b": 1.0}, {"a"}, 1.0, 2, 5, FreeCapacity(0, 1)),
        ({"a": 2.0, "b": 1.0}, {"a"}, 1.0, 9, 5, FreeCapacity()),
        ({"a": 5.0, "b": 5.0}, {"a"}, 1.0, 0, 3, FreeCapacity(3, 0)),
        ({"a": 5.0, "b": 5.0}, {"a"}, 1.0, 0, -1, FreeCapacity()),
        ({"a": 0.0, "b": 0.0}, {"a"}, 0.0, 0, 2, FreeCapacity(2, 0)),
        ({"lost": 4.0}, set(), 2.0, 0, 9, FreeCapacity(2, 0)),
        ({}, {"a"}, 1.0, 0, 9, FreeCapacity()),
    ],
)
def test_capacity_is_on_free_cpus_and_not_on_those_that_others_hold(
    *, free, nodes, cpus, starting, most, found
):
    assert free_capacity(free, nodes, cpus, starting, most) == found


@pytest.mark.parametrize(
    ("work", "actors", "most"),
    [(60, 4, 15), (60, 3, 20), (600, 4, 150), (12, 4, 8), (9, 1, 9), (0, 0, 8)],
)
def test_an_actors_share_leaves_the_rest_to_those_on_their_way(work, actors, most):
    assert share(work, 8, actors) == most


@pytest.mark.parametrize(
    ("outlook", "pending", "session_s", "held"),
    [
        (Outlook(1, 3, 4.0), 60, None, 45),
        (Outlook(1, 3, 4.0), 45, 0.2, 0),
        (Outlook(1, 3, 4.0), 45, 5.0, 45),
        (Outlook(1, 3, 0.0), 45, 0.2, 45),
        (Outlook(2, 2, 4.0), 60, None, 30),
        (Outlook(4, 0, 0.0), 60, None, 0),
        (Outlook(1, 1, 4.0), 3, None, 3),
        (Outlook(7, 9, 4.0), 60, None, 33),
        (Outlook(8, 9, 4.0), 60, None, 0),
    ],
)
def test_children_wait_for_actors_on_their_way_unless_those_at_work_are_done_sooner(
    outlook, pending, session_s, held
):
    assert outlook.held_back(pending, 60, session_s) == held


@given(
    outlook=st.builds(Outlook, st.integers(1, 50), st.integers(0, 50), st.floats(0, 100)),
    total=st.integers(1, 5_000),
    session_s=st.none() | st.floats(0, 1_000),
)
def test_a_map_begins_where_it_is_and_holds_nothing_back_when_nobody_comes(outlook, total, session_s):
    held = outlook.held_back(total, total, session_s)
    assert 0 <= held <= total
    assert held == 0 or outlook.coming
    assert held < total


@given(
    free=st.dictionaries(st.sampled_from("abcdef"), st.floats(0, 64)),
    nodes=st.sets(st.sampled_from("abcdef")),
    cpus=st.sampled_from([0.0, 0.25, 1.0, 3.0]),
    starting=st.integers(0, 20),
    most=st.integers(-5, 200),
    work=st.integers(0, 10_000),
    target=st.integers(1, 64),
    actors=st.integers(0, 50),
    lasting=st.booleans(),
)
def test_the_pool_never_grows_beyond_its_work_its_capacity_and_its_limit(
    *, free, nodes, cpus, starting, most, work, target, actors, lasting
):
    """And no session is without a place: the shares of all actors hold the work."""
    found = free_capacity(free, nodes, cpus, starting, most)
    assert min(found.new_nodes, found.same_nodes) >= 0
    started = growth(work, target, actors, found, is_lasting=lasting)
    assert 0 <= started <= max(0, most)
    if cpus:
        assert started * cpus <= sum(free.values())
    assert started == 0 or (actors + started - 1) * target < work
    assert share(work, target, actors + started) * max(1, actors + started) >= work


class Leasing(RuleBasedStateMachine):
    """Whatever happens, no lease goes beyond the slots of an actor, and what is taken is what is leased and at work."""

    PER_ACTOR = 3

    @initialize()
    def start(self):
        self.slots = pool("a", "b", "c")
        self.leases = []
        self.waiting = Counter()

    @rule(count=st.integers(1, 5), lessee=st.sampled_from(["root-0", "a", "b"]))
    def lease(self, count, lessee):
        for actor in self.slots.lease(count, self.PER_ACTOR, lessee):
            self.leases.append((actor, lessee))
            assert sum(home == actor for home, _ in self.leases) - self.waiting[actor] <= self.PER_ACTOR

    @rule(which=st.integers(0, 50))
    def release(self, which):
        if self.leases:
            actor, lessee = self.leases.pop(which % len(self.leases))
            self.slots.release(actor, lessee, 1.0)

    @rule(actor=st.sampled_from("abc"))
    def wait_for_children(self, actor):
        self.slots.mark_waiting(actor)
        self.waiting[actor] += 1
        self.leases += [(home, actor) for home in self.slots.overcommit_local(actor)]

    @rule(actor=st.sampled_from("abc"))
    def go_on(self, actor):
        if self.waiting[actor]:
            self.waiting[actor] -= 1
            self.slots.mark_running(actor)

    @rule(actor=st.sampled_from("abc"))
    def die_and_come_back(self, actor):
        self.slots.remove(actor, 1.0)
        self.leases = [(a, lessee) for a, lessee in self.leases if actor not in {a, lessee}]
        self.slots.add(actor, 1.0)
        self.waiting[actor] = 0

    @invariant()
    def taken_is_what_is_leased(self):
        if hasattr(self, "slots"):
            counts = Counter(actor for actor, _ in self.leases)
            for actor in self.slots.actors:
                assert self.slots.taken(actor) == counts[actor] - self.waiting[actor]


TestLeasing = Leasing.TestCase
