"""When a refusal is about one call."""

from __future__ import annotations

from rlm_ray.core.retry_after import Refusals


def test_the_first_call_s_refusal_is_about_all():
    assert Refusals().refused()


def test_a_refusal_among_answers_is_about_one_call_until_it_repeats():
    refusals = Refusals()
    refusals.answered()
    assert [refusals.refused() for _ in range(8)] == [False] * 7 + [True]
    refusals.answered()
    assert not refusals.refused()
