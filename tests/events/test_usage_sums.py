"""Sums over calls, by model and depth."""

from __future__ import annotations

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_ray.events.usage import CallStats, RunUsage, UsageAccumulator

STATS = st.lists(st.integers(0, 100), min_size=len(fields(CallStats)), max_size=len(fields(CallStats))).map(
    lambda numbers: CallStats(*numbers)
)
ROWS = st.lists(st.tuples(st.tuples(st.sampled_from("ab"), st.integers(0, 2)), STATS), max_size=8)


def plain(stats):
    return [getattr(stats, each.name) for each in fields(CallStats)]


@given(STATS, STATS)
def test_every_field_is_added_and_taken_off(one, other):
    assert plain(one + other) == [a + b for a, b in zip(plain(one), plain(other), strict=True)]
    assert (one + other) - other == one
    assert one.tokens == one.input_tokens + one.output_tokens


@given(ROWS, ROWS)
def test_usage_is_the_sum_of_its_rows_however_they_are_grouped(first, second):
    one, other, together = UsageAccumulator(), UsageAccumulator(), UsageAccumulator()
    one.merge(first)
    other.merge(second)
    together.merge([*first, *second])
    usage = RunUsage(one.rows(), 2, 3) + RunUsage(other.rows(), 5, 7)
    assert usage == RunUsage(together.rows(), 7, 10)
    total = sum((stats for _, stats in [*first, *second]), CallStats())
    assert (
        usage.total
        == total
        == sum(usage.by_model.values(), CallStats())
        == sum(usage.by_depth.values(), CallStats())
    )
    assert usage.repaid_calls == total.repaid_calls
    for model, stats in usage.by_model.items():
        assert stats == sum((each for (name, _), each in [*first, *second] if name == model), CallStats())
    for depth, stats in usage.by_depth.items():
        assert stats == sum((each for (_, at), each in [*first, *second] if at == depth), CallStats())


def test_usage_as_plain_values():
    sums = UsageAccumulator()
    sums.add("m", 1, CallStats(calls=2, input_tokens=10, cost_usd=0.5))
    plain_values = RunUsage(sums.rows(), 3, 4).as_dict()
    assert (plain_values["sessions"], plain_values["cache_hits"]) == (3, 4)
    assert plain_values["total"] == plain_values["by_model"]["m"] == plain_values["by_depth"]["1"]
    assert plain_values["total"]["input_tokens"] == 10
    assert RunUsage().as_dict()["total"]["calls"] == 0


def test_nothing_is_all_zeros():
    assert plain(CallStats()) == [0] * len(fields(CallStats))
    assert (RunUsage().sessions, RunUsage().cache_hits, dict(RunUsage().rows)) == (0, 0, {})


def test_counts_have_the_names_of_other_libraries():
    assert RunUsage().stats(3) == {"llm_calls": 0, "iterations": 3, "depth": 0}
    usage = RunUsage({("m", 0): CallStats(calls=2), ("m", 2): CallStats(calls=5)})
    assert usage.stats(4) == {"llm_calls": 7, "iterations": 4, "depth": 2}


@pytest.mark.parametrize(
    ("stats", "cost"),
    [
        (CallStats(cost_usd=0.12345678), 0.123457),
        (CallStats(), 0.0),
        (CallStats(unpriced=1), None),
        (CallStats(cost_usd=0.5, unpriced=1), 0.5),
    ],
)
def test_cost_is_told_where_a_price_is_known(stats, cost):
    facts = RunUsage({("m", 0): stats}).facts()
    assert facts == {"calls": 0, "tokens": 0, "cost_usd": cost}
