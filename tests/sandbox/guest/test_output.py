"""What a cell prints is counted in full and kept as its head and its tail."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rlm_ray.sandbox.guest import output
from rlm_ray.sandbox.guest.output import Output


def bounded(text, limit):
    """What shall be kept of a text."""
    if len(text) <= limit:
        return text
    head, tail = text[: limit // 2], text[-(limit - limit // 2) :]
    return f"{head}\n… {len(text) - limit:,} characters left out …\n{tail}"


@given(st.lists(st.text(max_size=30), max_size=40), st.integers(1, 60))
def test_any_prints_leave_head_and_tail_of_all_that_was_printed(prints, limit):
    shown = Output(limit, lambda _text, _chars: None)
    for at, text in enumerate(prints, 1):
        shown.write(text)
        assert shown.chars == len("".join(prints[:at]))
        assert shown.text() == bounded("".join(prints[:at]), limit)
    shown.reset()
    assert (shown.text(), shown.chars) == ("", 0)


def test_endless_small_prints_do_not_pile_up():
    shown = Output(1000, lambda _text, _chars: None)
    for _ in range(25_000):
        shown.write("")
        shown.write("x")
    assert shown.text() == bounded("x" * 25_000, 1000)
    assert len(shown._tail) <= 10_001


def test_first_twenty_prints_are_shown_at_once_and_later_ones_four_times_a_second(monkeypatch):
    now, seen = [100.0], []
    monkeypatch.setattr(output.time, "monotonic", lambda: now[0])
    shown = Output(100, lambda text, chars: seen.append((text, chars)))
    for _ in range(20):
        shown.write("x")
        shown.publish()
    assert seen == [("x" * count, count) for count in range(1, 21)]
    shown.publish()
    assert len(seen) == 21
    for now[0], count in ((100.24, 21), (100.25, 22), (100.49, 22), (100.5, 23)):
        shown.publish()
        assert len(seen) == count
    shown.reset()
    for _ in range(20):
        shown.publish()
    assert len(seen) == 43
