"""Who sits where in a pool of actors."""

from __future__ import annotations

from collections import Counter

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from rlm_ray.cluster.seats import Seats


def pool(*actors):
    seats = Seats()
    for actor in actors:
        seats.add(actor, 0.0)
    return seats


def test_seats_spread_over_the_actors():
    assert Counter(pool("a", "b", "c").lease(6, 10, "root-0")) == {"a": 2, "b": 2, "c": 2}


def test_a_full_pool_gives_what_it_has():
    seats = pool("a", "b")
    assert len(seats.lease(100, 3, "root-0")) == 6
    assert seats.lease(1, 3, "root-0") == []
    assert pool().lease(1, 3, "root-0") == []


def test_a_session_that_waits_for_children_gives_its_seat_back():
    seats = pool("a")
    seats.lease(1, 1, "root-0")
    seats.stand_up("a")
    assert seats.lease(1, 1, "a") == ["a"]
    seats.sit_down("a")
    assert seats.taken("a") == 2


def test_a_session_that_waits_in_a_full_pool_has_a_seat_for_a_child_all_the_same():
    seats = pool("a")
    seats.lease(2, 1, "root-0")
    seats.stand_up("a")
    seats.lease(1, 1, "root-0")
    assert seats.lease(1, 1, "a") == []
    assert seats.lease_at_home("a") == ["a"]
    assert seats.taken("a") == 2
    seats.release("a", "a", 1.0)
    assert seats.taken("a") == 1


def test_an_actor_whose_only_session_waits_is_not_idle():
    seats = pool("a")
    seats.lease(1, 1, "root-0")
    seats.stand_up("a")
    assert seats.idle(1e9, 1.0) == []


def test_a_dead_lessees_leases_end():
    seats = pool("a", "b")
    seats.lease(4, 4, "a")
    seats.remove("a", 1.0)
    assert seats.taken("b") == 0
    assert seats.lease(9, 4, "root-0") == ["b"] * 4


def test_releasing_twice_changes_nothing():
    seats = pool("a")
    seats.lease(2, 4, "x")
    for _ in range(5):
        seats.release("a", "x", 1.0)
    assert seats.taken("a") == 0
    seats.lease(1, 4, "root-0")
    seats.release("a", "x", 1.0)
    assert seats.taken("a") == 1


def test_only_actors_without_work_are_idle():
    seats = pool("a", "b", "c")
    assert seats.lease(1, 1, "root-0") == ["a"]
    seats.touch("b", 95.0)
    assert seats.idle(100.0, 10.0) == ["c"]
    seats.release("a", "root-0", 99.0)
    assert seats.idle(109.0, 10.0) == ["c", "b", "a"]


class Leasing(RuleBasedStateMachine):
    """Whatever happens, no lease goes beyond the seats of an actor, and what is taken is what is leased and at work."""

    PER_ACTOR = 3

    @initialize()
    def start(self):
        self.seats = pool("a", "b", "c")
        self.leases = []
        self.waiting = Counter()

    @rule(count=st.integers(1, 5), lessee=st.sampled_from(["root-0", "a", "b"]))
    def lease(self, count, lessee):
        for actor in self.seats.lease(count, self.PER_ACTOR, lessee):
            self.leases.append((actor, lessee))
            assert sum(home == actor for home, _ in self.leases) - self.waiting[actor] <= self.PER_ACTOR

    @rule(which=st.integers(0, 50))
    def release(self, which):
        if self.leases:
            actor, lessee = self.leases.pop(which % len(self.leases))
            self.seats.release(actor, lessee, 1.0)

    @rule(actor=st.sampled_from("abc"))
    def wait_for_children(self, actor):
        self.seats.stand_up(actor)
        self.waiting[actor] += 1
        self.leases += [(home, actor) for home in self.seats.lease_at_home(actor)]

    @rule(actor=st.sampled_from("abc"))
    def go_on(self, actor):
        if self.waiting[actor]:
            self.waiting[actor] -= 1
            self.seats.sit_down(actor)

    @rule(actor=st.sampled_from("abc"))
    def die_and_come_back(self, actor):
        self.seats.remove(actor, 1.0)
        self.leases = [(a, lessee) for a, lessee in self.leases if actor not in {a, lessee}]
        self.seats.add(actor, 1.0)
        self.waiting[actor] = 0

    @invariant()
    def taken_is_what_is_leased(self):
        if hasattr(self, "seats"):
            counts = Counter(actor for actor, _ in self.leases)
            for actor in self.seats.actors:
                assert self.seats.taken(actor) == counts[actor] - self.waiting[actor]


TestLeasing = Leasing.TestCase
