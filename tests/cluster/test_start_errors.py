"""What those who wait are told when no session actor starts."""

from __future__ import annotations

import pytest

from rlm_ray.cluster import pool


@pytest.mark.parametrize(
    ("error", "is_placed", "told"),
    [
        (
            TimeoutError(),
            True,
            "a session actor has its CPU and was not ready within 120 s: other programs keep the machine busy",
        ),
        (
            TimeoutError(),
            False,
            "the cluster has no free CPU for it (0 of the 2 CPUs of the cluster are free): free some",
        ),
        (
            RuntimeError("first line\nno module named x"),
            True,
            "a session actor could not be started: no module named x",
        ),
        (RuntimeError(), False, "a session actor could not be started: RuntimeError"),
    ],
)
def test_the_reason_of_a_start_that_failed_names_what_to_do(monkeypatch, error, is_placed, told):
    monkeypatch.setattr(pool, "cpu_holders", lambda: "0 of the 2 CPUs of the cluster are free")
    assert told in pool._why_not_started(error, is_placed=is_placed)
