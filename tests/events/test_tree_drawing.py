"""The tree of a run as people see it: a line for each node, bounded, and nothing of a model's text is obeyed."""

from __future__ import annotations

import pytest

from rlm_ray.core.context import make_context, summarize
from rlm_ray.events.records import (
    CallEnded,
    RunFinished,
    RunStarted,
    SessionEnded,
    SessionOpened,
)
from rlm_ray.events.tree import RunTree


def records_of_a_tree(leaves):
    given = make_context("text")
    yield RunStarted(0.0, "run-1", "q", {}, summarize(given), "1")
    yield SessionOpened(0.1, (), "Who speaks?\nAnd why?", summarize(given), "openai/root", "actor")
    for number in range(leaves):
        failed = {"error_kind": "ModelError", "why": "down"} if number == 1 else {"text": f"answer {number}"}
        yield CallEnded(0.2, (number,), 1, "leaf", "openai/leaf", "k", 0.1, query="part?", **failed)
    yield SessionEnded(0.3, (), "answered", answer="Ann " * 100, turns=1)
    yield RunFinished(0.4, "answered")


def test_tree_is_drawn_with_a_line_for_each_node():
    assert str(RunTree(records_of_a_tree(2))).splitlines() == [
        "run run-1 · answered · 3 nodes",
        "root · openai/root · 0 turns, 0 calls · ok · 'Who speaks? And why?' → '" + "Ann " * 14 + "Ann…'",
        "├ 0 · openai/leaf · 1 call · ok · 'part?' → 'answer 0'",
        "└ 1 · openai/leaf · 1 call · error · 'part?' → ModelError: down",
    ]


def test_tree_of_many_nodes_is_bounded():
    drawn = repr(RunTree(records_of_a_tree(1_000))).splitlines()
    assert len(drawn) == 13
    assert drawn[-1] == "└ … 990 more (990 ok)"
    assert RunTree(records_of_a_tree(1_000)).lines(max_lines=5)[-1] == "…"
    assert len(RunTree(records_of_a_tree(1_000)).lines(max_lines=5)) == 6


def test_tree_without_records_and_one_under_way_say_so():
    assert repr(RunTree()).startswith("run ? · no records · 1 nodes")
    under_way = RunTree(list(records_of_a_tree(1))[:2])
    assert "run run-1 · under way" in repr(under_way)
    assert "running · 'Who speaks? And why?' → no answer yet" in repr(under_way)


def test_tree_of_a_hostile_run_is_escaped_in_a_notebook():
    tree = RunTree(
        [*records_of_a_tree(0), SessionEnded(0.3, (), "answered", answer="<img src=x>\x1b[0m", turns=1)]
    )
    assert "<img" not in tree._repr_html_()
    assert "\x1b" not in repr(tree)


@pytest.mark.parametrize(
    ("leaves", "lines", "last"),
    [
        (0, 2, "root"),
        (9, 11, "└ 8"),
        (10, 12, "└ 9"),
        (11, 13, "└ … 1 more (1 ok)"),
        (12, 13, "└ … 2 more (2 ok)"),
    ],
)
def test_ten_children_are_drawn_and_the_others_counted(leaves, lines, last):
    drawn = RunTree(records_of_a_tree(leaves)).lines()
    assert (len(drawn), drawn[-1].startswith(last)) == (lines, True)
    assert all(line.startswith("├ ") for line in drawn[2:-1])


@pytest.mark.parametrize(("max_lines", "drawn"), [(1, 2), (3, 4), (4, 4), (5, 4)])
def test_lines_are_bounded_and_the_cut_is_shown(max_lines, drawn):
    lines = RunTree(records_of_a_tree(2)).lines(max_lines=max_lines)
    assert len(lines) == drawn
    assert (lines[-1] == "…") is (max_lines < 4)


def test_hundred_lines_are_drawn_of_a_deep_tree_with_its_depth():
    given = summarize(make_context("text"))
    deep = [SessionOpened(0.1, (0,) * depth, "Who?", given, "m", "actor") for depth in range(150)]
    lines = RunTree(deep).lines()
    assert (len(lines), lines[-1]) == (101, "…")
    assert [len(line) - len(line.lstrip(" └")) for line in lines[1:5]] == [0, 2, 4, 6]
    both = [
        SessionOpened(0.1, path, "Who?", given, "m", "actor") for path in ((), (0,), (1,), (0, 0), (1, 0))
    ]
    assert [line.partition(" ·")[0] for line in RunTree(both).lines()[1:]] == [
        "root",
        "├ 0",
        "│ └ 0.0",
        "└ 1",
        "  └ 1.0",
    ]
