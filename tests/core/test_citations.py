"""Whether words stand in a context, where, and which true words are nearest to those that do not."""

from __future__ import annotations

import itertools
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_ray.core import citations
from rlm_ray.core.citations import Refused, check
from rlm_ray.core.context import make_context
from rlm_ray.core.pages import page_of
from rlm_ray.core.repl_types import Citation, CitationRequest

ALICE = "Alice was beginning to get very tired of sitting by her sister on the bank"
DOCUMENTS = [
    {"id": "cat.txt", "text": "The cat sat\n   on the mat. Grüße über alles"},
    {"id": "alice", "text": f"One\ftwo three four\f{ALICE}, and of having nothing to do."},
    {"id": "report.pdf#page=7", "text": "Revenue rose by 4.2 % to $1,234 million."},
    {"id": "empty", "text": ""},
]
TEXT = f"First line.\n\n\t{ALICE},\r\n  and of having nothing to do: «once or twice» 🙂 she had peeped."


def found(quote, context, number=None):
    return check(CitationRequest(quote, number), make_context(context), time.monotonic)


@pytest.mark.parametrize(
    ("quote", "document", "stands", "page"),
    [
        ("cat sat on the mat", "cat.txt", "cat sat\n   on the mat", None),
        ("cat sat\n   on the mat", "cat.txt", "cat sat\n   on the mat", None),
        ("  The\tcat   sat  ", "cat.txt", "The cat sat", None),
        ("Grüße über", "cat.txt", "Grüße über", None),
        ("alles", "cat.txt", "alles", None),
        (ALICE, "alice", ALICE, 3),
        ("two three", "alice", "two three", 2),
        ("One", "alice", "One", 1),
        ("$1,234 million", "report.pdf#page=7", "$1,234 million", 7),
        (".", "cat.txt", ".", None),
    ],
)
def test_true_words_are_found_in_documents(quote, document, stands, page):
    cited = found(quote, DOCUMENTS)
    assert isinstance(cited, Citation)
    assert (cited.document, cited.quote, cited.page) == (document, stands, page)
    text = next(item["text"] for item in DOCUMENTS if item["id"] == document)
    assert text[cited.start : cited.end] == stands


@pytest.mark.parametrize(
    "quote", [ALICE, "First line.", "«once or twice»", "nothing to do: «once", "🙂 she", "peeped."]
)
def test_true_words_are_found_in_one_text(quote):
    cited = found(quote, TEXT)
    assert TEXT[cited.start : cited.end] == cited.quote
    assert cited.quote.split() == quote.split()
    assert (cited.document, cited.number) == ("", None)
    assert TEXT.startswith(cited.before, cited.start - len(cited.before))
    assert TEXT.startswith(cited.after, cited.end)


@pytest.mark.parametrize(
    ("quote", "number", "why"),
    [
        (
            ALICE.replace("tired", "weary"),
            None,
            f"the nearest words that do are '{ALICE}' (alice, page 3, characters",
        ),
        (ALICE.replace("her sister", "his brother"), None, f"'{ALICE}'"),
        ("alice was beginning to get very tired", None, "'Alice was beginning to get very tired'"),
        ("the cat sat on the mat", None, "'The cat sat on the mat' (cat.txt"),
        ("Revenue fell by 4.2 % to $1,234 million.", None, "'Revenue rose by 4.2 % to $1,234 million.'"),
        ("the moon is made of green cheese", None, "nor do words like it"),
        ("zzz", None, "nor do words like it"),
        ("alles One", None, "does not stand in the context"),
        ("allesOne", None, "does not stand in the context"),
        ("cat sat", 1, "does not stand in document 'alice'; it stands in cat.txt, characters 4-11"),
        ("anything", 4, "there is no document 4"),
        (" \n ", None, "without words"),
        ("x" * 5_001, None, "5,001 characters"),
    ],
)
def test_untrue_words_are_refused_with_the_nearest_true_ones(quote, number, why):
    refused = found(quote, DOCUMENTS, number)
    assert isinstance(refused, Refused)
    assert why in refused.why


def test_words_of_a_text_that_were_altered_are_refused():
    refused = found(ALICE.replace("beginning", "starting"), TEXT)
    assert f"the nearest words that do are '{ALICE}'" in refused.why


@pytest.mark.parametrize("text", ["", [], [""], [{"id": "a", "text": ""}]])
def test_nothing_stands_in_an_empty_context(text):
    assert isinstance(found("words", text), Refused)


@given(
    st.lists(st.text(st.characters(codec="utf-8"), max_size=80), min_size=1, max_size=6),
    st.data(),
)
def test_every_stretch_of_a_document_is_found_where_it_may_stand(texts, data):
    context = make_context(texts)
    number = data.draw(st.integers(0, len(texts) - 1))
    text = texts[number]
    start = data.draw(st.integers(0, len(text)))
    quote = text[start : data.draw(st.integers(start, len(text)))]
    cited = check(CitationRequest(quote, number), context, time.monotonic)
    if not quote.strip():
        assert isinstance(cited, Refused)
        return
    assert isinstance(cited, Citation)
    assert cited.quote == text[cited.start : cited.end]
    assert cited.quote.split() == quote.split()


@pytest.mark.parametrize("filler", ["a", "ü", "🙂"])
def test_words_across_the_stretches_that_are_read_are_found(filler, monkeypatch):
    monkeypatch.setattr(citations, "_STRETCH", 64)
    monkeypatch.setattr(citations, "_MORE_SPACE", 16)
    for length in range(50, 70):
        text = f"{filler * length} the quick\n brown   fox {filler * 200}"
        cited = found("the quick brown fox", text)
        assert text[cited.start : cited.end] == "the quick\n brown   fox"


def test_a_check_ends_when_its_time_is_over():
    ticks = itertools.count(step=citations.MAX_CHECK_S)
    refused = check(CitationRequest("not there"), make_context("x " * 10_000), lambda: next(ticks))
    assert "was not found within 10 s" in refused.why


def test_what_code_gets_is_json_without_what_is_not_known():
    assert json.loads(citations.to_json(found("two three", DOCUMENTS))) == {
        "quote": "two three", "document": "alice", "start": 4, "end": 13, "page": 2,
    }  # fmt: skip
    assert json.loads(citations.to_json(found("First line.", TEXT))) == {
        "quote": "First line.", "start": 0, "end": 11,
    }  # fmt: skip


MARKED = "[page 1]\nThe first page.\n\n[page 2]\nThe second one.\n\\[page 9]\n\n[page 10]\nThe tenth one says [page 3] too."


@pytest.mark.parametrize("stretch", [1 << 20, 64, 33])
@pytest.mark.parametrize(
    ("quote", "page"),
    [("first page", 1), ("The second one", 2), ("tenth one", 10), ("too.", 10), ("[page 2]", 2)],
)
def test_page_is_that_of_the_last_marker_before_the_words(monkeypatch, quote, page, stretch):
    monkeypatch.setattr(citations, "_STRETCH", stretch)
    cited = found(quote, [{"id": "paper.pdf", "text": MARKED}])
    assert cited.page == page
    assert page_of(MARKED, cited.start) == page
