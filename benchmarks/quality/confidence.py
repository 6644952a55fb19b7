"""Statistics of few questions: intervals, and whether two methods differ."""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random

_Z95 = 1.959963984540054
_RESAMPLES = 2_000


def wilson_interval(right: int, asked: int) -> tuple[float, float]:
    """Return the 95 % interval of a share; 0 to 1 where nothing was asked."""
    if asked == 0:
        return 0.0, 1.0
    share, z2 = right / asked, _Z95**2
    middle = (share + z2 / (2 * asked)) / (1 + z2 / asked)
    half = _Z95 / (1 + z2 / asked) * math.sqrt(share * (1 - share) / asked + z2 / (4 * asked**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def bootstrap_interval(values: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """Return the 95 % interval of a mean, by resampling with a fixed seed."""
    if not values:
        return 0.0, 1.0
    rng = Random(seed)
    means = sorted(sum(rng.choices(values, k=len(values))) / len(values) for _ in range(_RESAMPLES))
    return means[int(0.025 * _RESAMPLES)], means[int(0.975 * _RESAMPLES) - 1]


def mcnemar_p(only_first: int, only_second: int) -> float:
    """Return the exact two-sided probability of so uneven a split of the pairs in which only one of two is right."""
    pairs = only_first + only_second
    if pairs == 0:
        return 1.0
    tail = sum(math.comb(pairs, k) for k in range(min(only_first, only_second) + 1))
    splits: int = 2**pairs
    return min(1.0, 2 * tail / splits)
