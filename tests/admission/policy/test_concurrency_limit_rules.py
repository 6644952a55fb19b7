"""Each rule of the limit on requests in flight, by its figures."""

import itertools
import math

import pytest

from rlm_ray.admission.policy.concurrency_limit import ConcurrencyLimit


def serve(limit, count, now, granted_at=math.inf):
    """Serve so many requests, all of them in flight at once."""
    for _ in range(count):
        limit.acquire()
    for _ in range(count):
        limit.release()
        limit.on_success(now, granted_at)


def refuse(limit, in_flight, granted_at, now):
    """Refuse one request while so many others are in flight."""
    limit.in_flight = in_flight
    return limit.on_rejected(granted_at, now)


def cut_at(level, size=100):
    """Return a limit of `size` that was cut at time 0, with `level` in flight."""
    limit = ConcurrencyLimit(start=size)
    assert refuse(limit, level - 1, -1.0, 0.0)
    limit.in_flight = 0
    return limit


@pytest.mark.parametrize(("used", "size"), [(20, 40), (16, 40), (15, 20)])
def test_round_that_used_four_fifths_of_the_limit_doubles_it(used, size):
    limit = ConcurrencyLimit()
    serve(limit, used, 0.0)
    assert limit.limit == 20 or used == 20
    serve(limit, 20 - used, 0.0)
    assert limit.limit == size


def test_only_the_highest_of_the_round_counts():
    limit = ConcurrencyLimit()
    serve(limit, 16, 0.0)
    for _ in range(4):
        serve(limit, 1, 0.0)
    assert limit.limit == 40
    for _ in range(80):
        serve(limit, 1, 0.0)
    assert limit.limit == 40


def test_it_is_open_below_its_limit():
    limit = ConcurrencyLimit(max_limit=2, start=2)
    assert limit.open
    limit.acquire()
    assert limit.open
    limit.acquire()
    assert not limit.open
    limit.release()
    assert limit.open


def test_it_lets_one_request_through_whatever_is_said():
    assert ConcurrencyLimit(max_limit=0).limit == 1
    limit = ConcurrencyLimit(start=1)
    for turn in range(5):
        refuse(limit, 0, 20.0 * turn, 20.0 * turn + 1)
    assert limit.limit == 1


def test_without_a_word_of_the_user_ten_thousand_are_the_most():
    limit = ConcurrencyLimit(start=9000)
    serve(limit, 9000, 0.0)
    assert limit.limit == 10_000


@pytest.mark.parametrize(("level", "size"), [(100, 80), (50, 40), (10, 8), (101, 80), (2, 1), (1, 1)])
def test_refusal_cuts_to_four_fifths_of_what_was_in_flight(level, size):
    assert cut_at(level).limit == size


def test_refusals_of_what_was_in_flight_at_the_cut_make_its_level_exact():
    limit = cut_at(100)
    assert refuse(limit, 89, -1.0, 0.1)
    assert limit.limit == 72
    assert refuse(limit, 94, -1.0, 0.1)
    assert limit.limit == 72


@pytest.mark.parametrize(("now", "size"), [(14.9, 78), (15.0, 64)])
def test_refusal_of_what_was_sent_after_a_cut_is_a_step_of_two_percent_for_fifteen_seconds(now, size):
    limit = cut_at(100)
    assert refuse(limit, 79, 1.0, now)
    assert limit.limit == size
    if now < 15:  # one below the level where that is less than two percent
        assert refuse(limit, 77, now + 0.05, now + 0.06)
        assert limit.limit == 76


@pytest.mark.parametrize(("in_flight", "is_explained"), [(58, False), (59, True)])
def test_refusal_far_below_the_level_of_the_cut_is_not_explained(in_flight, is_explained):
    assert refuse(cut_at(100), in_flight, 1.0, 2.0) is is_explained


def test_sixth_refusal_in_a_row_undoes_the_cut():
    limit = cut_at(100)
    for turn in range(4):
        assert refuse(limit, 79, 1.0 + turn, 1.5 + turn)
    assert not refuse(limit, 79, 6.0, 6.5)
    assert limit.limit == 100
    serve(limit, 100, 30.0)
    assert limit.limit == 105


def test_request_served_after_the_cut_ends_the_row_and_one_from_before_does_not():
    for granted_at, is_undone in ((0.5, False), (-0.5, True), (0.0, True)):
        limit = cut_at(100)
        for turn in range(4):
            assert refuse(limit, 79, 1.0 + turn, 1.5 + turn)
        limit.on_success(5.6, granted_at)
        assert refuse(limit, 79, 6.0, 6.5) is not is_undone


def test_after_a_cut_it_grows_by_five_percent_to_one_below_the_refused_level():
    limit = cut_at(100)
    sizes = []
    for turn in range(6):
        serve(limit, limit.limit, 1.0 + turn)
        sizes.append(limit.limit)
    assert sizes == [84, 88, 92, 97, 99, 99]


def test_small_limit_grows_by_one():
    limit = cut_at(10)
    serve(limit, 8, 1.0)
    assert limit.size == 9


def test_it_looks_above_the_refused_level_after_fifty_answers_and_fifteen_seconds():
    limit = cut_at(10)
    limit.size = 9.0
    for _ in range(30):
        serve(limit, 9, 14.9)
        assert limit.limit == 9
    serve(limit, 9, 15.0)
    assert limit.limit == 10
    limit = cut_at(10)
    limit.size = 9.0
    assert looks_after(limit, 300.0) == 54  # the first end of a round after fifty


def looks_after(limit, now):
    """Return how many answers it takes until the limit looks above the refused level."""
    size, count = limit.limit, 0
    while limit.limit <= size:
        serve(limit, size, now)
        count += size
    return count


def test_each_failed_look_doubles_the_answers_until_the_next_one_up_to_1600():
    limit, now, counts = cut_at(11), 0.0, []
    for _ in range(8):
        now += 100.0
        while limit.limit < 10:
            serve(limit, limit.limit, now)
        counts.append(looks_after(limit, now))
        now += 1
        assert refuse(limit, 10, now, now + 0.1)
        limit.in_flight = 0
    wanted = [100, 200, 400, 800, 1600, 1600, 1600]
    assert all(want <= count <= want + 20 for want, count in zip(wanted, counts[1:], strict=True)), counts


def test_failed_look_costs_that_look_and_no_cut():
    limit = cut_at(11)
    while limit.limit < 11:
        serve(limit, limit.limit, 100.0)
    assert refuse(limit, 10, 101.0, 101.1)
    assert limit.limit == 10


def test_look_that_holds_opens_the_way_up_faster_with_each_round():
    limit = cut_at(100)
    while limit.limit < 100:
        serve(limit, limit.limit, 100.0)
    sizes = [limit.size]
    for _ in range(4):
        serve(limit, limit.limit, 101.0)
        sizes.append(limit.size)
    growth = [after / before for before, after in itertools.pairwise(sizes)]
    assert growth == pytest.approx([1.05, 1.10, 1.20, 1.20], abs=0.01)


def test_server_error_begins_the_round_anew():
    limit = ConcurrencyLimit()
    serve(limit, 19, 0.0)
    limit.failed()
    serve(limit, 1, 5.0)
    assert limit.limit == 20


def test_first_look_above_the_refused_level_comes_after_fifty_answers():
    limit = cut_at(3)  # then two at a time
    assert (limit.size, looks_after(limit, 100.0)) == (pytest.approx(2.4), 50)


def test_refusals_of_what_was_sent_before_the_last_step_change_nothing():
    limit = cut_at(100)
    assert refuse(limit, 79, 1.0, 2.0)
    size = limit.size
    for granted_at in (1.5, 2.0):
        assert refuse(limit, 60, granted_at, 2.5) is True
        assert limit.size == size
    assert refuse(limit, 77, 2.1, 2.5)
    assert limit.size < size


def test_refusal_begins_the_round_anew():
    limit = ConcurrencyLimit(start=20)
    serve(limit, 19, 0.0)
    assert refuse(limit, 19, 1.0, 1.0)
    limit.in_flight = 0
    size = limit.size
    serve(limit, 1, 2.0)
    assert limit.size == size == 16
    limit = cut_at(100)
    serve(limit, 79, 2.0)
    for turn in range(6):
        refuse(limit, 79, 3.0 + turn, 3.5 + turn)
    assert limit.limit == 100
    limit.in_flight = 0
    serve(limit, 99, 20.0)
    assert limit.limit == 100
    serve(limit, 1, 20.0)
    assert limit.limit == 105


def test_answers_before_a_refusal_do_not_count_for_the_next_look():
    limit = cut_at(3)
    for _ in range(49):
        serve(limit, 1, 10.0)
    assert limit.limit == 2
    assert refuse(limit, 1, 20.0, 20.1)
    limit.in_flight = 0
    assert looks_after(limit, 100.0) >= 50


@pytest.mark.parametrize(
    ("size", "in_flight", "then"), [(100.0, 79, 78.4), (10.0, 9, 7.0), (3.0, 2, 1.4), (2.0, 1, 1.0)]
)
def test_step_down_is_two_percent_or_one_and_at_least_one_request_stays(size, in_flight, then):
    limit = ConcurrencyLimit(start=size)
    assert refuse(limit, int(size) - 1, 0.0, 0.0)
    cut = limit.size
    assert cut == max(0.8 * size, 1.0)
    assert refuse(limit, in_flight, 1.0, 2.0)
    assert limit.size == pytest.approx(then)


def test_doubling_adds_one_where_that_is_more():
    limit = ConcurrencyLimit(start=1)
    sizes = []
    for _ in range(4):
        serve(limit, limit.limit, 0.0)
        sizes.append(limit.limit)
    assert sizes == [2, 4, 8, 16]
    limit = cut_at(4)
    for now in (100.0, 101.0, 102.0):
        while limit.limit < 4:
            serve(limit, limit.limit, now)
    serve(limit, 4, 103.0)
    assert limit.size == pytest.approx(5.06, abs=0.1)


def test_unexplained_refusal_says_so():
    assert refuse(cut_at(100), 5, 1.0, 2.0) is False


def test_after_a_cut_a_small_limit_grows_by_one_and_a_look_above_a_large_level_by_two_percent():
    limit = cut_at(15)
    serve(limit, 12, 1.0)
    assert limit.size == pytest.approx(13.0)
    limit = cut_at(200, size=200)
    while limit.limit < 199:
        serve(limit, limit.limit, 100.0)
    assert limit.size == 199.0
    serve(limit, 199, 101.0)
    assert limit.size == pytest.approx(1.02 * 199)
