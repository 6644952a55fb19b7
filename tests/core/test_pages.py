"""Which page a character of a document stands on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_ray.core.pages import escape_markers, mark_parts, page_of


def test_page_of_a_quote():
    text = mark_parts("page", [(1, "about otters"), (2, "about foxes"), (3, "about otters again")])
    assert page_of(text, text.index("foxes")) == 2
    assert page_of({"id": "a.pdf", "text": text}, text.index("again")) == 3
    assert page_of("\n[page 1]\nx", 0) is None  # before the first


@pytest.mark.parametrize(
    ("text", "quote", "page"),
    [
        ("no pages here", "pages", None),
        ("", "", None),
        ("before\n[page 1]\nafter", "before", None),
        ("before\n[page 1]\nafter", "after", 1),
        ("[slide 4]\nteal", "teal", 4),
        ("[sheet Prices]\n12", "12", None),
        ("[page 2]\nsee [page 9] for more", "more", 2),
        ("[page 2]\n\\[page 9]\nmore", "more", 2),
        ("[page 2]\n[page 09]\n[page x]\n[page 9] \nmore", "more", 2),
        ("[page 12]\n[page 13]\nmore", "more", 13),
        ("[page 12]\nmore", "[page", 12),
        ("[page 12]\nmore", "2]", 12),
    ],
)
def test_only_lines_that_the_converter_wrote_number_pages(text, quote, page):
    assert page_of(text, text.index(quote)) == page


LINES = st.lists(st.sampled_from(["[page 3]", "[slide 1]", "words", "", "[page", "\\[page 3]", "[page 3]\r", "x\f[page 8]"]), max_size=8)  # fmt: skip


@given(st.lists(LINES, min_size=1, max_size=5))
def test_no_document_numbers_its_own_pages(pages):
    text = mark_parts(
        "page",
        enumerate(("\n".join([*lines, f"mark {number} here"]) for number, lines in enumerate(pages, 1)), 1),
    )
    for number in range(1, len(pages) + 1):
        assert page_of(text, text.index(f"mark {number} here")) == number


@given(st.text(), st.integers(-5, 50))
def test_any_text_and_offset_has_an_answer(text, offset):
    assert page_of(escape_markers(text), offset) is None
