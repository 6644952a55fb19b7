"""Records that come twice are heard once."""

from __future__ import annotations

from rlm_ray.cluster.run_attempt import RecordDeduplicator


def test_what_is_sent_again_is_known_and_recorders_do_not_mix():
    once = RecordDeduplicator()
    first = ["a:1", "a:2", "b:1", "a:3", "b:2"]
    assert [once(ident) for ident in first] == [True] * 5
    assert [once(ident) for ident in ["a:2", "a:3", "b:2", "a:4"]] == [False, False, False, True]


def test_a_record_without_a_number_is_always_new():
    once = RecordDeduplicator()
    assert [once(ident) for ident in ("", "", "x")] == [True] * 3
