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
