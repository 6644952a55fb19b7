"""The web page in a real browser and the real service: ask, watch, stop, open the report. Its features: tests/serve/test_page.py."""

from __future__ import annotations

import os
import re

import pytest
from chromium import open_chromium
from playwright import sync_api as playwright

from rlm_ray.testing.responses import run_query

pytestmark = pytest.mark.ray

SHOTS = os.environ.get("RLM_RAY_TEST_SHOTS", "")
"""A folder for pictures of the page, to be looked at."""


@pytest.fixture(scope="module")
def browser():
    with open_chromium() as opened:
        yield opened


@pytest.fixture
def page(browser, site):
    """The page with a key, and nothing that it may complain about."""
    page = browser.new_page(viewport={"width": 1280, "height": 860})
    complaints = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda request: complaints.append(request.url))
    page.goto(site.url)
    page.get_by_label("Key").fill("sk-ann")
    page.get_by_label("Key").press("Tab")
    playwright.expect(page.locator("#model option")).to_have_count(4)
    yield page
    page.close()
    assert complaints == []


def shoot(page, name):
    if SHOTS:
        page.screenshot(path=f"{SHOTS}/{name}.png", full_page=True)


def test_a_question_over_pasted_text_is_answered_and_its_report_opened(page):
    page.get_by_label("Question").fill(run_query("print(recursive_map('what is in it?', ['a'] * 20))"))
    page.get_by_label("Text", exact=True).fill("Some text. " * 500)
    shoot(page, "asked")
    page.get_by_role("button", name="Ask", exact=True).click()
    page.locator("#tree li").first.wait_for()
    playwright.expect(page.locator("#state")).to_have_text("Answered")
    assert page.locator("#answer").inner_text() == "session done"
    assert "turn 2" in page.locator("#tree").inner_text()
    assert "20 of 20" in page.locator("#tree").inner_text()
    shoot(page, "answered")
    with page.expect_popup() as opened:
        page.get_by_role("link", name="Open the report").click()
    report = opened.value
    report.get_by_text("session done").first.wait_for()
    shoot(report, "report")
    report.close()


GROWING = run_query(*["recursive_map('q', ['piece'] * 60)"] * 20, "recursive_llm('HANG' 'ING')")
"""At work for seconds, and then until it is cancelled: a browser of a loaded machine takes its time to click."""


def test_the_tree_grows_while_the_run_is_watched_and_can_be_cancelled(page, models):
    page.get_by_label("Question").fill(GROWING)
    page.locator("#files").set_input_files(
        [{"name": "book.txt", "mimeType": "text/plain", "buffer": b"A book. " * 1000}]
    )
    page.get_by_role("button", name="Ask", exact=True).click()
    playwright.expect(page.locator("#tree")).to_contain_text(re.compile(r"[1-9]\d* of 60"))
    early = page.locator("#figures").inner_text()
    playwright.expect(page.locator("#figures")).not_to_have_text(early)
    shoot(page, "growing")
    page.get_by_role("button", name="Stop", exact=True).click()
    playwright.expect(page.locator("#state")).to_have_text("Cancelled")
    assert page.get_by_role("button", name="Ask", exact=True).is_enabled()


def test_documents_are_asked_about_and_a_quote_has_its_page(page, samples):
    look = "quote = 'The keeper of the third page'; text = context[0]['text']; before = text[: text.index(quote)]"
    page.get_by_label("Question").fill(
        run_query(f"{look}\nFINAL(quote + ' is on ' + before[before.rindex('[page') :].strip())")
    )
    page.locator("#files").set_input_files(
        [samples / "good" / "prices.pdf", samples / "good" / "harbour.docx"]
    )
    shoot(page, "documents")
    page.get_by_role("button", name="Ask", exact=True).click()
    playwright.expect(page.locator("#state")).to_have_text("Answered")
    assert page.locator("#answer").inner_text() == "The keeper of the third page is on [page 3]"
    shoot(page, "documents-answered")


def test_the_last_runs_of_the_key_are_listed_and_shown_again(page, browser, site):
    question = run_query("FINAL('the answer of the history')")
    page.get_by_label("Question").fill(question)
    page.get_by_label("Text", exact=True).fill("Some text. " * 500)
    page.get_by_role("button", name="Ask", exact=True).click()
    playwright.expect(page.locator("#state")).to_have_text("Answered")
    first = page.locator("#runs li").first
    playwright.expect(first).to_contain_text("Answered")
    playwright.expect(first).to_contain_text(question)
    page.reload()
    page.locator("#runs li button").first.click()
    playwright.expect(page.locator("#answer")).to_have_text("session done")
    shoot(page, "history")
    other = browser.new_page()
    other.goto(site.url)
    other.get_by_label("Key").fill("sk-bob")
    other.get_by_label("Key").press("Tab")
    other.locator("#model option").first.wait_for(state="attached")
    assert question not in other.locator("body").inner_text()
    other.close()
