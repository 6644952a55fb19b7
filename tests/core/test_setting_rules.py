"""What settings take: both ends of each range, and what is said of the rest."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import pytest

from rlm_ray.core.setting_rules import (
    FLAG,
    NEEDS_TRUST,
    SHAPES_ANSWER,
    TEXT,
    Number,
    OneOf,
    Whole,
    check_fields,
    marked_fields,
)
from rlm_ray.errors import ConfigError

WHOLE = "must be a whole number from 1 to 1,000"
NUMBER = "must be a number from 0.5 to 10,000,000"
ABOVE = "must be a number of seconds above 0, at most 86,400"
WORD = "must be stop, go or wait"
CASES = [
    (Whole(1, 1000), [1, 2, 1000], [0, 1001, -1, 1.0, True, "5", None, math.nan, 10**40], WHOLE),
    (Number(0.5, 1e7), [0.5, 1, 1e7], [0.49, 10_000_001, math.nan, math.inf, True, "5", None, [1], 10**400], NUMBER),
    (Number(0, 86_400, "seconds", above=True), [0.001, 86_400], [0, 0.0, -1, 86_401, False], ABOVE),
    (OneOf("stop", "go", "wait"), ["stop", "wait"], ["", "GO", None, 1], WORD),
    (FLAG, [True, False], [0, 1, "true", None], "must be true or false"),
    (TEXT, ["", "x"], [1, None, b"x"], "must be a text"),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "good", "bad", "sentence"), CASES)
def test_rule_takes_both_ends_and_says_what_it_takes(rule, good, bad, sentence):
    assert {rule.fault(value) for value in good} == {""}
    assert {rule.fault(value) for value in bad} == {sentence}


@dataclass(frozen=True, slots=True)
class Sample:
    a: Annotated[int | None, Whole(1, 9), SHAPES_ANSWER] = None
    b: Annotated[int, SHAPES_ANSWER, Whole(1, 9)] = 1
    c: Annotated[str, NEEDS_TRUST] = ""
    d: int = 1

    def __post_init__(self):
        check_fields(self, "sample.")


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"a": 0}, "sample.a: must be a whole number from 1 to 9, or None; got 0"),
        ({"b": 0}, "sample.b: must be a whole number from 1 to 9; got 0"),
        ({"b": None}, "sample.b: must be a whole number from 1 to 9; got None"),
    ],
)
def test_first_wrong_field_is_named_with_its_rule(values, sentence):
    with pytest.raises(ConfigError) as refused:
        Sample(**values)
    assert str(refused.value) == sentence


def test_fields_without_a_rule_take_anything_and_marks_are_no_rules():
    assert Sample(a=None, b=9, c=5, d="x").c == 5
    assert marked_fields(Sample, SHAPES_ANSWER) == {"a": int | None, "b": int}
    assert list(marked_fields(Sample, NEEDS_TRUST)) == ["c"]
