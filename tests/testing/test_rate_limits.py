"""What a strict provider admits, on a virtual clock."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_ray.testing import Burst, Drop, Failure, Faults, Hang, Quota, Reply, Slow, StrictProvider
from rlm_ray.testing.rate_limits import SlidingWindow, duration


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_requests_of_any_window_are_limited():
    """The window slides: room comes back one request at a time, exactly when promised."""
    window = SlidingWindow(Quota(rpm=2, window_s=60))
    for now in (0.0, 10.0):
        assert window.decide(now, 1).refused is None
        window.charge(now, 1)
    verdict = window.decide(20.0, 1)
    assert (verdict.refused, verdict.retry_after_s) == ("requests", 40.0)
    assert verdict.headers["retry-after"] == "40"
    assert window.decide(59.999, 1).refused == "requests"
    assert window.decide(60.0, 1).refused is None


def test_tokens_of_any_window_are_limited():
    """A request waits until enough tokens left the window, and no longer."""
    window = SlidingWindow(Quota(tpm=100, window_s=60))
    window.charge(0.0, 30)
    window.charge(5.0, 60)
    assert window.decide(10.0, 10).refused is None
    assert window.decide(10.0, 11).retry_after_s == 50.0
    assert window.decide(10.0, 80).retry_after_s == 55.0
    assert window.decide(10.0, 101).retry_after_s == math.inf
    assert "retry-after" not in window.decide(10.0, 101).headers


def test_headers_say_what_remains():
    """Limit, rest and reset are told as OpenAI tells them."""
    window = SlidingWindow(Quota(rpm=10, tpm=1_000))
    window.charge(0.0, 250)
    assert window.headers(30.0) == {
        "x-ratelimit-limit-requests": "10",
        "x-ratelimit-remaining-requests": "9",
        "x-ratelimit-reset-requests": "30s",
        "x-ratelimit-limit-tokens": "1000",
        "x-ratelimit-remaining-tokens": "750",
        "x-ratelimit-reset-tokens": "30s",
    }
    assert SlidingWindow(Quota(rpm=1, headers=False)).headers(0.0) == {}


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0ms"), (0.0165, "17ms"), (1, "1s"), (1.5, "1.5s"), (30, "30s"), (360, "6m0s")]
)
def test_durations_are_written_as_openai_does(seconds, text):
    """Times are written in OpenAI's way."""
    assert duration(seconds) == text


WAITS = st.integers(0, 20 * 64).map(lambda number: number / 64)
"""Sums and differences of these are exact, as those of very small numbers are not."""


@given(
    st.lists(st.tuples(WAITS, st.integers(1, 60)), max_size=60),
    st.integers(1, 8),
    st.integers(60, 200),
)
def test_no_window_is_ever_overdrawn(arrivals, rpm, tpm):
    """Whatever comes when, no window of 60 s holds more than the limits; and a refused request fits when told."""
    window, now, admitted = SlidingWindow(Quota(rpm=rpm, tpm=tpm)), 0.0, []
    for wait, tokens in arrivals:
        now += wait
        verdict = window.decide(now, tokens)
        if verdict.refused is None:
            window.charge(now, tokens)
            admitted.append((now, tokens))
        else:
            later = SlidingWindow(Quota(rpm=rpm, tpm=tpm))
            for at, used in admitted:
                later.charge(at, used)
            assert later.decide(now + verdict.retry_after_s + 1e-6, tokens).refused is None
    for at, _ in admitted:
        inside = [used for when, used in admitted if at - 60 < when <= at]
        assert len(inside) <= rpm
        assert sum(inside) <= tpm


def test_keys_have_quotas_of_their_own(ask, clock):
    """One key's use does not touch another's."""
    provider = StrictProvider(lambda _: "hi", Quota(rpm=1), clock=clock)
    assert isinstance(provider(ask(key="a")), Reply)
    refusal = provider(ask(key="a"))
    assert isinstance(refusal, Failure)
    assert (refusal.status, refusal.code) == (429, "rate_limit_exceeded")
    assert isinstance(provider(ask(key="b")), Reply)
    clock.now += 60
    assert isinstance(provider(ask(key="a")), Reply)


def test_the_truth_is_charged_whatever_is_reported(ask, clock):
    """Wrong usage figures reach the client; the ledger and the quota know better."""
    provider = StrictProvider(
        lambda _: Reply("x", prompt_tokens=100, completion_tokens=20),
        Quota(tpm=1_000),
        Faults(usage_factor=0.5),
        clock=clock,
    )
    reply = provider(ask())
    assert (reply.prompt_tokens, reply.completion_tokens) == (50, 10)
    assert reply.headers["x-ratelimit-remaining-tokens"] == "880"
    ledger = provider.ledger()
    assert (ledger.admitted, ledger.tokens, ledger.peak_tokens) == (1, 120, 120)


def test_room_for_max_tokens_can_be_asked_for(ask, clock):
    """With `reserve_max_tokens` an answer that might not fit is refused before it is given."""
    provider = StrictProvider(lambda _: "x", Quota(tpm=50, reserve_max_tokens=True), clock=clock)
    assert isinstance(provider(ask(max_tokens=40)), Reply)
    assert provider(ask(max_tokens=60)).message.startswith("Request too large")


def test_refused_requests_may_count(ask, clock):
    """With `count_refused` a client that hammers keeps itself out."""
    provider = StrictProvider(lambda _: "x", Quota(rpm=1, count_refused=True), clock=clock)
    statuses = []
    for _ in range(4):
        statuses.append(isinstance(provider(ask()), Reply))
        clock.now += 40
    assert statuses == [True, False, False, False]


def test_bursts_come_by_schedule(ask, clock):
    """Within a burst requests fail and are not charged; before and after they pass."""
    provider = StrictProvider(lambda _: "x", faults=Faults((Burst(10, 20, 529),)), clock=clock)
    outcomes = []
    for _ in range(3):
        outcomes.append(getattr(provider(ask()), "status", 200))
        clock.now += 10
    assert outcomes == [200, 529, 200]
    assert provider.ledger().faults == {"529": 1}
    assert provider.ledger().admitted == 2


def test_chance_can_be_drawn_again(ask, clock):
    """The same seed gives the same faults, and about as many as asked for."""
    faults = Faults(error_rate=0.1, drop_rate=0.1, slow_rate=0.1, hang_rate=0.1, seed=7)

    def run():
        provider = StrictProvider(lambda _: "x", faults=faults, clock=clock)
        return [type(provider(ask())) for _ in range(500)]

    kinds = run()
    assert kinds == run()
    for kind in (Failure, Drop, Slow, Hang):
        assert 20 < kinds.count(kind) < 80
