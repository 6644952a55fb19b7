"""Figures and states in few letters."""

import pytest

from rlm_ray.progress import LimitUsage, Row, Snapshot, render

ROOT = Row((), "Who?", "running", "waits for sub-calls", 3, 500, 40, 2, 65.0)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0, "0"), (999.4, "999"), (1_234, "1,234"), (10_000, "10.0k"), (56_789, "56.8k"), (123_456, "123k"),
        (1_234_567, "1.2M"), (987e6, "987M"), (3.21e9, "3.2G"),
    ],
)  # fmt: skip
def test_counts_are_short_for_people(value, said):
    assert render.format_count(value) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0s"), (59.9, "59s"), (60, "1:00"), (83, "1:23"), (3_600, "1:00:00"), (7_384, "2:03:04")],
)
def test_durations_are_seconds_or_a_clock(seconds, said):
    assert render.format_duration(seconds) == said


@pytest.mark.parametrize(
    ("usd", "said"),
    [(0, "$0.00"), (0.0042, "$0.0042"), (0.31, "$0.31"), (12.3, "$12.30"), (1_234.5, "$1,234.50")],
)
def test_costs_have_as_many_digits_as_say_something(usd, said):
    assert render.format_usd(usd) == said


@pytest.mark.parametrize(
    ("view", "said"),
    [
        (Snapshot(), ""),
        (Snapshot(retries=1), "1 retry"),
        (Snapshot(retries=5, refused=3), "5 retries (3 x 429)"),
    ],
)
def test_retries_are_told_with_their_reason(view, said):
    assert render.format_retries(view) == said


@pytest.mark.parametrize(
    ("view", "said"),
    [
        (Snapshot(), ""),
        (Snapshot(more_running=3), "and 3 running"),
        (
            Snapshot(more_running=1_200, hidden_finished=12, more_failed=2),
            "and 1,200 running, 10 done, 2 failed",
        ),
    ],
)
def test_rows_without_room_are_counted(view, said):
    assert render.format_hidden_rows(view) == said


def test_a_cost_that_is_not_the_whole_cost_says_so():
    assert render.format_cost(Snapshot(cost_usd=0.5)) == "$0.50"
    assert render.format_cost(Snapshot(cost_usd=0.5, unpriced=1)) == "$0.50 and more"


def test_a_limit_is_named_in_its_own_unit():
    assert render.format_limit(LimitUsage("cost_usd", 0.31, 5)) == "$0.31 of $5.00"
    assert render.format_limit(LimitUsage("tokens", 1_200_000, 2_000_000)) == "1.2M of 2.0M tokens"


def test_a_run_in_one_line():
    view = Snapshot(
        (ROOT,), calls=812, tokens=1_200_000, cost_usd=0.31, in_flight=45, waits_for="waiting for m, since 3s"
    )
    assert render.format_line(view) == (
        "turn 3 · sub-calls 40/500, 2 failed · 812 calls · 1.2M tokens · $0.31 · 45 in flight · waiting for m, since 3s"
    )


def test_a_run_that_has_not_begun_in_one_line():
    assert render.format_line(Snapshot(waits_for="waiting for Ray: ...")) == "waiting for Ray: ..."


def test_a_run_that_is_over_has_nothing_in_flight():
    assert (
        render.format_line(Snapshot(calls=1, in_flight=3, ended="answered")) == "1 call · 0 tokens · answered"
    )
