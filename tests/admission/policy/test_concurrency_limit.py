"""How many may be under way."""

import pytest

from rlm_ray.admission.policy.concurrency_limit import ConcurrencyLimit


def play(window, now, rounds=1, places=None):
    """Fill the window and answer all, `rounds` times, a second each; the share that was refused."""
    refused = sent = 0
    for _ in range(rounds):
        under_way = 0
        while window.open:
            window.acquire()
            under_way += 1
        sent += under_way
        here = under_way if places is None else min(under_way, places)
        for _ in range(under_way - here):
            window.release()
            window.on_rejected(now, now + 0.1)
            refused += 1
        for _ in range(here):
            window.release()
            window.on_success(now + 1)
        now += 1.0
    return now, refused / sent


def test_it_doubles_while_nothing_is_refused():
    window = ConcurrencyLimit()
    play(window, 0.0, rounds=4)
    assert window.limit == 320


def test_a_refusal_cuts_once_to_what_the_provider_had_place_for():
    window = ConcurrencyLimit()
    now, _ = play(window, 0.0, rounds=4, places=100)
    assert 80 <= window.limit <= 84
    play(window, now, rounds=10, places=100)
    assert window.limit == 100


def test_a_cut_that_does_not_help_is_undone():
    window = ConcurrencyLimit()
    now, _ = play(window, 0.0, rounds=3)
    window.in_flight = 150
    explained = []
    for turn in range(8):
        window.acquire()
        window.release()
        explained.append(window.on_rejected(now + turn, now + turn + 0.01))
    assert explained[0]
    assert not explained[-1]
    assert window.limit == 160


@pytest.mark.parametrize("places", [3, 10, 37, 100, 200, 700])
def test_it_finds_a_hidden_limit_and_hardly_tries_more(places):
    window = ConcurrencyLimit()
    now, _ = play(window, 0.0, rounds=60, places=places)
    assert window.limit >= 0.85 * places
    _, refused = play(window, now, rounds=200, places=places)
    assert window.limit >= 0.85 * places
    assert refused <= 0.02


def test_it_follows_a_provider_that_makes_room():
    window = ConcurrencyLimit()
    now, _ = play(window, 0.0, rounds=60, places=50)
    play(window, now, rounds=120, places=200)
    assert window.limit >= 150


def test_it_does_not_grow_unused():
    window = ConcurrencyLimit()
    for _ in range(100):
        window.acquire()
        window.release()
        window.on_success(1.0)
    assert window.limit == 20


def test_server_errors_begin_the_round_anew_and_cut_nothing():
    window = ConcurrencyLimit()
    for _ in range(3):
        for _ in range(19):
            window.acquire()
        for _ in range(19):
            window.release()
            window.on_success(1.0)
        window.failed()
    assert window.limit == 20
    play(window, 10.0, rounds=1)
    assert window.limit == 40


def test_a_refusal_with_few_under_way_is_not_explained():
    window = ConcurrencyLimit()
    now, _ = play(window, 0.0, rounds=4, places=100)
    window.acquire()
    window.release()
    assert not window.on_rejected(now, now + 0.1)


def test_the_users_word_is_the_most():
    window = ConcurrencyLimit(max_limit=7)
    play(window, 0.0, rounds=5)
    assert window.limit == 7
