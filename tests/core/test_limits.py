"""What a user may write as limits and rates."""

import math

import pytest

from rlm_ray.core.limits import Limits, Rates
from rlm_ray.errors import ConfigError

BAD_NUMBERS = [-1, math.nan, math.inf, -math.inf, True, "5", 10**400, [1]]
BAD_COUNTS = [0, -1, 1.5, True, "5", 10**40, math.nan]


def test_limits_are_optional_and_free_models_may_be_all_that_runs():
    assert Limits() == Limits(None, None, None, None, None)
    assert Limits(cost_usd=0).cost_usd == 0
    assert Limits(5.0, tokens=1, calls=1, sessions=1, time_s=0.5).time_s == 0.5


@pytest.mark.parametrize("value", BAD_NUMBERS)
@pytest.mark.parametrize(
    ("kind", "name"),
    [(Limits, "cost_usd"), (Limits, "time_s"), (Rates, "rpm"), (Rates, "tpm"), (Rates, "output_tpm")],
)
def test_a_number_that_makes_no_sense_is_named(kind, name, value):
    with pytest.raises(ConfigError, match=f"{kind.__name__.lower()}.{name}: must be a number of .*; got "):
        kind(**{name: value})


@pytest.mark.parametrize("value", BAD_COUNTS)
@pytest.mark.parametrize(
    ("kind", "name"),
    [(Limits, "tokens"), (Limits, "calls"), (Limits, "sessions"), (Rates, "in_flight")],
)
def test_a_count_that_makes_no_sense_is_named(kind, name, value):
    with pytest.raises(ConfigError, match=f"{kind.__name__.lower()}.{name}: must be a whole number .*; got "):
        kind(**{name: value})


@pytest.mark.parametrize(("kind", "name"), [(Limits, "time_s"), (Rates, "rpm"), (Rates, "tpm")])
def test_zero_is_refused_where_nothing_could_ever_run(kind, name):
    with pytest.raises(ConfigError, match="above 0"):
        kind(**{name: 0})


MOST = [
    (Limits, "cost_usd", 1e9, "US dollars from 0 to 1,000,000,000"), (Limits, "time_s", 365 * 86_400, "seconds above 0, at most 31,536,000"),
    (Limits, "tokens", 10**15, "from 1 to 1,000,000,000,000,000"), (Limits, "calls", 10**12, "from 1 to 1,000,000,000,000"),
    (Limits, "sessions", 10**12, "from 1 to 1,000,000,000,000"), (Rates, "rpm", 1e9, "requests per minute above 0, at most 1,000,000,000"),
    (Rates, "tpm", 1e15, "tokens per minute above 0, at most 1,000,000,000,000,000"), (Rates, "in_flight", 10**6, "from 1 to 1,000,000"),
    (Rates, "input_tpm", 1e15, "tokens per minute above 0, at most 1,000,000,000,000,000"),
    (Rates, "output_tpm", 1e15, "tokens per minute above 0, at most 1,000,000,000,000,000"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "name", "most", "sentence"), MOST)
def test_both_ends_of_a_limit_are_named_and_the_upper_one_is_taken(kind, name, most, sentence):
    assert getattr(kind(**{name: most}), name) == most
    with pytest.raises(ConfigError, match=f"{name}: must be a .*{sentence}, or None; got"):
        kind(**{name: most * 2})
