"""What a quota learns from refusals, how it tries more again, and what estimates are worth; in virtual time."""

import math

import pytest

from rlm_ray.admission.policy.token_bucket import EstimateCalibrator, TokenBucket


def sent(count, seconds, *, limit=None):
    """Return a bucket that sent one request at a time, evenly over the seconds."""
    bucket = TokenBucket()
    bucket.declare(limit)
    for turn in range(count):
        bucket.take(1, turn * seconds / count)
    return bucket


def drive(bucket, now, until, amount=1.0):
    """Send as fast as the bucket allows and let it try more after each; the moment it ended."""
    while now < until:
        wait = bucket.wait_s(amount, now)
        if wait > 0:
            now += wait
            continue
        bucket.take(amount, now)
        bucket.probe_up(now)
    return now


def test_what_was_sent_counts_for_a_minute_and_a_little():
    bucket = TokenBucket()
    slot = bucket.take(10, 5.0)
    assert slot == 50
    assert bucket.take(5, 5.05) == 50
    assert bucket.take(5, 5.15) == 51
    assert [bucket.used_last_minute(now) for now in (5.15, 65.5, 65.55, 65.65, 65.75)] == [20, 20, 20, 5, 0]
    assert bucket.used_last_minute(1000.0) == 0


def test_utilization_is_the_share_of_the_limit():
    bucket = sent(30, 1, limit=120)
    assert bucket.utilization(1.0) == pytest.approx(0.25)
    assert TokenBucket().utilization(0.0) == 0


def test_full_minute_waits_for_the_oldest_to_leave_it():
    bucket = TokenBucket()
    bucket.declare(60)
    bucket.take(60, 0.05)
    bucket.reconcile(0, 0, 0.05)
    assert bucket.wait_s(1, 59.0) == pytest.approx(60.6 - 59.0)
    assert bucket.wait_s(1, 60.59) == pytest.approx(0.01)
    assert bucket.wait_s(1, 60.7) == 0
    assert bucket.wait_s(0, 59.0) == 0


def test_refund_counts_in_the_minute_and_comes_too_late_after_it():
    bucket = TokenBucket()
    bucket.declare(6000)
    slot = bucket.take(100, 0.0)
    bucket.reconcile(slot, -40, 1.0)
    assert bucket.used_last_minute(1.0) == 60
    bucket.reconcile(slot, 15, 1.0)
    assert bucket.used_last_minute(1.0) == 75
    assert bucket.used_last_minute(70.0) == 0
    bucket.reconcile(slot, 50, 70.0)
    assert bucket.used_last_minute(70.0) == 0


def test_large_amount_lets_the_bucket_fill_up_to_it_only_while_it_waits():
    bucket = TokenBucket()
    bucket.declare(600)
    bucket.take(10, 0.0)
    assert bucket.wait_s(100, 0.0) == pytest.approx(1.0)
    assert bucket.wait_s(100, 5.0) == 0
    bucket.take(100, 5.0)
    assert bucket.wait_s(1, 5.0) == pytest.approx(5.1)


def test_idle_bucket_holds_one_second_of_the_rate():
    bucket = TokenBucket()
    bucket.declare(600)
    bucket.take(1, 0.0)
    bucket.wait_s(1, 30.0)
    for _ in range(10):
        assert bucket.wait_s(1, 30.0) == 0
        bucket.take(1, 30.0)
    assert bucket.wait_s(1, 30.0) == pytest.approx(0.1)


def test_pause_in_the_past_and_pause_without_a_limit_change_nothing():
    bucket = TokenBucket()
    bucket.pause(100.0)
    assert bucket.wait_s(1, 0.0) == 0
    bucket.declare(600)
    bucket.take(10, 50.0)
    bucket.pause(40.0)
    assert bucket.wait_s(1, 50.0) == pytest.approx(0.1)


@pytest.mark.parametrize(("count", "found"), [(100, 420), (419, 420), (500, 500), (587, 587), (600, 588)])
def test_refusal_at_a_known_limit_finds_what_got_through_within_bounds(count, found):
    bucket = sent(count, 10, limit=600)
    bucket.refused(57, 10.0, 31.0)
    bucket.refused(57, 9.0, 31.5)
    assert bucket.limit == pytest.approx(found, abs=0.5)


def test_refusals_that_were_under_way_make_the_count_smaller_and_never_larger():
    bucket = sent(300, 3)
    slot = bucket.take(1, 3.0)
    bucket.refused(57, 3.0, 3.1)
    assert bucket.limit == 301
    bucket.reconcile(slot, -1, 3.2)
    bucket.refused(57, 2.9, 3.2)
    assert bucket.limit == 300
    bucket.take(5, 3.3)
    bucket.refused(57, 2.95, 3.3)
    assert bucket.limit == 300


@pytest.mark.parametrize(
    ("seconds", "wait_s", "counts_minutes"),
    [(10, 25, True), (10, 24.9, False), (40, 10, True), (40, 9.9, False), (59, 0.4, False), (60, 0.0, True), (3, 1, False)],
)  # fmt: skip
def test_provider_that_counts_minutes_is_known_by_its_wait(seconds, wait_s, counts_minutes):
    bucket = sent(300, seconds)
    bucket.take(0, float(seconds))
    bucket.refused(wait_s, float(seconds), float(seconds))
    of_late = 300 * 60 / max(min(seconds, 10), 1) * min(10 / seconds, 1)
    assert bucket.limit == pytest.approx(300 if counts_minutes else max(300, of_late), rel=0.04)


def test_pause_that_did_not_help_means_that_minutes_are_counted():
    bucket = sent(500, 10)
    bucket.refused(1, 9.9, 10.0)
    assert bucket.limit == pytest.approx(3000, rel=0.03)
    bucket.refused(1, 11.0, 11.5, pause_failed=True)
    assert bucket.limit == 500
    bucket.refused(1, 13.0, 13.5, pause_failed=True)
    assert bucket.limit == 490


def test_found_limit_is_at_least_one():
    bucket = TokenBucket()
    bucket.refused(57, 0.0, 0.0)
    assert bucket.limit == 1


def test_new_word_of_the_user_drops_what_was_found_and_the_same_word_does_not():
    bucket = sent(300, 3, limit=1000)
    bucket.refused(57, 3.0, 3.0)
    found = bucket.limit
    assert found < 1000
    bucket.declare(1000)
    assert bucket.limit == found
    bucket.declare(900)
    assert bucket.limit == 900


def test_limit_of_minutes_is_tried_two_percent_higher_after_one_minute_in_use_and_once_above_it_faster():
    bucket = sent(300, 3)
    bucket.refused(57, 3.0, 3.0)
    now = drive(bucket, 60.0, 119.9)
    assert bucket.limit == 300
    now = drive(bucket, now, 130.0)
    assert bucket.limit == pytest.approx(306)
    now = drive(bucket, now, 179.0)
    assert bucket.limit == pytest.approx(306)
    drive(bucket, now, 195.0)
    assert bucket.limit == pytest.approx(306 * 1.02 * 1.2 * 1.2)


def test_each_refusal_doubles_the_time_until_more_is_tried_up_to_eight_minutes():
    bucket, now = sent(300, 3), 3.0
    for patience_s in (60, 120, 240, 480, 480):
        bucket.refused(57, now, now)
        limit = bucket.limit
        resumed_at = now + 57
        now = drive(bucket, resumed_at, resumed_at + patience_s - 0.5)
        assert bucket.limit == limit
        now = drive(bucket, now, resumed_at + patience_s + 2)
        assert bucket.limit > limit


def test_limit_that_is_hardly_used_is_not_tried_higher():
    bucket = sent(300, 3)
    bucket.refused(57, 3.0, 3.0)
    now = 60.0
    for _ in range(700):
        now += 0.4  # half of the limit
        bucket.take(1, now)
        bucket.probe_up(now)
    assert bucket.limit == 300


def test_rate_that_refills_is_tried_again_below_the_refused_limit_every_five_seconds():
    bucket = sent(500, 10)
    bucket.refused(1, 9.9, 10.0)
    first = bucket.limit
    now = drive(bucket, 11.0, 15.9)
    assert bucket.limit == first
    drive(bucket, now, 16.5)
    assert bucket.limit == pytest.approx(first * 1.2)


def test_nothing_is_tried_where_the_found_limit_is_not_the_smallest():
    bucket = sent(300, 3, limit=250)
    before = bucket.limit
    drive(bucket, 61.0, 300.0)
    assert bucket.limit == before == 250


def learned(*ratios, estimated=100.0):
    calibrator = EstimateCalibrator()
    for ratio in ratios:
        calibrator.learn(estimated, ratio * estimated)
    return calibrator


def test_estimates_are_taken_as_they_are_until_ten_answers_are_known():
    assert learned(*[0.5] * 9).multiplier(1) == 1.0
    assert learned(*[0.5] * 10).multiplier(1) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("ratio", "multiplier"), [(0.0, 0.0), (0.01, 0.01), (0.3, 0.3), (2.0, 2.0), (4.0, 4.0), (9.0, 4.0)]
)
def test_multiplier_is_the_true_share_within_bounds(ratio, multiplier):
    assert learned(*[ratio] * 20).multiplier(5) == pytest.approx(multiplier)


def test_answers_that_vary_keep_room_that_shrinks_with_the_number_in_flight():
    calibrator = learned(*[0.2, 0.8] * 200)
    alone, four, many = (calibrator.multiplier(under_way) for under_way in (1, 4, 10_000))
    assert calibrator.multiplier(0) == alone
    assert many == pytest.approx(0.5, abs=0.02)
    assert alone - 0.5 == pytest.approx(2 * 0.3, abs=0.03)
    assert four - many == pytest.approx((alone - many) / 2, abs=0.01)


def test_estimate_of_nothing_teaches_nothing():
    calibrator = learned(*[0.5] * 10)
    calibrator.learn(0, 100)
    calibrator.learn(-1, 100)
    assert calibrator.multiplier(1) == pytest.approx(0.5)


def test_old_answers_are_forgotten_by_two_percent_for_each_new_one():
    calibrator = learned(*[0.5] * 300, *[1.0] * 35)
    half_of_it = 0.98**35
    assert calibrator.multiplier(10**9) == pytest.approx(1.0 - 0.5 * half_of_it, abs=0.01)
    assert math.isfinite(calibrator.multiplier(1))


def test_after_more_was_held_the_next_refusal_is_tried_again_after_one_minute():
    bucket = sent(300, 3)
    for refused_at in (3.0, 3.5, 4.0):
        bucket.refused(57, refused_at, refused_at)
    now = 61.0
    while bucket.limit <= 1.03 * 300:
        now = drive(bucket, now, now + 5)
    bucket.refused(57, now, now)
    limit, resumed_at = bucket.limit, now + 57
    now = drive(bucket, resumed_at, resumed_at + 59.5)
    assert bucket.limit == limit
    drive(bucket, now, resumed_at + 75)
    assert bucket.limit > limit
