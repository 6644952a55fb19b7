"""Answers put together in code: the laws, and what each way makes of what models say."""

from __future__ import annotations

import itertools
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_ray.core.reduce import OPERATIONS, parse_reduction, plan_levels, reduce_groups
from rlm_ray.errors import InputError

NUMBER = st.integers(-50, 50) | st.floats(-1e6, 1e6)
TEXT = st.text(alphabet="abÄ ", max_size=3)
COUNTS = st.dictionaries(TEXT, st.integers(0, 9), max_size=3)
FITTING = {
    "collect": st.none() | TEXT | NUMBER | st.lists(TEXT, max_size=3),
    "union": st.none() | TEXT | NUMBER | st.lists(TEXT | st.booleans(), max_size=3),
    "count": st.none() | TEXT | NUMBER | st.lists(TEXT | NUMBER, max_size=3) | COUNTS,
    "sum": st.none() | NUMBER | st.lists(NUMBER, max_size=3),
}


def answers_of(way):
    return st.lists(st.fixed_dictionaries({"x": FITTING[way]}), max_size=8)


def grouped(reduction_, states, shape):
    """Merged in some order and grouping."""
    states = list(states)
    while len(states) > 1:
        first = shape.randrange(len(states))
        size = shape.randint(2, len(states))
        chosen = [states[(first + n) % len(states)] for n in range(size)]
        rest = [state for state in states if all(state is not other for other in chosen)]
        states = [reduction_.merge(chosen), *rest]
    return states[0] if states else {}


@given(
    st.sampled_from(OPERATIONS).flatmap(lambda way: st.tuples(st.just(way), answers_of(way))), st.integers()
)
def test_any_grouping_and_order_gives_the_same(way_and_answers, seed):
    way, answers = way_and_answers
    found = parse_reduction(f"{way}:x")
    states = [found.map_piece(piece, answer) for piece, answer in enumerate(answers)]
    at_once, shaped = found.merge(states), grouped(found, states, random.Random(seed))
    assert found.value(at_once) == found.value(shaped)
    assert list(found.value(at_once)["x"] if way != "sum" else []) == list(
        found.value(shaped)["x"] if way != "sum" else []
    )
    assert found.provenance(at_once) == found.provenance(shaped)


@given(st.lists(st.lists(TEXT, max_size=4), max_size=6))
def test_counts_are_those_of_a_counter(lists):
    found = parse_reduction("count:x")
    state = found.merge(found.map_piece(piece, {"x": items}) for piece, items in enumerate(lists))
    assert found.value(state)["x"] == Counter(item.strip() for items in lists for item in items)


@given(st.lists(st.lists(TEXT, max_size=4), max_size=6))
def test_collecting_keeps_all_in_the_order_of_the_pieces(lists):
    found = parse_reduction("collect:x")
    state = found.merge(
        found.map_piece(piece, {"x": items}) for piece, items in reversed(list(enumerate(lists)))
    )
    assert found.value(state)["x"] == [item.strip() for items in lists for item in items]


@given(st.lists(st.lists(TEXT, max_size=4), max_size=6))
def test_each_result_knows_the_pieces_it_comes_from(lists):
    for way in ("count", "union", "collect"):
        found = parse_reduction(f"{way}:x")
        state = found.merge(found.map_piece(piece, {"x": items}) for piece, items in enumerate(lists))
        for value, pieces in found.provenance(state).get("x", {}).items():
            expected = [n for n, items in enumerate(lists) if value in [item.strip() for item in items]]
            assert list(pieces) == expected


def reduce(spec, *answers):
    found = parse_reduction(spec)
    return found.value(found.merge(found.map_piece(piece, answer) for piece, answer in enumerate(answers)))


@pytest.mark.parametrize(
    ("spec", "answers", "value"),
    [
        (
            "count:status",
            [{"status": "Final"}, {"status": "Draft"}, {"status": "Final "}],
            {"Final": 2, "Draft": 1},
        ),
        (
            "count:status",
            [{"status": {"Final": 3}}, {"status": {"Final": 1, "Draft": 2}}],
            {"Final": 4, "Draft": 2},
        ),
        ("count:status", [{"status": None}, {}], {}),
        ("count:status", [{"status": True}, {"status": [1, 1]}], {"1": 2, "true": 1}),
        ("union:status", [{"status": ["b", "a"]}, {"status": "b"}], ["a", "b"]),
        ("union:status", [{"status": 1}, {"status": "1"}, {"status": True}], [1, "1", True]),
        ("union:status", [{"status": {"a": 1, "b": 2}}, {"status": {"b": 2, "a": 1}}], [{"a": 1, "b": 2}]),
        ("sum:status", [{"status": 0.1}] * 10, 1.0),
        ("sum:status", [{"status": 2}, {"status": [3, 4]}, {"status": True}], 10),
        ("sum:status", [{"status": {"a": 1}}, {"status": {"a": 2, "b": 0.5}}], {"a": 3, "b": 0.5}),
        ("sum:status", [], 0),
        ("collect:status", [{"status": ["x"]}, {"status": "y"}], ["x", "y"]),
    ],
)
def test_a_field_is_reduced(spec, answers, value):
    assert reduce(spec, *answers) == {"status": value}


@pytest.mark.parametrize(
    ("spec", "answers", "value"),
    [
        ("collect", [{"a": 1}, {"a": 2}], [{"a": 1}, {"a": 2}]),
        ("collect", ["one", "two"], ["one", "two"]),
        ("count", ["yes", "no", " yes\n"], {"yes": 2, "no": 1}),
        ("count", [{"a": "x", "b": True}, {"a": "x"}], {"a": {"x": 2}, "b": {"true": 1}}),
        ("sum", [{"a": 1}, {"a": 2, "b": 3}], {"a": 3, "b": 3}),
        ("sum", ["3", " 1,000.5\n"], 1003.5),
        ("count", [], {}),
        ("collect", [], []),
        ({"a": "sum", "b": "union"}, [{"a": 1, "b": "x"}, {"a": 1, "b": "x"}], {"a": 2, "b": ["x"]}),
        ("sum:a,union:b", [], {"a": 0, "b": []}),
    ],
)
def test_whole_answers_and_several_fields_are_reduced(spec, answers, value):
    assert reduce(spec, *answers) == value


@pytest.mark.parametrize("spec", ["", "median", "count:", "count:a,sum:a", "count,sum:a", "status:count", {}])
def test_a_way_that_does_not_exist_is_refused(spec):
    if spec == "count:":
        assert parse_reduction(spec) == parse_reduction("count")
        return
    with pytest.raises(InputError, match="reduce"):
        parse_reduction(spec)


def test_adding_up_texts_is_refused_with_the_field():
    with pytest.raises(InputError, match="title cannot be added up: 'x' is no number"):
        reduce("sum:title", {"title": "x"})


@given(st.lists(st.integers(0, 300), min_size=2, max_size=60), st.integers(20, 500))
def test_groups_are_all_answers_in_order_and_fewer_than_them(lengths, size):
    found = reduce_groups(lengths, size)
    assert [at for group in found for at in group] == list(range(len(lengths)))
    assert len(found) < len(lengths)
    assert all(len(group) > 1 for group in found[:-1])
    for group in found:
        fits = sum(min(lengths[at], size // 2) + 12 for at in group) <= size
        assert fits or len(group) <= 2
    for group, following in itertools.pairwise(found):
        together = sum(min(lengths[at], size // 2) + 12 for at in (*group, following.start))
        assert together > size


@given(st.integers(1, 60), st.integers(0, 300), st.integers(20, 500))
def test_first_level_is_planned_as_it_is_grouped(answers, chars, size):
    groups = [len(group) for group in reduce_groups([chars] * answers, size)]
    assert plan_levels(answers, chars, size)[:1] == ([groups] if answers > 1 else [])


@given(st.integers(0, 5_000), st.integers(1, 2_000), st.integers(50, 10_000))
def test_planned_levels_end_with_one(answers, chars, size):
    levels = plan_levels(answers, chars, size)
    left = answers
    for level in levels:
        assert sum(level) == left
        left = len(level)
    assert left == min(answers, 1)
