"""The page in a real browser: every view, by mouse and by keyboard, with a hostile journal and without a network."""

from __future__ import annotations

from dataclasses import replace

import pytest
from playwright.sync_api import expect

from rlm_ray.core.context import InputSummary
from rlm_ray.core.llm import Usage
from rlm_ray.events.records import (
    CallEnded,
    CallSent,
    RunFinished,
    RunStarted,
    SessionOpened,
    without_content,
)
from rlm_ray.report import write_report
from rlm_ray.testing.sample_run import example_run

pytestmark = pytest.mark.slow

ICICLE = "#view-icicle canvas"
TIMELINE = "#view-timeline canvas"
TABLE = "#view-nodes .scroller"


def pane(page):
    return page.locator("#pane h2").inner_text()


def click(page, canvas, x, y):
    page.locator(canvas).click(position={"x": x, "y": y})


def shown_rows(page):
    return page.locator(f"{TABLE} .rows .row").count()


def pixels(page, canvas):
    return page.locator(canvas).evaluate("canvas => canvas.toDataURL()")


def test_the_overview_tells_question_answer_and_totals(opened, report):
    page = opened(report)
    assert page.locator("h1").inner_text().startswith("Which of the parties")
    assert "Three of them did." in page.locator("#answer").inner_text()
    assert "<script>window.hacked=1</script>" in page.locator("#view-overview pre.answer").inner_text()
    assert page.locator("#stats").inner_text().count("\n") >= 20
    assert "went to sub-calls" in page.locator("#view-overview").inner_text()


def test_the_overview_shows_citations_and_links_the_answer_to_them(opened, report):
    page = opened(report)
    cited = page.locator("#view-overview figure.citation")
    assert cited.count() == 2
    assert cited.first.inner_text().startswith("… Who changed? Three of them did. The others …")
    assert "minutes.pdf, page 3, characters 120-138 · turn 3" in cited.first.inner_text()
    link = page.locator("#view-overview pre.answer a.cited").first
    assert link.locator("mark").inner_text() == "Three of them did."
    assert link.get_attribute("href") == f"#{cited.first.get_attribute('id')}"
    link.click()
    assert cited.first.evaluate("figure => figure.matches(':target')")
    cited.first.locator("button").click()
    assert pane(page) == "root"


def test_the_pane_shows_what_a_turn_cited_and_which_tools_it_called(opened, report):
    page = opened(report)
    page.locator("#view-overview figure.citation button").first.click()
    turn = page.locator("#pane details.turn", has_text="Turn 3")
    if not turn.evaluate("turn => turn.open"):
        turn.locator("summary").click()
    assert turn.locator(".tools table").inner_text().split() == [
        "Tool",
        "Arguments",
        "Result",
        "Took",
        "add",
        "[[1,",
        "2],",
        "{}]",
        "3",
        "2",
        "ms",
    ]
    assert turn.locator("figure.citation mark").first.inner_text() == "Three of them did."


def test_the_icicle_selects_zooms_and_changes_its_measure(opened, report):
    page = opened(report)
    page.click("#tab-icicle")
    by_time = pixels(page, ICICLE)
    click(page, ICICLE, 300, 60)
    first = pane(page)
    assert page.locator(".trail button[aria-current]").inner_text() == first
    assert pixels(page, ICICLE) != by_time
    page.keyboard.press("ArrowDown")
    assert pane(page) == f"{first}.0"
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Escape")
    assert page.locator(".trail button[aria-current]").inner_text() == "root"
    before = pixels(page, ICICLE)
    page.click("[data-metric=cost]")
    assert pixels(page, ICICLE) != before


def test_the_icicle_says_what_the_pointer_is_on(opened, report):
    page = opened(report)
    page.click("#tab-icicle")
    page.locator(ICICLE).hover(position={"x": 300, "y": 60})
    assert "of the run" in page.locator("#tip").inner_text()


def test_the_timeline_selects_zooms_and_pans(opened, report):
    page = opened(report)
    page.click("#tab-timeline")
    click(page, TIMELINE, 600, 34)
    assert pane(page) == "root"
    page.keyboard.press("ArrowDown")
    assert pane(page) == "0"
    whole = pixels(page, TIMELINE)
    page.keyboard.press("+")
    near = pixels(page, TIMELINE)
    assert near != whole
    page.keyboard.press("ArrowRight")
    assert pixels(page, TIMELINE) != near
    page.keyboard.press("0")
    assert pixels(page, TIMELINE) == whole
    page.keyboard.press("Space")
    assert pixels(page, TIMELINE) != whole


def test_the_timeline_says_what_a_node_did_at_a_moment(opened, report):
    page = opened(report)
    page.click("#tab-timeline")
    page.locator(TIMELINE).hover(position={"x": 800, "y": 34})
    assert "waits for" in page.locator("#tip").inner_text()


def test_the_table_holds_only_the_rows_in_sight_and_scrolls_through_all(opened, report):
    page = opened(report)
    page.click("#tab-nodes")
    assert page.locator(TABLE).get_attribute("aria-rowcount") == "301"
    assert shown_rows(page) < 60
    page.locator(TABLE).focus()
    page.keyboard.press("End")
    assert page.locator(f"{TABLE} .row.selected").count() == 1
    last = pane(page)
    page.keyboard.press("Home")
    assert (pane(page), last.count(".")) == ("root", 2)


def test_the_table_folds_by_key_and_by_mouse(opened, report):
    page = opened(report)
    page.click("#tab-nodes")
    page.click(f"{TABLE} .row:has-text('root') .tree b")
    page.keyboard.press("ArrowLeft")
    assert shown_rows(page) == 1
    page.keyboard.press("ArrowRight")
    assert shown_rows(page) > 20
    page.click('#view-nodes >> text="Fold all"')
    assert page.locator(TABLE).get_attribute("aria-rowcount") == "9"
    page.click(f"{TABLE} .rows .row:nth-child(2) .turner")
    assert page.locator(f"{TABLE} .rows .row:nth-child(2)").get_attribute("aria-expanded") == "true"


def test_sorting_puts_the_costliest_first(opened, report):
    page = opened(report)
    page.click("#tab-nodes")
    page.click("text=one flat list")
    page.click(f"{TABLE} .heads >> text=Cost")
    cost = page.locator(f"{TABLE} .rows .row [role=gridcell]:nth-child(8)").all_inner_texts()[:20]
    figures = [float(text.strip("$")) for text in cost]
    assert figures == sorted(figures, reverse=True)


def test_filters_narrow_table_and_timeline_together(opened, report):
    page = opened(report)
    page.click("#tab-timeline")
    everything = pixels(page, TIMELINE)
    page.check("#only-bad")
    found, whole = page.locator("#found").inner_text().split(" of ")
    assert (int(found) < int(whole), whole) == (True, "300")
    assert pixels(page, TIMELINE) != everything
    page.click("#tab-nodes")
    assert int(page.locator(TABLE).get_attribute("aria-rowcount")) < 60
    page.select_option("select >> nth=0", label="depth 3")
    assert int(page.locator("#found").inner_text().split(" of ")[0]) <= int(found)
    page.uncheck("#only-bad")
    page.fill("#min-cost", "1000")
    assert page.locator("#found").inner_text() == "0 of 300"


def test_search_looks_into_the_texts_and_escape_ends_it(opened, report):
    page = opened(report)
    page.click("#tab-nodes")
    page.keyboard.press("/")
    page.keyboard.type("Provider kept failing")
    assert page.locator("#found").inner_text() != "300 nodes"
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("End")
    assert "ModelUnavailableError" in page.locator("#pane").inner_text()
    page.keyboard.press("/")
    page.keyboard.press("Escape")
    assert page.locator("#found").inner_text() == "300 nodes"


def test_the_pane_shows_turns_with_their_texts_calls_maps_and_lost_attempts(opened, report):
    page = opened(report)
    page.click("#tab-nodes")
    page.click(f"{TABLE} .row:has-text('root') .tree b")
    said = page.locator("#pane").inner_text()
    for expected in (
        "Turn 3",
        "recursive_map('What is said?'",
        "parts: list[",
        "7 child sessions; 7 answered, 0 failed",
        "5,000 characters were printed",
    ):
        assert expected in said
    page.click("#pane .links button:text-is('1')")
    assert pane(page) == "1"
    said = page.locator("#pane").inner_text()
    assert "the actor of the session died" in said
    assert "Earlier attempts" in said
    page.click("#pane >> text=↑ parent")
    assert pane(page) == "root"
    page.keyboard.press("Escape")
    assert page.locator("#pane").is_hidden()


def test_the_strip_of_the_context_names_and_selects_its_readers(opened, report):
    page = opened(report)
    page.locator("canvas.coverage").hover(position={"x": 200, "y": 10})
    assert "readers" in page.locator("#tip").inner_text()
    click(page, "canvas.coverage", 200, 10)
    assert pane(page) == "0"


def test_the_theme_follows_the_system_until_it_is_switched(opened, report):
    page = opened(report, colours="dark")
    colour = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(colour)
    page.click("#theme")
    assert page.locator("#theme").inner_text() == "Theme: light"
    assert page.evaluate(colour) != dark
    page.click("#theme")
    assert page.evaluate(colour) == dark


def test_two_runs_stand_side_by_side(opened, report):
    page = opened(report)
    page.click("#tab-compare")
    said = page.locator("#view-compare").inner_text()
    for expected in ("the other", "Both were asked the same question.", "Difference", "depth 2: calls"):
        assert expected in said
    assert page.locator("#view-compare del").count() > 0
    assert page.locator("#view-compare ins").count() > 0


def test_paper_has_the_answer_and_the_nodes_without_the_tools(opened, report):
    page = opened(report)
    page.emulate_media(media="print")
    expect(page.locator("#paper")).to_contain_text("Nodes")
    said = page.locator("#paper").inner_text()
    for expected in ("Three of them did.", "By depth", "100 more nodes not printed", "3.4.10"):
        assert expected in said
    assert page.locator("#tools").is_hidden()
    assert page.locator("#main").is_hidden()


def test_a_text_that_was_cut_says_so(opened, tmp_path):
    long = [*DIRECT[:1], replace(DIRECT[1], text="long " * 5_000), DIRECT[2]]
    write_report(long, tmp_path / "run.html")
    page = opened(tmp_path / "run.html")
    assert "the ends of 1 long text" in page.locator("#view-overview").inner_text()
    page.click("#tab-nodes")
    page.click(f"{TABLE} .row:has-text('root') .tree b")
    assert "The first 20,000 of 25,000 characters" in page.locator("#pane").inner_text()


def test_a_narrow_window_puts_the_pane_below(opened, report):
    page = opened(report, width=800)
    page.click("#tab-nodes")
    page.click(f"{TABLE} .row:has-text('root') .tree b")
    below, above = page.locator("#pane").bounding_box(), page.locator("#views").bounding_box()
    assert below["y"] >= above["y"] + above["height"] - 1
    assert page.evaluate("document.documentElement.scrollWidth") == 800


def test_a_link_opens_its_node_and_the_address_follows_what_is_selected(browser, report):
    page = browser.new_page(viewport={"width": 1280, "height": 700})
    page.goto(f"{report.as_uri()}#node=3.4.10")
    assert pane(page) == "3.4.10"
    row = page.locator(f"{TABLE} .row.selected")
    assert row.inner_text().split()[0] == "3.4.10"
    row_box, box = row.bounding_box(), page.locator(TABLE).bounding_box()
    assert box["y"] <= row_box["y"] <= box["y"] + box["height"]
    page.click("#pane >> text=↑ parent")
    assert page.evaluate("location.hash") == "#node=3.4"
    page.evaluate("location.hash = '#node=root'")
    expect(page.locator("#pane h2")).to_have_text("root")
    page.keyboard.press("Escape")
    assert page.evaluate("location.hash") == ""
    for strange in ("#node=99.99", "#node=%E0%A4%A", "#node=<img src=x>", "#node="):
        page.goto("about:blank")
        page.goto(f"{report.as_uri()}{strange}")
        assert page.locator("#pane").is_hidden()
    page.close()


def test_answer_run_id_code_and_links_can_be_copied(browser, report):
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto(f"{report.as_uri()}#node=root")
    for label, expected in (
        ("answer", "Three of them did."),
        ("code", "parts = split(context"),
        ("link to this node", f"{report.as_uri()}#node=root"),
    ):
        button = page.locator(f"#pane button[aria-label='Copy the {label}']").first
        button.click()
        expect(button).to_have_text("Copied")
        assert page.evaluate("navigator.clipboard.readText()").startswith(expected)
    page.click("#tab-overview")
    page.click("button[aria-label='Copy the run id']")
    page.wait_for_function("navigator.clipboard.readText().then(text => text === 'example')")
    context.close()


def test_waits_in_the_head_are_time_on_the_clock(opened, tmp_path):
    waiting = [
        CallEnded(102.0, (at,), 1, "leaf", "m", "k", 1.0, queue_wait_s=100.0, usage=Usage(5, 5))
        for at in range(1_000)
    ]
    write_report([*DIRECT[:1], *waiting], tmp_path / "run.html")
    page = opened(tmp_path / "run.html")
    head = page.locator("#stats > div", has_text="Waited for a place")
    assert head.inner_text().split("\n") == ["Waited for a place", "1m 40s"]
    assert head.get_attribute("title").endswith("summed over 1,000 calls: 27h 46m")
    row = page.locator("#view-overview tr", has_text="a free place at the model")
    assert row.locator("td").all_inner_texts()[1:] == ["1m 40s", "99.0 %", "27h 46m", "1,000 calls"]


SPLIT_WORDS = """() => {
  const split = [];
  for (const box of document.querySelectorAll("h1, h2, h3, h4, th, td, dt, dd, #tabs button")) {
    const walk = document.createTreeWalker(box, NodeFilter.SHOW_TEXT);
    for (let node = walk.nextNode(); node; node = walk.nextNode()) {
      for (const word of node.data.matchAll(/[\\w.,]{2,24}/g)) {
        const range = document.createRange();
        range.setStart(node, word.index);
        range.setEnd(node, word.index + word[0].length);
        const tops = new Set([...range.getClientRects()].map((rect) => Math.round(rect.top)));
        const long = /\\S{25}/.test(box.textContent);
        if (tops.size > 1 && !long) split.push(word[0]);
      }
    }
  }
  return split;
}"""


@pytest.mark.parametrize("width", [390, 600, 1280])
def test_no_word_of_a_heading_or_a_table_is_broken_and_nothing_is_wider_than_the_window(
    opened, report, width
):
    page = opened(report, width=width)
    for name in ("overview", "compare", "nodes"):
        page.click(f"#tab-{name}")
        assert (name, page.evaluate(SPLIT_WORDS)) == (name, [])
        assert page.evaluate("document.documentElement.scrollWidth") == width
    page.locator(TABLE).focus()
    page.keyboard.press("Home")
    assert page.evaluate(SPLIT_WORDS) == []
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.locator("#pane").bounding_box()["height"] > 150


def test_the_browser_refuses_markup_scripts_and_requests_that_are_not_the_page_s_own(browser, report):
    page = browser.new_page()
    complaints = []
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(report.as_uri())
    assert (
        page.evaluate("() => { try { document.body.innerHTML = '<b>' } catch { return 'refused' } }")
        == "refused"
    )
    assert page.evaluate("() => fetch('http://127.0.0.1:9/').catch(() => 'refused')") == "refused"
    page.evaluate(
        "document.head.append(Object.assign(document.createElement('style'), {textContent: 'h1 {color: red}'}))"
    )
    page.close()
    assert [
        part
        for part in ("TrustedHTML", "connect", "inline style")
        if not any(part in text for text in complaints)
    ] == []


def deep_chain():
    given = InputSummary("text", 10, 1, 0, 10)
    paths = [tuple([0] * depth) for depth in range(101)]
    sessions = [SessionOpened(1.0 + len(path), path, f"level {len(path)}", given, "m", "a") for path in paths]
    call = CallEnded(300.0, paths[-1], 1, "turn", "m", "k", 200.0, usage=Usage(5, 5), cost_usd=1.0)
    return [RunStarted(1.0, "deep", "how deep?", {}, given, "1"), *sessions, call]


DIRECT = [
    RunStarted(1.0, "direct", "why?", {}, InputSummary("text", 9, 1, 0, 9), "1"),
    CallEnded(3.0, (), 1, "direct", "m", "k", 1.5, usage=Usage(9, 9), text="because"),
    RunFinished(3.0, "answered", answer="because"),
]
UNFINISHED = [
    *DIRECT[:1],
    SessionOpened(1.5, (), "why?", InputSummary(), "m", "a"),
    CallSent(2.0, (), 1, "turn", "m", "k"),
]
SHAPES = {
    "empty": ([], "unfinished"),
    "one direct call": (DIRECT, "answered"),
    "just begun": (UNFINISHED, "unfinished"),
    "killed in the middle": (example_run(60, ended=False), "unfinished"),
    "without content": ([without_content(record) for record in example_run(60)], "answered"),
    "a hundred levels deep": (deep_chain(), "unfinished"),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_runs_of_every_shape_can_be_looked_at(opened, tmp_path, shape):
    records, state = SHAPES[shape]
    write_report(records, tmp_path / "run.html", other=DIRECT)
    page = opened(tmp_path / "run.html")
    assert page.locator(".title .pill").inner_text() == state
    page.evaluate("document.querySelectorAll('[role=tab]').forEach(tab => tab.click())")
    page.click("#tab-nodes")
    page.locator(TABLE).focus()
    page.keyboard.press("End")
    assert page.locator("#pane h2").inner_text() != ""
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert "Nodes" in page.locator("#paper").text_content()
