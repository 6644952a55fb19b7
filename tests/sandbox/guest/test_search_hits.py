"""What a search finds, in this process: the document, the offset, and a line to know it by."""

from __future__ import annotations

import re

import pytest

from rlm_ray.sandbox.guest.search import DocumentSearch

WITH_IDS = [
    {"id": "a", "text": "first line\nneedle here\nend"},
    {"id": "b", "text": "nothing"},
    {"id": "c", "text": "needle\n"},
]


def search_of(documents):
    return DocumentSearch(documents, [each if isinstance(each, str) else each["text"] for each in documents])


def test_first_match_of_each_document_has_its_id_offset_and_line():
    hits = search_of(WITH_IDS).search("needle")
    assert [dict(hit) for hit in hits] == [
        {"document": 0, "id": "a", "offset": 11, "line": "needle here"},
        {"document": 2, "id": "c", "offset": 0, "line": "needle"},
    ]
    assert [(hit.number, hit.stretch) for hit in hits] == [(0, None), (2, None)]
    assert [dict(hit) for hit in search_of(["x needle"]).search("needle")] == [
        {"document": 0, "offset": 2, "line": "x needle"}
    ]


def test_only_the_top_are_shown_and_all_are_counted():
    hits = search_of(["x"] * 5).search("x", top=2)
    assert (len(hits), hits.total) == (2, 5)
    assert repr(hits).endswith("\n(2 of 5 documents that match)")
    assert "documents that match" not in repr(search_of(["x"] * 2).search("x", top=2))


def test_pattern_may_be_compiled_or_have_flags():
    texts = search_of(["ABC"])
    assert len(texts.search("abc")) == 0
    assert (
        len(texts.search("abc", flags=re.IGNORECASE))
        == len(texts.search(re.compile("abc", re.IGNORECASE)))
        == 1
    )


@pytest.mark.parametrize(
    ("text", "pattern", "facts"),
    [
        ("x\nx\nx", "x", {"matches": 3}), ("a1\na2\na3", r"a\d", {"matches": 3, "more": ["a2", "a3"]}),
        ("one", "o", {}), ("aXbX", "X", {"matches": 2}), ("ab", "", {"matches": 3}),
        ("x" * 999, "x", {"matches": 999}), ("x" * 1_000, "x", {"matches": 1_000}), ("x" * 1_001, "x", {"matches": "1,000 or more"}),
        ("a1\na2\na2\na3", r"a\d", {"matches": 4, "more": ["a2"]}), ("x1\n\n", r"(?m)^", {"matches": 3}), ("x\na x", "x", {"matches": 2, "more": ["a x"]}),
    ],
)  # fmt: skip
def test_several_matches_of_a_document_are_counted_with_their_lines(text, pattern, facts):
    (hit,) = search_of([text]).search(pattern)
    assert {name: hit[name] for name in ("matches", "more") if name in hit} == facts


def test_line_is_the_next_that_says_something_and_of_a_long_one_what_is_near():
    (hit,) = search_of(["\n\n  \nhere"]).search(r"\A")
    assert hit["line"] == "here"
    (hit,) = search_of(["a" * 500 + "needle" + "b" * 500]).search("needle")
    assert hit["line"] == "a" * 100 + "needle" + "b" * 94
    (hit,) = search_of(["short " * 3 + "needle"]).search("needle")
    assert hit["line"] == "short short short needle"


@pytest.mark.parametrize(
    ("text", "pattern", "line"),
    [
        ("a\nb\nc", "b", "b"), ("a\n\n  b  \nc", r"\n\n", "a"), ("\n \nb\nc", r"\A", "b"), ("a\n   \nb", r" ", "b"), ("a b", " ", "a b"), ("a\n  ", r" +\Z", ""),
        ("x" * 300, r"\Z", "x" * 100), ("x" * 300, r"\A", "x" * 200), ("ab\n" + "x" * 99 + "y", "y", "x" * 99 + "y"), ("ab\n" + "x" * 100 + "y", "y", "x" * 100 + "y"),
        ("ab\n" + "x" * 101 + "y", "y", "x" * 100 + "y"),
    ],
)  # fmt: skip
def test_line_of_a_match_is_that_around_it(text, pattern, line):
    (hit,) = search_of([text]).search(pattern)
    assert hit["line"] == line


def test_documents_of_more_than_fifty_thousand_characters_are_ranked_in_stretches():
    word = "cats " * 10_000
    whole, stretches = search_of([word]).bm25("cats"), search_of([word + "cats"]).bm25("cats")
    assert [hit.stretch for hit in whole] == [None]
    assert all(hit.stretch[1] - hit.stretch[0] <= 50_000 for hit in stretches)
    assert len(stretches) == 2
    assert stretches.total == 2
    assert all(hit["score"] == round(hit["score"], 3) for hit in stretches)


def test_best_documents_come_first_and_long_ones_in_stretches():
    texts = ["cats and dogs", "cats cats cats", "birds", "word " * 9_999 + "cats " + "word " * 12_000]
    hits = search_of(texts).bm25("cats", top=3)
    assert next(hit["document"] for hit in hits) == 1
    assert all(hit["score"] > 0 for hit in hits)
    assert [hit["score"] for hit in hits] == sorted((hit["score"] for hit in hits), reverse=True)
    long = [hit for hit in hits if hit["document"] == 3]
    assert all("cats" in texts[3][slice(*hit.stretch)] and hit["offset"] == hit.stretch[0] for hit in long)
    assert all(hit.stretch is None for hit in hits if hit["document"] != 3)
    assert len(search_of(texts).bm25("cats", top=1)) == 1
    assert set(search_of(texts).names()) == {"search", "bm25"}
