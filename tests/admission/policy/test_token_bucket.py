"""One quota per minute, in virtual time."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_ray.admission.policy.token_bucket import TokenBucket


def bucket_of(limit):
    bucket = TokenBucket()
    bucket.declare(limit)
    return bucket


def send_all(bucket, amounts, now=0.0):
    """Send one after the other, each as soon as it may go; the moments."""
    moments = []
    for amount in amounts:
        while (wait := bucket.wait_s(amount, now)) > 0:
            now += wait
        bucket.take(amount, now)
        moments.append(now)
    return moments


def most_in_a_minute(moments, amounts, span=60.0):
    return max(
        sum(amount for moment, amount in zip(moments, amounts, strict=True) if start <= moment < start + span)
        for start in moments
    )


def test_without_a_limit_nothing_waits():
    assert TokenBucket().wait_s(10**9, 0.0) == 0


def test_a_second_of_the_rate_goes_at_once_and_the_rest_is_paced():
    moments = send_all(bucket_of(600), [1] * 20)
    assert moments[:10] == [0.0] * 10
    assert moments[10:] == pytest.approx([0.1 * turn for turn in range(1, 11)])


def test_no_minute_sees_more_than_the_limit_and_almost_all_of_it_is_used():
    moments = send_all(bucket_of(600), [1] * 3000)
    assert most_in_a_minute(moments, [1] * 3000) <= 600
    assert moments[-1] <= 3000 / 600 * 60 * 1.01


def test_a_large_amount_goes_when_the_bucket_is_full_and_leaves_a_debt():
    bucket = bucket_of(60_000)
    assert bucket.wait_s(20_000, 0.0) == 0
    bucket.take(20_000, 0.0)
    assert bucket.wait_s(1000, 0.0) == pytest.approx(20)


def test_more_than_the_whole_limit_goes_when_nothing_else_was_sent():
    moments = send_all(bucket_of(100), [1, 500, 1])
    assert moments[1] >= 60
    assert moments[2] >= moments[1] + 60


def test_a_refund_frees_room_and_a_debt_takes_it():
    bucket = bucket_of(60_000)
    slot = bucket.take(1000, 0.0)
    assert bucket.wait_s(1000, 0.0) == pytest.approx(1)
    bucket.reconcile(slot, -900, 0.0)
    assert bucket.wait_s(1000, 0.0) == pytest.approx(0.1)
    bucket.reconcile(slot, 1900, 0.0)
    assert bucket.wait_s(1000, 0.0) == pytest.approx(2)


def test_a_pause_is_not_followed_by_a_burst():
    bucket = bucket_of(600)
    bucket.pause(30.0)
    assert send_all(bucket, [1] * 5, now=30.0) == pytest.approx([30.1, 30.2, 30.3, 30.4, 30.5])


def test_what_got_through_before_a_long_wait_is_the_limit():
    bucket = TokenBucket()
    for turn in range(300):
        bucket.take(1, turn / 100)
    bucket.refused(57, 2.9, 3.0)
    assert bucket.limit == 300


def test_a_provider_that_refills_is_known_by_its_short_wait():
    bucket = TokenBucket()
    for turn in range(500):
        bucket.take(1, turn / 50)
    bucket.refused(1, 9.9, 10.0)
    assert bucket.limit == pytest.approx(3000, rel=0.02)


def test_a_found_limit_is_tried_again_only_when_it_is_used():
    bucket = TokenBucket()
    for turn in range(300):
        bucket.take(1, turn / 100)
    bucket.refused(57, 2.9, 3.0)
    bucket.probe_up(1000.0)
    assert bucket.limit == 300
    moments = send_all(bucket, [1] * 900, now=60.0)
    bucket.probe_up(moments[-1])
    assert bucket.limit == pytest.approx(306)


def test_the_declared_limit_is_never_exceeded_by_what_is_heard():
    bucket = bucket_of(100)
    bucket.on_header_limit(1000)
    assert bucket.limit == 100
    bucket.on_header_limit(50)
    assert bucket.limit == 50
    bucket.declare(None)
    assert bucket.limit == 50


@given(
    st.lists(st.tuples(st.floats(0, 5), st.integers(1, 400)), min_size=1, max_size=60),
    st.integers(20, 300),
)
def test_any_traffic_stays_within_the_limit(traffic, limit):
    bucket, now, moments = bucket_of(limit), 0.0, []
    for pause, amount in traffic:
        now += pause
        while (wait := bucket.wait_s(amount, now)) > 0:
            now += wait
        bucket.take(amount, now)
        moments.append(now)
    amounts = [amount for _, amount in traffic]
    assert most_in_a_minute(moments, amounts) <= max(limit, *amounts) * (1 + 1e-6)
    assert math.isfinite(now)
