"""Each feature of the service's web page, in a real browser, against a service that plays a script."""

from __future__ import annotations

import re

import pytest
from accessibility import MODES, violations
from chromium import open_chromium
from page_service import called, closed, map_ended, mapped, opened, ran, serve_page
from playwright.sync_api import expect

from rlm_ray.serve.http.errors import ApiError

pytestmark = pytest.mark.slow

QUESTION = "Which of the parties changed their position?"
HOSTILE = '<img src=x onerror="window.hacked=1"> & <b>bold</b>'


@pytest.fixture(scope="module")
def served():
    with serve_page() as service:
        yield service


@pytest.fixture(scope="module")
def tab(served):
    with open_chromium() as browser:
        context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
        page = context.new_page()
        page.set_default_timeout(20_000)
        yield page
        context.close()


@pytest.fixture
def service(served):
    for each in (served.runs, served.files, served.refusals, served.held, served.cut):
        each.clear()
    yield served
    served.held.clear()
    for run in served.runs:
        if run.facts.state == "running":
            run.end(state="cancelled", why="the test is over")


@pytest.fixture
def blank(tab, service):
    """The page without a key; it may not throw."""
    errors = []
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.set_viewport_size({"width": 1280, "height": 860})
    tab.emulate_media(media="screen", color_scheme="light")
    tab.goto(service.url)
    yield tab
    tab.evaluate("sessionStorage.clear()")
    tab.goto("about:blank")
    assert errors == []


@pytest.fixture
def page(blank):
    """The page with the key of ann, its models and runs loaded."""
    return enter_key(blank, "sk-ann")


def enter_key(page, key):
    page.get_by_label("Key").fill(key)
    page.get_by_label("Key").press("Tab")
    expect(page.locator("#model option")).to_have_count(2)
    return page


def chosen(*names, size=100):
    return [{"name": name, "mimeType": "text/plain", "buffer": b"x" * size} for name in names]


def ask(page, service, question=QUESTION, files=()):
    """Ask, and return the run that the page then shows."""
    count = len(service.runs)
    page.get_by_label("Question").fill(question)
    if files:
        page.locator("#files").set_input_files(list(files))
    page.get_by_role("button", name="Ask").click()
    expect(page.locator("#figures")).to_have_text("waiting for its first call")
    assert len(service.runs) == count + 1
    return service.runs[-1]


def test_without_a_key_the_page_asks_for_one_and_says_where_it_is_kept(blank):
    expect(blank.get_by_role("alert")).to_have_text(
        "Enter your key; whoever runs this service gives you one."
    )
    expect(blank.locator("#key-note")).to_have_text("Kept in this tab only, until it is closed.")


def test_a_wrong_key_is_said_and_a_right_one_is_kept_while_the_tab_lives(blank):
    blank.get_by_label("Key").fill("sk-wrong")
    blank.get_by_label("Key").press("Tab")
    expect(blank.get_by_role("alert")).to_have_text("This service does not know the key; check it.")
    enter_key(blank, "sk-ann")
    expect(blank.get_by_role("alert")).to_be_hidden()
    blank.reload()
    expect(blank.locator("#model option")).to_have_count(2)
    expect(blank.get_by_label("Key")).to_have_value("sk-ann")
    assert blank.evaluate("localStorage.length") == 0


def test_a_question_about_pasted_text_is_sent_with_the_chosen_model(page, service):
    page.get_by_label("Text", exact=True).fill("Some text.")
    page.get_by_label("Model").select_option("rlm/shallow")
    run = ask(page, service)
    assert run.body == {"model": "rlm/shallow", "query": QUESTION, "file_ids": [], "context": "Some text."}


def test_control_enter_asks_from_the_question(page, service):
    page.get_by_label("Question").fill(QUESTION)
    page.get_by_label("Question").press("Control+Enter")
    expect(page.locator("#state")).to_have_text("Running")
    assert [run.body["query"] for run in service.runs] == [QUESTION]


def test_a_question_is_required(page, service):
    page.get_by_role("button", name="Ask").click()
    assert page.get_by_label("Question").evaluate("box => box.validity.valueMissing")
    assert service.runs == []


def test_the_tree_grows_as_records_come_and_tells_states_without_colour(page, service):
    run = ask(page, service)
    run.write(opened(), called(), ran(), mapped(count=12, sessions=2), opened(0), opened(1))
    lines = page.locator("#tree li > .node")
    expect(lines).to_have_count(4)
    run.write(*(called(at, role="leaf") for at in range(2, 7)))
    expect(lines.nth(1)).to_have_text("10 sub-calls: what is in it?5 of 10")
    run.write(closed(0), closed(1, error="ModelError"))
    expect(page.get_by_role("img", name="failed")).to_have_count(1)
    expect(page.get_by_role("img", name="done")).to_have_count(1)
    expect(page.get_by_role("img", name="running")).to_have_count(2)
    run.write(map_ended(), closed())
    run.end("Three of them did.")
    expect(page.get_by_role("img", name="running")).to_have_count(0)


def test_what_was_below_a_session_that_failed_runs_no_more(page, service):
    run = ask(page, service)
    run.write(opened(), opened(0), mapped(0, count=20), closed(0, error="ModelError"))
    expect(page.get_by_role("img", name="failed")).to_have_count(1)
    expect(page.get_by_role("img", name="stopped")).to_have_count(1)
    expect(page.get_by_role("img", name="running")).to_have_count(1)


def test_a_tree_of_a_thousand_sessions_is_drawn_in_part_and_says_so(page, service):
    run = ask(page, service)
    run.write(opened(), *(opened(at) for at in range(1_000)))
    expect(page.locator("#undrawn")).to_have_text("601 more lines not drawn; the report has all.")
    expect(page.locator("#tree li")).to_have_count(400)


def test_cost_so_far_is_shown_while_it_runs_and_the_whole_at_the_end(page, service):
    run = ask(page, service)
    run.write(opened(), called())
    expect(page.locator("#figures")).to_have_text("1 session · 1 call · 1,020 tokens · $0.0125 so far")
    run.write(called(number=2, cost_usd=1.5))
    expect(page.locator("#figures")).to_have_text("1 session · 2 calls · 2,040 tokens · $1.51 so far")
    run.end("Three of them did.")
    expect(page.locator("#figures")).to_have_text("1 session · 2 calls · 2,040 tokens · $1.51 · 4.2 s")


def test_the_answer_is_shown_copied_and_linked_to_its_report(page, service):
    run = ask(page, service)
    run.end("Three of them did:\n1. North")
    expect(page.locator("#state")).to_have_text("Answered")
    expect(page.get_by_role("region", name="Answer")).to_have_text("Three of them did:\n1. North")
    page.get_by_role("button", name="Copy").click()
    expect(page.locator("#copy")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == "Three of them did:\n1. North"
    link = page.get_by_role("link", name="Open the report")
    assert link.get_attribute("href") == f"v1/runs/{run.facts.id}/report?ticket=t"
    assert link.get_attribute("target") == "_blank"


def test_several_files_are_named_with_their_sizes_removed_and_sent(page, service):
    page.locator("#files").set_input_files(
        [*chosen("book.txt", size=1_234), *chosen("letter.md"), *chosen("scan.pdf", size=2_500_000)]
    )
    expect(page.locator("#chosen li")).to_have_text(
        ["book.txt1.2 kBRemove", "letter.md100 bytesRemove", "scan.pdf2.5 MBRemove"]
    )
    page.get_by_role("button", name="Remove letter.md").click()
    expect(page.locator("#chosen li")).to_have_count(2)
    run = ask(page, service)
    assert service.files == ["book.txt", "scan.pdf"]
    assert run.body["file_ids"] == ["file-0", "file-1"]


def test_files_are_dropped_on_the_form_and_join_those_that_are_chosen(page, service):
    page.locator("#files").set_input_files(chosen("book.txt"))
    transfer = page.evaluate_handle(
        """() => {
          const data = new DataTransfer();
          for (const name of ["letter.md", "notes.txt"]) data.items.add(new File(["Words."], name));
          return data;
        }"""
    )
    page.dispatch_event("#form", "dragover", {"dataTransfer": transfer})
    expect(page.locator("#form")).to_have_class("over")
    page.dispatch_event("#form", "drop", {"dataTransfer": transfer})
    expect(page.locator("#form")).to_have_class("")
    expect(page.locator("#chosen b")).to_have_text(["book.txt", "letter.md", "notes.txt"])
    ask(page, service)
    assert service.files == ["book.txt", "letter.md", "notes.txt"]


def test_what_is_sent_is_said_while_it_is_sent(page, service):
    service.held.add("/v1/files")
    page.get_by_label("Question").fill(QUESTION)
    page.locator("#files").set_input_files(chosen("book.txt", "letter.md"))
    page.get_by_role("button", name="Ask").click()
    expect(page.locator("#progress")).to_have_text("Sending book.txt (1 of 2) …")
    expect(page.get_by_role("button", name="Ask")).to_be_disabled()
    service.held.clear()
    expect(page.locator("#state")).to_have_text("Running")
    expect(page.locator("#progress")).to_be_hidden()


def test_a_file_that_is_refused_is_named_in_one_sentence_and_nothing_is_asked(page, service):
    service.refusals["/v1/files"] = ApiError(413, "too_large", "a file may have 200 MB at most")
    page.get_by_label("Question").fill(QUESTION)
    page.locator("#files").set_input_files(chosen("book.txt"))
    page.get_by_role("button", name="Ask").click()
    expect(page.get_by_role("alert")).to_have_text("book.txt: a file may have 200 MB at most")
    expect(page.get_by_role("button", name="Ask")).to_be_enabled()
    assert service.runs == []


@pytest.mark.parametrize(
    ("state", "why", "word"),
    [
        ("failed", "broken.pdf: is no PDF, or a broken one; take it out, or save it again", "Failed"),
        ("failed", "the provider refused the key of the model", "Failed"),
        ("stopped", "the limit of 2 calls is reached", "Stopped by a limit"),
        ("cancelled", "the run was cancelled", "Cancelled"),
    ],
)
def test_a_run_without_an_answer_says_why(page, service, state, why, word):
    run = ask(page, service)
    run.end(state=state, why=why)
    expect(page.locator("#state")).to_have_text(word)
    expect(page.locator("#answer")).to_have_text(why)
    assert page.locator("#answer").get_attribute("data-state") == state


@pytest.mark.parametrize(
    ("status", "why"),
    [
        (403, "this key may not use rlm/deep; it may use rlm/shallow"),
        (429, "this key has spent its budget of $1"),
        (503, "no session is free; try again in 5 seconds"),
    ],
)
def test_a_question_that_is_refused_says_why_and_can_be_asked_again(page, service, status, why):
    service.refusals["/v1/runs"] = ApiError(status, "refused", why)
    page.get_by_label("Question").fill(QUESTION)
    page.get_by_role("button", name="Ask").click()
    expect(page.get_by_role("alert")).to_have_text(why)
    ask(page, service)
    expect(page.get_by_role("alert")).to_be_hidden()


def test_a_service_that_is_gone_is_said(page):
    page.context.set_offline(True)
    try:
        page.get_by_label("Question").fill(QUESTION)
        page.get_by_role("button", name="Ask").click()
        expect(page.get_by_role("alert")).to_have_text(
            "the service does not answer; check that it runs, and try again"
        )
    finally:
        page.context.set_offline(False)


def test_a_stream_that_breaks_says_that_the_run_goes_on(page, service):
    run = ask(page, service)
    service.cut.add(run.facts.id)
    expect(page.get_by_role("alert")).to_have_text(
        "the connection was lost; the run goes on: it is among your last runs"
    )
    expect(page.get_by_role("button", name="Ask")).to_be_enabled()


def test_a_run_is_stopped_and_another_one_can_be_asked(page, service):
    run = ask(page, service)
    expect(page.get_by_role("button", name="Ask")).to_be_disabled()
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#state")).to_have_text("Cancelled")
    assert run.facts.state == "cancelled"
    expect(page.get_by_role("button", name="Stop")).to_be_hidden()
    expect(page.get_by_role("button", name="Ask")).to_be_enabled()


def test_the_last_runs_of_the_key_are_listed_shown_again_and_watched_where_they_run(blank, service):
    service.add("An earlier question").end("An earlier answer.")
    going = service.add("A question under way")
    service.add("Of somebody else", key="sk-bob").end("Not for ann.")
    page = enter_key(blank, "sk-ann")
    runs = page.locator("#runs li")
    expect(runs).to_have_text(
        [
            re.compile(r"A question under way Running\w+ \d+, \d{4}, "),
            re.compile("An earlier question Answered"),
        ]
    )
    runs.nth(1).get_by_role("button").click()
    expect(page.locator("#answer")).to_have_text("An earlier answer.")
    expect(page.locator("#runs [aria-current]")).to_have_text("An earlier question")
    runs.nth(0).get_by_role("button").click()
    expect(page.locator("#answer")).to_be_hidden()
    going.end("It is done.")
    expect(page.locator("#answer")).to_have_text("It is done.")
    expect(runs.nth(0)).to_contain_text("Answered")


def test_another_key_sees_nothing_of_the_first_one(page, service):
    ask(page, service).end("Only for ann.")
    expect(page.locator("#runs li")).to_have_count(1)
    page.get_by_label("Key").fill("sk-bob")
    page.get_by_label("Key").press("Tab")
    expect(page.locator("#run")).to_be_hidden()
    expect(page.locator("#history")).to_be_hidden()


def test_texts_of_a_run_are_never_markup(page, service):
    run = ask(page, service, HOSTILE, chosen("<b>book<b>.txt"))
    run.write(opened(query=HOSTILE), mapped())
    run.end(HOSTILE)
    expect(page.locator("#answer")).to_have_text(HOSTILE)
    expect(page.locator("#runs button")).to_have_text(HOSTILE)
    assert page.locator("main img:not([role]), main b:not(#chosen b)").count() == 0
    assert page.evaluate("window.hacked ?? null") is None


def test_everything_is_reached_by_the_tab_key_in_the_order_of_the_page(page, service):
    service.add("An earlier question").end("An earlier answer.")
    page.locator("#files").set_input_files(chosen("book.txt"))
    page.reload()
    page.locator("#files").set_input_files(chosen("book.txt"))
    page.locator("#runs button").click()
    page.locator("#answer").wait_for()
    page.get_by_label("Key").focus()
    reached = []
    for _ in range(10):
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
        page.keyboard.press("Tab")
    assert reached == [
        "key", "query", "context", "files", "Remove", "model", "ask", "report", "answer", "copy",
    ]  # fmt: skip
    assert page.evaluate("document.activeElement.textContent") == "An earlier question"


def test_a_list_that_is_read_again_keeps_the_focus_where_it_was(page, service):
    service.add("An earlier question").end("An earlier answer.")
    page.reload()
    run = ask(page, service)
    page.locator("#runs button").focus()
    run.end("Three of them did.")
    expect(page.locator("#runs button")).to_have_count(2)
    assert page.evaluate("document.activeElement.textContent") == "An earlier question"


def test_on_paper_is_the_run_without_the_form(page, service):
    ask(page, service).end("Three of them did.")
    page.locator("#answer").wait_for()
    page.emulate_media(media="print")
    assert page.locator("#answer").is_visible()
    assert [page.locator(part).is_visible() for part in ("#form", "#history", "#copy")] == [False] * 3


def full(page, service):
    """A page with something in each of its parts."""
    service.add(f"An earlier question, {'rather long ' * 20}").end("An earlier answer.")
    service.add("A question that failed").end(state="failed", why="the provider refused the key")
    page.reload()
    run = ask(page, service, f"{QUESTION} " * 10, chosen(f"{'minutes of the council ' * 5}.pdf", "a.txt"))
    run.write(
        opened(query=QUESTION * 5),
        called(),
        ran(),
        mapped(count=12, sessions=1),
        opened(0),
        closed(0, error="E"),
    )
    expect(page.get_by_role("img", name="failed")).to_have_count(1)
    return run


@pytest.mark.parametrize(("width", "colours"), MODES)
def test_axe_finds_nothing_at_any_moment_and_nothing_is_wider_than_the_window(blank, service, width, colours):
    blank.set_viewport_size({"width": width, "height": 860})
    blank.emulate_media(color_scheme=colours)
    blank.get_by_role("alert").wait_for()
    found = {"without a key": violations(blank)}
    page = enter_key(blank, "sk-ann")
    run = full(page, service)
    found["while it runs"] = violations(page)
    run.end("A long answer. " * 500)
    page.locator("#answer").wait_for()
    found["answered"] = violations(page)
    page.get_by_role("button", name="A question that failed").click()
    expect(page.locator("#state")).to_have_text("Failed")
    found["failed"] = violations(page)
    assert {moment: wrong for moment, wrong in found.items() if wrong} == {}
    assert page.evaluate("document.documentElement.scrollWidth") <= width
