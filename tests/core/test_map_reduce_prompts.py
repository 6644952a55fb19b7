"""Parts that an answer cites."""

from __future__ import annotations

import pytest

from rlm_ray.core.map_reduce import cited_parts


@pytest.mark.parametrize(
    ("answer", "parts"),
    [
        ("So [2].", [2]),
        ("So [1-3], and [5].", [1, 2, 3, 5]),
        ("So.", [1, 2, 3, 4, 5]),
        ("In [1984] he wrote [2].", [2]),
        ("[0] [9-2]", [1, 2, 3, 4, 5]),
    ],
)
def test_cited_parts_are_read_from_the_answer(answer, parts):
    assert cited_parts(answer, 5) == parts
