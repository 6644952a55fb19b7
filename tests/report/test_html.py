"""The HTML of a report: nothing in a journal can become markup, and nothing is loaded from anywhere."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_ray.events.records import RunFinished, RunStarted
from rlm_ray.report import make_report, write_report
from rlm_ray.report.html import data_block
from rlm_ray.testing.sample_run import XSS_PAYLOAD, example_run

PAGE = make_report(example_run(60), other=example_run(40, seed=2))
OPENED = example_run(2)[0]


class Elements(HTMLParser):
    """The elements of a page, with their attributes and the text of scripts and styles."""

    def __init__(self, page):
        super().__init__()
        self.found, self.inside = [], False
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs), []))
        self.inside = True

    def handle_data(self, data):
        if self.inside:
            self.found[-1][2].append(data)

    def handle_endtag(self, tag):
        self.inside = False

    def of(self, tag):
        return [(attrs, "".join(texts)) for name, attrs, texts in self.found if name == tag]


def data_of(page):
    (found,) = [text for attrs, text in Elements(page).of("script") if attrs.get("id") == "data"]
    return json.loads(found)


@given(st.text() | st.sampled_from([XSS_PAYLOAD, "<!--", "-->", "]]>", "</SCRIPT >", "\ud800", "\u2028"]))
def test_any_text_comes_out_of_the_data_block_as_it_went_in(text):
    block = data_block({"text": text})
    assert json.loads(block) == {"text": text}
    assert not re.search("[<>&\u2028\u2029\ud800-\udfff]", block)
    block.encode()


def test_a_hostile_journal_adds_no_element():
    harmless = make_report(
        [RunStarted(1.0, "r", "q", {}, OPENED.input, "1"), RunFinished(2.0, "answered", answer="a")]
    )
    hostile = make_report(
        [
            RunStarted(1.0, XSS_PAYLOAD, XSS_PAYLOAD, {XSS_PAYLOAD: XSS_PAYLOAD}, OPENED.input, XSS_PAYLOAD),
            RunFinished(2.0, XSS_PAYLOAD, XSS_PAYLOAD),
        ]
    )
    assert [tag for tag, *_ in Elements(hostile).found] == [tag for tag, *_ in Elements(harmless).found]


def test_slots_of_the_page_that_stand_in_a_journal_are_not_filled():
    page = make_report([RunStarted(1.0, "r", "{{script}} {{data}}", {}, OPENED.input, "1")])
    assert data_of(page)["run"]["head"]["query"] == "{{script}} {{data}}"
    assert "<title>{{script}} {{data}}" in page


def test_the_policy_allows_the_parts_of_the_page_and_nothing_else():
    elements = Elements(PAGE)
    (policy,) = [attrs["content"] for attrs, _ in elements.of("meta") if "http-equiv" in attrs]
    (style,) = [text for _, text in elements.of("style")]
    (script,) = [text for attrs, text in elements.of("script") if "id" not in attrs]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    hashes = [
        "'sha256-" + base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() + "'"
        for part in (style, script)
    ]
    assert [rules["style-src"], rules["script-src"]] == hashes
    assert rules["default-src"] == "'none'"
    assert "unsafe" not in policy


def test_the_page_names_no_other_resource():
    for _, attrs, _ in Elements(PAGE).found:
        assert not {"src", "srcset", "action", "style"} & set(attrs)
        assert attrs.get("href", "#").startswith("#")


@pytest.mark.parametrize(
    "danger", ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "fetch("]
)
def test_the_code_of_the_page_makes_no_markup_and_no_request(danger):
    (script,) = [text for attrs, text in Elements(PAGE).of("script") if "id" not in attrs]
    assert danger not in script


def test_a_comparison_has_the_figures_of_the_other_run_and_what_changed():
    data = data_of(PAGE)
    assert data["same_question"] is True
    assert data["other"]["totals"]["nodes"] == 40
    assert {"gone", "new"} <= {kind for kind, _ in data["changes"]}


def test_a_report_is_written_as_utf_8(tmp_path):
    write_report([RunStarted(1.0, "r", "où? 東京 \ud800", {}, OPENED.input, "1")], tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert data_of(page)["run"]["head"]["query"] == "où? 東京 \ud800"


def test_a_node_takes_less_than_a_kilobyte_of_the_page():
    small, large = (len(make_report(example_run(nodes)).encode()) for nodes in (100, 1_100))
    assert large - small < 1_000 * 1_000
