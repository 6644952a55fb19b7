"""The recursion tree, from the records of a run in whatever order they come."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlm_ray.core.context import InputSummary
from rlm_ray.events.records import (
    CallEnded,
    CallSent,
    CellEnded,
    MapEnded,
    MapOpened,
    RunFinished,
    RunStarted,
    SessionEnded,
    SessionOpened,
)
from rlm_ray.events.tree import RunTree


def session(path, at, attempt=1, query="q"):
    return SessionOpened(at, path, query, InputSummary(chars=attempt), "m", f"actor-{attempt}", attempt)


def call(path, at, number=1, role="turn", **rest):
    return CallEnded(at, path, number, role, "m", "k", at - 0.5, **rest)


RUN = [
    RunStarted(1, "run", "q", {}, InputSummary(), "0"),
    session((), 2),
    CallSent(2.6, (), 1, "turn", "m", "k"),
    call((), 3),
    MapOpened(4, (), 1, 0, 3, 2),
    session((0,), 5, query="first"),
    session((1,), 5, query="second"),
    call((2,), 6, role="leaf", text="leaf", query="third"),
    SessionEnded(7, (0,), "lost", "it died", error_kind="ActorLostError"),
    session((0,), 8, 2, query="first"),
    call((0,), 9),
    CellEnded(10, (0,), 1, 9.5, final="zero"),
    call((0, 5), 9.8, role="leaf", error_kind="QuotaError", why="empty", query="deep"),
    SessionEnded(11, (0,), "answered", answer="zero", attempt=2),
    SessionEnded(12, (1,), "cost_usd", "spent", answer="half"),
    MapEnded(13, (), 0, 3, 0),
    CellEnded(14, (), 1, 4),
    CallSent(15, (), 2, "turn", "m", "k2"),
]


def shape(tree):
    """All that the tree says of its nodes."""
    return {
        path: (
            node.state, node.started, node.ended, node.answer, node.query, node.model, node.input, node.error,
            node.is_leaf, node.depth, node.calls_sent, node.calls, node.cells, node.maps, node.map_ends,
            {child.path for child in node.children}, {start.attempt for start in node.session_starts},
        )
        for path, node in tree.nodes.items()
    }  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(st.permutations(RUN))
def test_any_order_gives_the_same_tree(records):
    assert shape(RunTree(records)) == shape(RunTree(RUN))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from(range(len(RUN))), max_size=40))
def test_a_record_heard_twice_is_taken_once(indexes):
    named = [replace(record, id=str(number)) for number, record in enumerate(RUN)]
    tree = RunTree(named)
    before = shape(tree)
    assert not any(tree.add(named[index]) for index in indexes)
    assert shape(tree) == before


def test_what_the_nodes_of_a_run_say():
    tree = RunTree(RUN)
    said = {
        path: (node.state, node.started, node.ended, node.answer, node.query)
        for path, node in tree.nodes.items()
    }
    assert said == {
        (): ("running", 2, None, None, "q"),
        (0,): ("ok", 5, 11, "zero", "first"),
        (1,): ("stopped", 5, 12, "half", "second"),
        (2,): ("ok", 5.5, 6, "leaf", "third"),
        (0, 5): ("error", pytest.approx(9.3), 9.8, None, "deep"),
    }
    assert tree.nodes[0, 5].error == "QuotaError: empty"
    assert [node.path for node in tree.root.walk()] == [(), (0,), (0, 5), (1,), (2,)]


LIVES = [
    (session((), 1, 1), "running"),
    (SessionEnded(2, (), "lost", error_kind="ActorLostError"), "error"),
    (session((), 3, 2), "running"),
    (SessionEnded(4, (), "interrupted", attempt=2), "stopped"),
    (session((), 5, 2), "running"),  # the next life counts anew
    (SessionEnded(6, (), "answered", answer="a", attempt=2), "ok"),
]


def test_a_session_runs_again_with_each_attempt_and_each_resumption():
    tree = RunTree()
    states = []
    for record, _ in LIVES:
        tree.add(record)
        states.append(tree.root.state)
    assert states == [state for _, state in LIVES]
    assert tree.root.started == 1


def test_a_lost_session_without_an_end_runs_until_its_next_attempt_ends():
    tree = RunTree([session((3,), 1), session((3,), 2, 2)])
    assert tree.nodes[3,].state == "running"
    tree.add(SessionEnded(3, (3,), "answered", answer="a", attempt=2))
    assert (tree.nodes[3,].state, tree.nodes[3,].answer) == ("ok", "a")


def test_of_two_attempts_the_second_counts_though_its_machines_clock_is_behind():
    tree = RunTree(
        [session((3,), 10), session((3,), 8, 2), SessionEnded(9, (3,), "answered", answer="a", attempt=2)]
    )
    assert (tree.nodes[3,].state, tree.nodes[3,].ended) == ("ok", 9)


def test_a_node_known_only_by_its_child_stands_there_bare():
    tree = RunTree([call((4, 1), 2, role="leaf")])
    bare = tree.nodes[4,]
    assert (bare.state, bare.started, bare.query, bare.model, bare.input, bare.error) == (
        "running", None, "", "", InputSummary(), "",
    )  # fmt: skip
    assert [child.path for child in tree.root.children] == [(4,)]


def test_a_leaf_under_way_runs():
    leaf = RunTree([CallSent(1, (0,), 1, "leaf", "m", "k")]).nodes[0,]
    assert (leaf.is_leaf, leaf.state, leaf.started, leaf.ended, leaf.answer) == (
        True,
        "running",
        1,
        None,
        None,
    )


def test_a_direct_answer_is_a_session_and_no_leaf():
    root = RunTree([session((), 1), call((), 2, role="direct")]).root
    assert (root.is_leaf, root.state) == (False, "running")


def test_a_run_taken_up_again_has_not_ended():
    tree = RunTree([RunStarted(1, "r", "q", {}, InputSummary(), "0"), RunFinished(2, "interrupted")])
    assert tree.ended.stop_reason == "interrupted"
    tree.add(RunStarted(3, "r", "q", {}, InputSummary(), "0", life=2))
    assert (tree.ended, len(tree.opened)) == (None, 2)


def test_deep_trees_are_walked_without_recursion():
    tree = RunTree(call((0,) * depth, depth, role="leaf") for depth in range(1, 3000))
    assert sum(1 for _ in tree.root.walk()) == 3000
