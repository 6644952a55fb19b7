"""The page for everybody: by keyboard alone, on a narrow screen, on paper, and as axe-core sees it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from accessibility import MODES, violations
from playwright.sync_api import expect

from rlm_ray.core.context import InputSummary
from rlm_ray.core.llm import Usage
from rlm_ray.events.records import CallEnded, RunFinished, RunStarted, SessionEnded, SessionOpened
from rlm_ray.report import write_report
from rlm_ray.serve.http.routers.runs import _REPORT_HEADERS
from rlm_ray.testing.sample_run import example_run

pytestmark = pytest.mark.slow

VIEWS = ("overview", "icicle", "timeline", "nodes", "compare")
TABLE = "#view-nodes .scroller"
CUT_FIGURES = """() => [...document.querySelectorAll("#view-nodes .rows .num, #view-nodes .heads .num")]
  .filter((cell) => cell.clientWidth && cell.scrollWidth > cell.clientWidth).map((cell) => cell.textContent)"""


@pytest.mark.parametrize(("width", "colours"), MODES)
def test_axe_finds_nothing_in_any_view(opened, report, width, colours):
    page = opened(report, width=width, colours=colours)
    found = {}
    for view in VIEWS:
        page.click(f"#tab-{view}")
        if view == "nodes":
            page.locator(TABLE).focus()
            page.keyboard.press("Home")
        found[view] = violations(page)
    assert {view: wrong for view, wrong in found.items() if wrong} == {}


def test_axe_finds_nothing_in_a_run_that_failed(opened, tmp_path):
    records = example_run(40)
    why = "the provider kept failing; try again later"
    failed = replace(
        next(record for record in records if isinstance(record, RunFinished)),
        stop_reason="error", error_kind="ModelUnavailableError", why=why, answer=None,
    )  # fmt: skip
    write_report(
        [record for record in records if not isinstance(record, RunFinished)] + [failed],
        tmp_path / "run.html",
    )
    page = opened(tmp_path / "run.html", width=390)
    assert why in page.locator("#answer").inner_text()
    assert violations(page) == []


def test_views_are_reached_by_their_numbers_arrows_and_the_skip_link(opened, report):
    page = opened(report)
    for number, view in enumerate(VIEWS, 1):
        page.keyboard.press(str(number))
        assert page.locator(f"#tab-{view}").get_attribute("aria-selected") == "true"
        assert page.locator(f"#view-{view}").is_visible()
    page.locator("#tab-compare").focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.id") == "tab-overview"
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("document.activeElement.id") == "tab-compare"
    page.reload()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the views"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "views"


def test_what_is_selected_is_spoken(opened, report):
    page = opened(report)
    page.click("#tab-nodes")
    page.locator(TABLE).focus()
    page.keyboard.press("Home")
    live = page.locator("#live")
    expect(live).to_contain_text("root · session · ok")
    page.keyboard.press("ArrowDown")
    expect(live).to_contain_text("0 · session · error")
    assert page.locator(TABLE).get_attribute("aria-activedescendant") == "row-1"


def test_the_strip_of_the_context_is_walked_by_arrows(opened, report):
    page = opened(report)
    strip = page.locator("canvas.coverage")
    strip.focus()
    said = []
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft", "End", "Home"):
        page.keyboard.press(key)
        said.append(page.locator("#pane h2").inner_text())
    assert said[0] == said[2] == said[4] == "0"
    assert len({*said}) == 3
    assert page.evaluate("document.activeElement.className") == "coverage"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "pane"


def test_what_went_wrong_leads_to_its_node_and_to_all_of_them(opened, tmp_path):
    write_report(example_run(600), tmp_path / "run.html")
    page = opened(tmp_path / "run.html")
    section = page.locator("#view-overview section", has_text="What went wrong")
    first = section.locator("button.link.bad").first
    first.click()
    assert page.locator("#pane h2").inner_text() == first.inner_text()
    section.get_by_role("button", name="Show all in Nodes").click()
    assert page.locator("#only-bad").is_checked()
    assert page.locator("#view-nodes").is_visible()


def test_a_batch_lists_the_answers_of_its_rows(opened, tmp_path):
    given = InputSummary("text", 9, 1, 0, 9)
    begun = RunStarted(1.0, "batch", "When? {text}", {}, given, "1")
    rows = [
        *(SessionOpened(2.0, (at,), f"When? {at}", given, "m", "a") for at in range(2)),
        SessionEnded(3.0, (0,), "answered", answer="In 1907."),
        SessionEnded(3.0, (1,), "error", error_kind="ModelError", why="down"),
        CallEnded(4.0, (2,), 1, "leaf", "m", "k", 2.0, usage=Usage(5, 5), text="In 1921.", query="When? 2"),
    ]
    write_report([begun, *rows, RunFinished(5.0, "answered")], tmp_path / "run.html")
    page = opened(tmp_path / "run.html")
    assert page.locator("#answer").inner_text() == "3 questions: 2 ok, 1 error"
    table = page.locator("#view-overview section", has_text="Answers").locator("tbody tr")
    assert table.all_inner_texts() == [
        "0\tok\tWhen? 0\tIn 1907.",
        "1\terror\tWhen? 1\tModelError: down",
        "2\tok\tWhen? 2\tIn 1921.",
    ]
    table.nth(1).get_by_role("button").click()
    assert page.locator("#pane h2").inner_text() == "1"


def test_the_nodes_of_one_model_are_found(opened, report):
    page = opened(report)
    page.click("#tab-nodes")
    page.select_option("select >> nth=1", label="big/model")
    assert page.locator("#found").inner_text() == "1 of 300"


def test_settings_are_folded_until_they_are_wanted(opened, report):
    page = opened(report)
    folded = page.locator("#view-overview details", has_text="Settings")
    assert folded.locator("pre").count() == 0
    folded.locator("summary").click()
    assert "max_depth" in folded.locator("pre").inner_text()


def test_the_pane_shows_which_slice_of_the_context_a_node_read(opened, report):
    page = opened(report)
    page.goto(f"{report.as_uri()}#node=1")
    page.reload()
    given = page.locator("#pane .part", has_text="Input").first
    assert "of the root's context" in given.inner_text()
    left = given.locator(".mark").evaluate("mark => parseFloat(mark.style.left)")
    assert 0 < left < 100


def test_a_state_says_that_it_was_a_limit(opened, tmp_path):
    end = RunFinished(9.0, "max_iterations", why="the limit of 3 turns is reached", answer="What is known.")
    records = [record for record in example_run(40) if not isinstance(record, RunFinished)]
    write_report([*records, end], tmp_path / "run.html")
    page = opened(tmp_path / "run.html")
    assert page.locator(".title .pill").inner_text() == "stopped: max iterations"


@pytest.mark.parametrize("price", [1e-7, 5.6e-4, 1234.5])
def test_no_figure_of_the_table_is_cut_at_any_width(opened, tmp_path, price):
    records = [
        replace(record, cost_usd=price) if getattr(record, "cost_usd", None) else record
        for record in example_run(30)
    ]
    write_report(records, tmp_path / "run.html")
    page = opened(tmp_path / "run.html")
    page.click("#tab-nodes")
    cut = {}
    for width in (390, 700, 1000, 1400):
        page.set_viewport_size({"width": width, "height": 900})
        cut[width] = page.evaluate(CUT_FIGURES)
    assert cut == {390: [], 700: [], 1000: [], 1400: []}


def test_a_narrow_screen_keeps_its_height_for_the_view(opened, report):
    page = opened(report, width=390)
    assert page.locator("#stats").is_visible()
    page.click("#tab-nodes")
    assert page.locator("#stats").is_hidden()
    assert page.locator(TABLE).bounding_box()["height"] > 400


def test_boxes_that_scroll_take_the_focus_and_others_do_not(opened, report):
    page = opened(report, width=390)
    page.goto(f"{report.as_uri()}#node=root")
    page.reload()
    wrong = """() => [...document.querySelectorAll("pre, .wide")].filter((box) => box.clientHeight &&
      (box.scrollHeight > box.clientHeight + 1 || box.scrollWidth > box.clientWidth + 1) !== (box.tabIndex === 0))
      .map((box) => box.outerHTML.slice(0, 100))"""
    page.wait_for_function(f"!({wrong})().length")
    assert page.locator("pre[tabindex='0'], .wide[tabindex='0']").count() > 0


def test_a_line_of_the_printed_list_is_one_line_and_its_figures_stand_under_each_other(opened, report):
    page = opened(report, width=900)
    page.emulate_media(media="print")
    expect(page.locator("#paper .listing tr")).to_have_count(201)
    heights = page.locator("#paper .listing tbody tr").evaluate_all(
        "rows => rows.map((row) => row.offsetHeight)"
    )
    assert max(heights) <= min(heights) + 1
    cost = page.locator("#paper .listing tbody td:nth-child(8)")
    assert cost.first.evaluate("cell => getComputedStyle(cell).textAlign") == "right"
    depths = page.locator("#paper .listing td:first-child").evaluate_all(
        "cells => cells.slice(0, 3).map((cell) => cell.textContent.length - cell.textContent.trimStart().length)"
    )
    assert depths == [0, 1, 2]


def test_the_report_works_in_the_sandbox_in_which_the_service_shows_it(browser, report):
    page = browser.new_page()
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    headers = {
        "content-security-policy": _REPORT_HEADERS["content-security-policy"],
        "content-type": "text/html",
    }
    address = "http://service.test/v1/runs/r/report?ticket=t"
    page.route("**/*", lambda route: route.fulfill(body=report.read_text("utf-8"), headers=headers))
    page.goto(f"{address}#node=3.4.10")
    expect(page.locator("#pane h2")).to_have_text("3.4.10")
    page.click("#pane >> text=↑ parent")
    assert page.evaluate("location.href") == f"{address}#node=3.4"
    page.click("#theme")
    assert page.locator("#theme").inner_text() == "Theme: light"
    copy = page.locator("#pane button[aria-label='Copy the link to this node']")
    copy.click()
    expect(copy).to_have_text("Copied")
    page.close()
    assert errors == []
