"""Permits that are held, settled and lost, and requests without a run."""

from __future__ import annotations

import math

from rlm_ray.admission import permit_table
from rlm_ray.admission.permit_table import OrphanRequests, PermitRecord, Permits
from rlm_ray.admission.policy.account import RateReservation
from rlm_ray.admission.protocol import PermitRequest
from rlm_ray.core.limits import Amount

TAKEN = RateReservation((1.0, 0.0, 0.0, 0.0), (0.0, 0.0), (0, 0, 0, 0), 0.0)


def ask(name, *, account="a", client="c", run="r"):
    return PermitRequest(run, account, "m", 1, 1, request_id=name, client_id=client)


def record(name, expires_at=10.0, **of):
    return PermitRecord(ask(name, **of), TAKEN, Amount(), expires_at)


def test_permit_is_held_until_it_is_settled():
    permits = Permits()
    permits.add(record("p", account="x"))
    permits.add(record("q", account="y", client="d"))
    assert "p" in permits
    assert (permits["p"].expires_at, permits["p"].queue_wait_s, permits["p"].rate_wait_s) == (10.0, 0.0, 0.0)
    assert permits.accounts() == {"x", "y"}
    assert (permits.of_client("c"), permits.of_client("d"), permits.of_client("e")) == (["p"], ["q"], [])
    assert not permits.is_settled("p")
    assert permits.pop("p") == record("p", account="x")
    assert "p" not in permits
    assert permits.is_settled("p")
    assert permits.pop("p") is None
    assert not permits.is_settled("never held")


def test_permit_that_expired_is_remembered_for_its_late_settlement():
    permits = Permits()
    permits.add(record("p"))
    assert permits.expire("p") == record("p")
    assert permits.is_settled("p")
    assert permits.pop("p") is None
    assert permits.pop_expired("p") == record("p")
    assert permits.pop_expired("p") is None
    assert not permits.is_settled("p")


def test_permits_expire_in_the_order_of_their_time():
    permits = Permits()
    for name, at in (("c", 30.0), ("a", 10.0), ("b", 20.0)):
        permits.add(record(name, at))
    assert permits.next_expiry() == 10.0
    assert list(permits.expired(9.9)) == []
    assert list(permits.expired(10.0)) == ["a"]
    permits.expire("a")
    permits.pop("b")
    assert permits.next_expiry() == 30.0
    assert list(permits.expired(50.0)) == ["c"]
    permits.expire("c")
    assert permits.next_expiry() == math.inf


def test_permit_that_was_renewed_does_not_expire_at_its_first_time():
    permits = Permits()
    permits.add(record("p", 10.0))
    permits.add(record("p", 20.0))
    assert list(permits.expired(15.0)) == []
    assert list(permits.expired(20.0)) == ["p"]


def test_only_so_many_are_remembered(monkeypatch):
    monkeypatch.setattr(permit_table, "MAX_REMEMBERED", 2)
    permits = Permits()
    for name in "abc":
        permits.add(record(name))
        permits.pop(name)
    assert [permits.is_settled(name) for name in "abc"] == [False, True, True]


def test_request_without_a_run_waits_ten_seconds_for_it():
    orphans = OrphanRequests()
    assert orphans.next_expiry() == math.inf
    orphans.add(ask("p"), 0.0)
    orphans.add(ask("q"), 5.0)
    orphans.add(ask("s", run="other"), 3.0)
    assert (len(orphans), orphans.next_expiry()) == (3, 10.0)
    assert orphans.expired(9.9) == []
    assert orphans.expired(10.0) == [ask("p")]
    orphans.withdraw("s")
    orphans.withdraw("unknown")
    assert (len(orphans), orphans.next_expiry()) == (1, 15.0)
    assert orphans.pop_run("r") == [ask("q")]
    assert orphans.pop_run("r") == []
    assert (len(orphans), orphans.next_expiry()) == (0, math.inf)
