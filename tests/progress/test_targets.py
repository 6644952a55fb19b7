"""Logs and notebooks, by a clock of the test."""

import io
from types import SimpleNamespace

from rich.console import Console

from rlm_ray.progress import Row, Snapshot
from rlm_ray.progress.targets import (
    CHANGE_INTERVAL_S,
    FIRST_LINE_S,
    QUIET_INTERVAL_S,
    LogDisplay,
    NotebookDisplay,
    TerminalDisplay,
    select_target,
)


def view(turn=1, calls=0, **more):
    return Snapshot(
        (Row((), "Who <b>?", "running", "runs code", turn, 0, 0, 0, 1.0),), calls=calls, sessions=1, **more
    )


class Log:
    def __init__(self):
        self.file = io.StringIO()
        self.face = LogDisplay(Console(file=self.file, width=20))
        self.face.start()

    @property
    def said(self):
        return [line.partition(" ")[2] for line in self.file.getvalue().splitlines()]


def test_a_short_run_leaves_no_line_in_a_log():
    log = Log()
    log.face.show(view(), 0.0)
    log.face.show(view(turn=2), FIRST_LINE_S - 0.1)
    log.face.stop()
    assert log.said == []


def test_news_are_told_soon_and_growing_figures_later():
    log = Log()
    log.face.show(view(), 0.0)
    log.face.show(view(), FIRST_LINE_S)
    log.face.show(view(turn=2), FIRST_LINE_S + CHANGE_INTERVAL_S)
    log.face.show(view(turn=2, calls=7), FIRST_LINE_S + 2 * CHANGE_INTERVAL_S)
    assert log.said == ["turn 1 · 0 calls · 0 tokens", "turn 2 · 0 calls · 0 tokens"]
    log.face.show(view(turn=2, calls=8), FIRST_LINE_S + CHANGE_INTERVAL_S + QUIET_INTERVAL_S)
    assert log.said[2:] == ["turn 2 · 8 calls · 0 tokens"]


def test_nothing_is_told_twice_and_the_end_is_told_where_a_line_was():
    log = Log()
    log.face.show(view(), 0.0)
    log.face.show(view(), QUIET_INTERVAL_S)
    log.face.show(view(), 2 * QUIET_INTERVAL_S)
    log.face.show(view(ended="answered"), 2 * QUIET_INTERVAL_S + 1)
    assert log.said == ["turn 1 · 0 calls · 0 tokens"]
    log.face.stop()
    assert log.said[1:] == ["turn 1 · 0 calls · 0 tokens · answered"]


def test_lines_of_a_log_begin_with_the_time_of_day_and_are_never_folded():
    log = Log()
    log.face.show(view(), 0.0)
    log.face.show(view(calls=123_456), QUIET_INTERVAL_S)
    (line,) = log.file.getvalue().splitlines()
    assert len(line.split(" ")[0]) == len("12:03:05")
    assert line.endswith("turn 1 · 123k calls · 0 tokens")


class Cell:
    """Stands in for IPython's display: one output that is replaced."""

    def __init__(self):
        self.shown = []

    def display(self, bundle, *, raw, display_id):
        assert raw
        assert display_id
        self.shown.append(bundle)
        return SimpleNamespace(update=lambda bundle, raw: self.shown.append(bundle))


def test_a_notebook_gets_one_output_that_is_replaced():
    cell = Cell()
    face = NotebookDisplay(cell.display)
    face.start()
    face.show(view(calls=3), 1.0)
    face.stop()
    assert cell.shown[0] == {"text/plain": ""}
    assert cell.shown[1]["text/plain"] == "turn 1 · 3 calls · 0 tokens"
    assert "Who &lt;b&gt;?" in cell.shown[1]["text/html"]
    assert cell.shown[1]["text/html"].startswith("<pre")


def test_each_console_gets_the_face_that_suits_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "IPython.display", SimpleNamespace(display=print))
    assert isinstance(select_target(Console(file=io.StringIO())), LogDisplay)
    assert isinstance(
        select_target(Console(file=io.StringIO(), force_terminal=True, force_interactive=True)),
        TerminalDisplay,
    )
    assert isinstance(select_target(Console(file=io.StringIO(), force_jupyter=True)), NotebookDisplay)
