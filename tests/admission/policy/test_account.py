"""When the next request to an account may go, and what each answer teaches; in virtual time."""

import math

import pytest

from rlm_ray.admission.policy.account import Account, account_key
from rlm_ray.core.limits import Rates
from rlm_ray.core.retry_after import RateLimitHeaders


def in_use(count=50, **rates):
    """Return an account that served so many requests in its first second."""
    account = Account(Rates(**rates))
    for turn in range(count):
        taken = account.take(100, 50, turn / count)
        account.on_success(taken, (100, 50), turn / count)
    return account


def refuse(account, now, *, wait_s=None, resource=None, jitter=0.0, granted_at=None):
    """Refuse one request that went a moment before."""
    taken = account.take(100, 50, now - 0.01 if granted_at is None else granted_at)
    facts = None if wait_s is None and resource is None else RateLimitHeaders({}, resource, wait_s)
    account.on_rate_limited(taken, facts, jitter, now)


def test_key_of_an_account_tells_accounts_apart():
    keys = {account_key(*each) for each in [
        ("openai", None, None), ("openai", None, "a"), ("openai", "a", None), ("openai", "b", "a"), ("azure", None, None), ("openai", "", "x", "g"),
    ]} | {account_key("openai", "", ""), account_key("openai", "", "x")}  # fmt: skip
    assert len(keys) == 7
    assert account_key("openai", None, "sk-secret", "big").startswith("openai/")
    assert account_key("openai", None, "sk-secret", "big").endswith("/big")
    assert len(account_key("openai", None, "sk-secret").split("/")[1]) == 12


@pytest.mark.parametrize(
    ("rates", "limit"),
    [
        ({}, 20),
        ({"rpm": 60}, 20),
        ({"rpm": 6000}, 100),
        ({"rpm": 6_000_000}, 10_000),
        ({"in_flight": 3}, 3),
        ({"in_flight": 500}, 500),
        ({"in_flight": 10_000}, 10_000),
    ],
)
def test_requests_in_flight_begin_with_a_second_of_the_rate_or_the_word_of_the_user(rates, limit):
    account = Account(Rates(**rates))
    assert account.concurrency.limit == limit


def test_limit_in_flight_that_is_taken_back_is_found_anew_from_there():
    account = Account(Rates(in_flight=3))
    account.declare(Rates())
    assert (account.concurrency.limit, account.concurrency.max_limit) == (3, 10_000)
    account.concurrency.size = 2.0
    account.declare(Rates())
    assert account.concurrency.limit == 2


@pytest.mark.parametrize(
    ("rates", "meter"), [({"rpm": 60}, 0), ({"tpm": 60}, 1), ({"input_tpm": 60}, 2), ({"output_tpm": 60}, 3)]
)
def test_each_declared_rate_is_a_limit_of_its_own(rates, meter):
    account = Account(Rates(**rates))
    assert [each.limit for each in account.buckets] == [60 if at == meter else math.inf for at in range(4)]


def test_request_waits_for_the_slowest_of_its_quotas():
    account = Account(Rates(rpm=6000, tpm=6000, output_tpm=600))
    assert account.wait_s(100, 50, 0.0) == 0
    account.take(100, 50, 0.0)
    assert account.wait_s(100, 50, 0.0) == pytest.approx(
        5.0
    )  # 40 tokens of debt and 10 that the bucket must hold
    assert account.wait_s(100, 0, 0.0) == pytest.approx(1.5)
    assert account.wait_s(0, 0, 0.0) == 0


def test_full_account_waits_for_an_answer_and_not_for_the_rate():
    account = Account(Rates(in_flight=1, rpm=60))
    taken = account.take(1, 1, 0.0)
    assert account.wait_s(1, 1, 0.0) == math.inf
    account.on_not_sent(taken, 0.5)
    assert account.wait_s(1, 1, 0.5) == 0


def test_reservation_says_what_was_taken():
    taken = Account(Rates()).take(100, 50, 2.55)
    assert taken.amounts == (1.0, 150.0, 100.0, 50.0)
    assert (taken.estimates, taken.slots, taken.at) == ((100.0, 50.0), (25, 25, 25, 25), 2.55)


@pytest.mark.parametrize(
    ("end", "used"),
    [
        (lambda account, taken: account.on_success(taken, (70, 10), 1.0), [1, 80, 70, 10]),
        (lambda account, taken: account.on_success(taken, None, 1.0), [1, 150, 100, 50]),
        (lambda account, taken: account.on_error(), [1, 150, 100, 50]),
        (lambda account, taken: account.on_not_sent(taken, 1.0), [0, 0, 0, 0]),
        (lambda account, taken: account.on_rate_limited(taken, None, 0.0, 1.0), [0, 0, 0, 0]),
    ],
    ids=["known", "unknown", "error", "not sent", "refused"],
)
def test_end_of_a_request_settles_what_it_took(end, used):
    account = Account(Rates())
    taken = account.take(100, 50, 0.0)
    end(account, taken)
    assert [meter.used_last_minute(1.0) for meter in account.buckets] == used
    assert account.concurrency.in_flight == 0


def test_estimates_are_corrected_by_what_answers_used():
    account = Account(Rates())
    for turn in range(10):
        account.on_success(account.take(100, 50, turn), (50, 5), turn)
    assert account.take(100, 50, 20.0).amounts == pytest.approx((1.0, 55.0, 50.0, 5.0))


@pytest.mark.parametrize(("jitter", "until"), [(0.0, 30.0), (1.0, 31.0), (0.5, 30.5)])
def test_wait_that_was_asked_for_holds_everyone_a_little_longer(jitter, until):
    account = in_use()
    refuse(account, 10.0, wait_s=20.0, jitter=jitter)
    assert account.not_before == pytest.approx(until)
    assert account.wait_s(1, 1, 10.0) == pytest.approx(until - 10.0)
    assert account.wait_s(1, 1, until + 30) == 0


def test_jitter_is_a_tenth_of_a_short_wait():
    account = in_use()
    refuse(account, 10.0, wait_s=2.0, jitter=1.0)
    assert account.not_before == pytest.approx(12.2)


def test_shorter_wait_does_not_end_a_longer_one():
    account = in_use()
    refuse(account, 10.0, wait_s=20.0)
    refuse(account, 11.0, wait_s=1.0)
    assert account.not_before == pytest.approx(30.0)


@pytest.mark.parametrize("resource", ["requests", "tokens", "input_tokens", "output_tokens"])
def test_named_resource_learns_its_rate(resource):
    account = in_use()
    refuse(account, 2.0, wait_s=57.0, resource=resource)
    learned = [meter.limit < math.inf for meter in account.buckets]
    assert learned == [name == resource for name in ("requests", "tokens", "input_tokens", "output_tokens")]


def test_without_a_name_the_quota_that_is_nearly_used_learns_and_else_requests():
    account = in_use(tpm=8000)
    refuse(account, 2.0, wait_s=57.0)
    assert account.buckets[1].limit < 8000
    assert account.buckets[0].limit == math.inf
    account = in_use(tpm=9000)
    refuse(account, 2.0, wait_s=57.0)
    assert account.buckets[1].limit == 9000
    assert account.buckets[0].limit == 50


@pytest.mark.parametrize(("served", "learns"), [(9, False), (10, True)])
def test_rate_is_learned_after_ten_requests_only(served, learns):
    account = in_use(served)
    refuse(account, 2.0, wait_s=57.0)
    assert (account.buckets[0].limit < math.inf) is learns
    assert account.not_before == pytest.approx(59.0)


def test_headers_set_the_limits_of_their_resources():
    account = Account(Rates())
    account.on_headers(RateLimitHeaders({"requests": 5.0, "output_tokens": 7.0}))
    assert [meter.limit for meter in account.buckets] == [5, math.inf, math.inf, 7]


def test_refusal_without_a_reason_is_about_the_number_in_flight():
    account = in_use()
    for _ in range(18):
        account.take(1, 1, 5.0)
    refuse(account, 5.1, granted_at=5.0)
    assert account.concurrency.limit < 20
    assert account.not_before == -math.inf


def test_unexplained_refusals_pause_longer_each_time_up_to_half_a_minute():
    account, now, pauses = in_use(60), 10.0, []
    account.concurrency.on_rejected(9.0, 10.0)  # a cut, at a number in flight that is not reached again
    account.concurrency._cut_level = 1000.0
    for _ in range(8):
        account.concurrency._cut_at = now
        refuse(account, now + 0.1)
        pauses.append(account.not_before - now - 0.1)
        now = account.not_before
    assert pauses == pytest.approx([1, 2, 4, 8, 16, 30, 30, 30])


def test_refusals_that_were_in_flight_together_make_one_pause_and_success_ends_the_row():
    account = in_use(60)
    account.concurrency._cut_level, account.concurrency._cut_at = 1000.0, 10.0
    refuse(account, 10.5)
    assert account.not_before == pytest.approx(11.5)
    refuse(account, 10.9, granted_at=10.4)
    assert account.not_before == pytest.approx(11.5)
    account.on_success(account.take(1, 1, 10.4), None, 11.0)
    refuse(account, 12.0)
    assert account.not_before == pytest.approx(14.0)
    account.on_success(account.take(1, 1, 14.0), None, 14.5)
    refuse(account, 15.0)
    assert account.not_before == pytest.approx(16.0)


def test_time_that_requests_waited_for_the_rate_is_added_up():
    account = Account(Rates(rpm=60))
    account.take(1, 1, 0.0)
    assert account.throttled_s(0.0) == 0
    assert account.wait_s(1, 1, 0.2) > 0
    assert account.wait_s(1, 1, 0.7) > 0
    assert account.throttled_s(0.9) == pytest.approx(0.7)
    assert account.wait_s(1, 1, 1.2) == 0
    assert account.throttled_s(5.0) == pytest.approx(1.0)
    account.take(1, 1, 1.2)
    assert account.wait_s(1, 1, 1.3) > 0
    account.concurrency.in_flight = 20
    assert account.wait_s(1, 1, 1.5) == math.inf
    assert account.throttled_s(9.0) == pytest.approx(1.2)


def test_wait_that_was_asked_for_ends_in_the_pace_of_the_account():
    account = in_use(9, rpm=60)
    refuse(account, 10.0, wait_s=20.0)
    assert account.wait_s(1, 1, 29.5) == pytest.approx(0.5)
    assert account.wait_s(1, 1, 30.0) == pytest.approx(1.0)
    free = in_use(9)
    refuse(free, 10.0, wait_s=20.0)
    assert [free.wait_s(1, 1, now) for now in (29.5, 30.0)] == [0.5, 0.0]


def test_first_pause_of_an_account_that_served_nothing_is_one_second():
    account = Account(Rates())
    account.concurrency._cut_level, account.concurrency._cut_at = 1000.0, 10.0
    refuse(account, 10.5)
    assert account.not_before == pytest.approx(11.5)


@pytest.mark.parametrize(("granted_at", "pause_s"), [(10.4, 2.0), (10.5, 2.0), (10.6, 1.0)])
def test_success_of_what_was_sent_after_the_pause_began_ends_the_row(granted_at, pause_s):
    account = in_use(60)
    account.concurrency._cut_level, account.concurrency._cut_at = 1000.0, 10.0
    refuse(account, 10.5)
    account.on_success(account.take(1, 1, granted_at), None, 11.0)
    refuse(account, 12.0)
    assert account.not_before == pytest.approx(12.0 + pause_s)


@pytest.mark.parametrize(("now", "until"), [(11.2, 11.53), (11.5, 11.5), (12.0, 12.0)])
def test_refusal_of_what_was_sent_before_a_pause_waits_for_its_end(now, until):
    account = in_use(60)
    account.concurrency._cut_level, account.concurrency._cut_at = 1000.0, 10.0
    refuse(account, 10.5)
    refuse(account, now, granted_at=10.5, jitter=1.0)
    assert account.not_before == pytest.approx(until)


def test_one_pause_does_not_say_that_minutes_are_counted():
    account = in_use(60, rpm=600)
    account.concurrency._cut_level, account.concurrency._cut_at = 1000.0, 10.0
    refuse(account, 10.5)
    assert account.buckets[0].limit == pytest.approx(0.7 * 600)


def test_quota_of_which_nine_tenths_are_used_is_nearly_empty():
    account = in_use(9, rpm=10)
    refuse(account, 10.0)
    assert (account.not_before, account.concurrency.limit) == (11.0, 20)
    account = in_use(8, rpm=10)
    refuse(account, 10.0)
    assert (account.not_before, account.concurrency.limit) == (-math.inf, 1)


def test_rate_that_was_found_is_tried_higher_while_requests_succeed():
    account = in_use(300)
    refuse(account, 3.0, wait_s=57.0, resource="requests")
    found, now = account.buckets[0].limit, 60.0
    while now < 130.0:
        wait = account.wait_s(0, 0, now)
        now += wait
        if not wait:
            account.on_success(account.take(0, 0, now), None, now)
    assert account.buckets[0].limit == pytest.approx(1.02 * found)


def test_error_begins_the_round_of_requests_in_flight_anew():
    account = Account(Rates())
    taken = [account.take(1, 1, 0.0) for _ in range(20)]
    for each in taken[:19]:
        account.on_success(each, None, 1.0)
    account.on_error()
    account.on_success(account.take(1, 1, 2.0), None, 3.0)
    assert account.concurrency.limit == 20
    taken = [account.take(1, 1, 4.0) for _ in range(20)]
    for each in taken:
        account.on_success(each, None, 5.0)
    assert account.concurrency.limit == 40


def test_request_that_need_not_wait_counts_no_wait():
    account = Account(Rates(rpm=600))
    assert account.wait_s(1, 1, 0.0) == 0
    assert account.throttled_s(5.0) == 0
