"""What a screen is given to show."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_ray.core.context import InputSummary
from rlm_ray.events.records import SessionOpened
from rlm_ray.progress import LimitUsage, LiveRunState, Row, Snapshot
from rlm_ray.progress.render import ASCII, Glyphs, lines

ROOT = Row((), "Which chapter blames whom?", "running", "waits for sub-calls", 3, 500, 40, 2, 65.0)
CHILD = Row((4, 1), "Who is blamed here?", "error", "SandboxError", 1, 0, 0, 0, 7.0)
VIEW = Snapshot(
    (ROOT, CHILD), 3, 2, 1, 812, in_flight=45, waits_for="12 calls wait for the rate limit", sessions=9, sessions_open=4, tokens=1_200_000,
    tokens_per_s=3_512, cost_usd=0.31, gauge=LimitUsage("cost_usd", 0.31, 5.0), retries=5, refused=3, elapsed_s=83.0,
)  # fmt: skip


def drawn(view, width, signs=ASCII, now=0.0):
    return [line.plain for line in lines(view, width, now, signs)]


def test_a_wide_screen_shows_everything():
    assert drawn(VIEW, 100) == [
        "| Which chapter blames whom?" + " " * 21 + "waits for sub-calls  turn 3  40/500  2 failed  1:05",
        "    x 4.1 Who is blamed here?" + " " * 20 + "SandboxError         turn 1" + " " * 22 + "7s",
        "  and 3 running, 1 done, 1 failed",
        "12 calls wait for the rate limit",
        "812 calls - 45 in flight - 4 of 9 sessions open",
        "#" + "." * 19 + " $0.31 of $5.00 - 1.2M tokens - 3,512 tokens/s - 5 retries (3 x 429) - 1:23",
    ]


def test_a_narrow_screen_shows_what_tells_most():
    assert drawn(VIEW, 40) == [
        "| Which chapter blames wh…  40/500  1:05",
        "    x 4.1 Who is blamed h…            7s",
        "  and 3 running, 1 done, 1 failed",
        "12 calls wait for the rate limit",
        "812 calls - 45 in flight",
        "4 of 9 sessions open",
        "#" + "." * 19 + " $0.31 of $5.00",
        "1.2M tokens - 3,512 tokens/s",
        "5 retries (3 x 429) - 1:23",
    ]


def test_sign_of_a_running_session_turns():
    frames = {drawn(VIEW, 80, Glyphs(), now)[0][0] for now in (0.0, 0.25, 0.5)}
    assert len(frames) == 3


def test_a_run_of_one_session_without_limits_needs_two_lines_of_figures():
    view = Snapshot((ROOT,), calls=1, tokens=10, sessions=1, sessions_open=1)
    assert drawn(view, 80)[1:] == ["1 call - 0 in flight", "10 tokens - 0s"]


def test_nothing_is_in_flight_any_more_when_the_run_is_over():
    assert drawn(replace(VIEW, ended="answered"), 100)[4] == "812 calls - 4 of 9 sessions open"


def test_before_anything_has_begun_it_says_what_is_waited_for():
    root = Row((), "", "running", "starts", 0, 0, 0, 0, 0.0)
    view = Snapshot((root,), waits_for="waiting for Ray: it starts on this machine", elapsed_s=7)
    assert drawn(view, 80) == ["| waiting for Ray: it starts on this machine - 7s"]


@pytest.mark.parametrize(("used", "full"), [(0.0, 0), (2.5, 10), (5.0, 20), (9.0, 20)])
def test_the_bar_is_as_full_as_the_limit_is_used(used, full):
    view = Snapshot((ROOT,), sessions=1, gauge=LimitUsage("cost_usd", used, 5.0))
    assert drawn(view, 80)[-1].startswith("#" * full + "." * (20 - full) + " $")


@given(st.text(max_size=300), st.integers(1, 250), st.lists(st.integers(0, 9_999), max_size=9))
def test_no_line_is_wider_than_the_screen_or_more_than_one(query, width, path):
    live_state = LiveRunState()
    live_state.add(SessionOpened(0.0, tuple(path), query, InputSummary(), "model", "actor"))
    for line in lines(live_state.view(1e5), width, 0.0, Glyphs()):
        assert line.cell_len <= width
        assert line.plain.isprintable()
