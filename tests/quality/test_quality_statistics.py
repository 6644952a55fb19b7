"""Intervals and the test of pairs, held against tables; the report and the plot say what the cells say."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest
from quality.cells import Cell, CellStore
from quality.confidence import bootstrap_interval, mcnemar_p, wilson_interval
from quality.plot import render_plot
from quality.report import render_report, summarize


def cell(task="a@2k", method="ours", **changes):
    values = {
        "task": task,
        "digest": "d",
        "method": method,
        "model": "m",
        "status": "answered",
        "answer": "1",
        "truth": 1,
        "score": 1.0,
        "right": True,
        "turns": 2,
        "calls": 3,
        "refused": 0,
        "cached": 0,
        "input_tokens": 100,
        "output_tokens": 10,
        "cost_usd": None,
        "seconds": 4.0,
        "why": "",
        "version": "v",
        "at": "2026-01-01T00:00:00+00:00",
    }
    return Cell(**{**values, **changes})


def wrong(**changes):
    return cell(**{"score": 0.0, "right": False, **changes})


@pytest.mark.parametrize(
    ("right", "asked", "low", "high"),
    [
        (0, 0, 0.0, 1.0),
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (5, 10, 0.2366, 0.7634),
        (81, 263, 0.2553, 0.3662),
    ],
)
def test_wilson_interval_agrees_with_published_values(right, asked, low, high):
    assert wilson_interval(right, asked) == pytest.approx((low, high), abs=1e-3)


@pytest.mark.parametrize(
    ("first", "second", "p"),
    [(0, 0, 1.0), (1, 1, 1.0), (5, 0, 0.0625), (0, 5, 0.0625), (10, 2, 0.0386), (6, 6, 1.0), (2_000, 0, 0.0)],
)
def test_mcnemar_agrees_with_the_binomial_table(first, second, p):
    assert mcnemar_p(first, second) == pytest.approx(p, abs=1e-4)


def test_bootstrap_interval_holds_the_mean_and_is_the_same_each_time():
    values = [0.0, 1.0] * 20
    low, high = bootstrap_interval(values)
    assert 0.3 < low < 0.5 < high < 0.7
    assert bootstrap_interval(values) == (low, high)
    assert bootstrap_interval([]) == (0.0, 1.0)
    assert bootstrap_interval([1.0] * 5) == (1.0, 1.0)


def test_failed_cell_counts_as_wrong_and_one_that_does_not_fit_does_not_count():
    summary = summarize(
        "ours",
        [
            cell(),
            wrong(task="b", status="failed"),
            wrong(task="c", status="too_long"),
            wrong(task="d", status="timeout"),
        ],
    )
    assert (summary.right, summary.asked, summary.failed, summary.too_long) == (1, 3, 1, 1)


def test_cost_is_unknown_where_no_price_is_known():
    assert summarize("ours", [cell()]).cost_usd is None
    assert summarize("ours", [cell(cost_usd=0.5), cell(task="b", cost_usd=0.25)]).cost_usd == 0.75


def test_report_shows_cells_pairs_and_failures():
    cells = [
        cell(),
        wrong(method="direct"),
        cell(task="b@2k"),
        wrong(task="b@2k", method="direct", status="failed", why="ConnectionError: refused | by peer"),
    ]
    page = render_report(cells, ["a@2k", "b@2k"], ["ours", "direct"], "m")
    assert "| ours | 2 of 2 |" in page
    assert "| direct | 0 of 2 |" in page
    assert "| a@2k | right, 2/3, 4 s | wrong, 2/3, 4 s |" in page
    assert "| b@2k | right, 2/3, 4 s | failed |" in page
    assert "| ours / direct | 2 | 2 | 0 | 0.500 |" in page
    assert "- b@2k, direct: failed: ConnectionError: refused | by peer" in page


def test_pair_counts_only_tasks_that_both_were_asked():
    cells = [cell(), wrong(method="direct", status="too_long"), cell(task="b@2k")]
    assert "| ours / direct | 0 | 0 | 0 | 1.000 |" in render_report(
        cells, ["a@2k", "b@2k"], ["ours", "direct"], "m"
    )


def test_plot_is_well_formed_whatever_answers_hold():
    cells = [
        cell(answer="<script>&\"'"),
        cell(task="b@2k", score=0.4, right=False),
        wrong(task="c@2k", status="timeout"),
    ]
    root = ET.fromstring(render_plot(cells, ["a@2k", "b@2k", "c@2k"], ["ours", "none yet"], "a & b"))
    text = "".join(root.itertext())
    assert "1 of 3" in text
    assert "timeout" in text


def test_store_returns_the_last_line_of_a_cell(tmp_path):
    store = CellStore(tmp_path / "cells.jsonl")
    store.add(wrong(status="failed", answer=None))
    store.add(cell(answer="é"))
    again = CellStore(tmp_path / "cells.jsonl")
    assert again.of("m", [("a@2k", "d")], ["ours", "direct"]) == [cell(answer="é")]
    assert again.get(("a@2k", "another digest", "ours", "m")) is None


@pytest.mark.parametrize("torn", ['{"task": "a@2k", "dig', "\n\n", "null\n", '{"task": 1}\n', "[]"])
def test_store_skips_a_line_that_was_torn_and_goes_on(tmp_path, torn):
    path = tmp_path / "cells.jsonl"
    CellStore(path).add(cell())
    path.write_text(path.read_text() + torn)
    CellStore(path).add(cell(task="b@2k"))
    assert len(CellStore(path).of("m", [("a@2k", "d"), ("b@2k", "d")], ["ours"])) == 2
