"""What tokens cost."""

from __future__ import annotations

import pytest

from rlm_ray.core.llm import Price, Usage


@pytest.mark.parametrize(
    ("price", "usage", "usd"),
    [
        (Price(1.0, 10.0), Usage(1_000_000, 0), 1.0), (Price(1.0, 10.0), Usage(0, 1_000_000), 10.0), (Price(2.0, 10.0), Usage(1_000, 100, 400), 0.003),
        (Price(2.0, 10.0, 0.5), Usage(1_000, 100, 400), 0.0024), (Price(2.0, 10.0, 0.0), Usage(1_000, 0, 1_000), 0.0), (Price(0, 0), Usage(5, 5), 0.0),
    ],
)  # fmt: skip
def test_cached_input_has_a_price_of_its_own(price, usage, usd):
    assert price.cost(usage) == pytest.approx(usd, rel=1e-12)
