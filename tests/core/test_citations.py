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


@pytest.mark.parametrize("stretch", [64, 63])
@pytest.mark.parametrize("filler", ["a", "ü", "🙂"])
def test_words_across_the_stretches_that_are_read_are_found(filler, stretch, monkeypatch):
    monkeypatch.setattr(citations, "_STRETCH", stretch)
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


@pytest.mark.parametrize(
    ("context", "number", "why"),
    [
        ("text", 0, "there is no document 0"),
        (["one", "two"], 2, "there is no document 2"),
        (["one", "two"], -1, "there is no document -1"),
        ([], 0, "there is no document 0"),
    ],
)
def test_document_that_is_not_there_is_refused(context, number, why):
    assert found("one", context, number) == Refused(why)


def test_first_and_last_documents_can_be_cited_by_number():
    for number, quote in enumerate(("one", "two", "three")):
        cited = found(quote, ["one", "two", "three"], number)
        assert (cited.document, cited.number, cited.start, cited.end) == (str(number), number, 0, len(quote))
    assert (
        found("two", ["one", "two"], 0).why
        == "'two' does not stand in document 0; it stands in 1, characters 0-3"
    )


def test_quote_may_have_five_thousand_characters():
    assert isinstance(found("x" * 5_000, "x" * 6_000), Citation)
    assert found("x" * 5_001, "x" * 6_000).why == (
        "a quote of 5,001 characters, more than 5,000; cite the few sentences that matter, each by itself"
    )


@pytest.mark.parametrize("letter", ["a", "ü", "🙂"])
def test_hundred_characters_before_and_after_are_given_of_the_same_document(letter):
    text = letter * 150 + " the words " + letter * 150
    cited = found("the words", text)
    assert (cited.before, cited.after) == (letter * 99 + " ", " " + letter * 99)
    cited = found("the words", ["x", "bb the words aa", "y"])
    assert (cited.before, cited.after, cited.number) == ("bb ", " aa", 1)


def test_long_words_are_shown_with_their_beginning_and_end():
    words = " ".join(f"w{number:03}" for number in range(100))
    assert found(words[:300], "text").why.startswith(f"'{words[:300].strip()}' does not")
    longer = f"{words[:302]}"
    assert found(longer, "text").why.startswith(f"'{longer[:200]} … {longer[-80:]}' does not")


def test_first_place_of_the_words_is_cited():
    text = "one two. One two! one two? one\ntwo"
    assert (found("one two", text).start, found("One two", text).start, found("one\ntwo", text).start) == (
        0,
        9,
        27,
    )


def test_check_of_words_lasts_ten_seconds_and_as_long_again_for_the_nearest():
    def until(*moments):
        ticks = iter(moments)
        last = moments[-1]
        return check(CitationRequest("not there"), make_context("x " * 100), lambda: next(ticks, last)).why

    assert "was not found within 10 s; cite longer words" in until(0.0, 10.1)
    assert "nor do words like it" in until(0.0, 10.0, 10.0, 10.0)


PAGES_IN_IDS = [
    ("a.pdf#page=7", 7), ("a.pdf?page=12", 12), ("a page 3", 3), ("a_page-4.txt", 4), ("a#Page=0001234", 1234), ("a.pdf", None), ("homepage=7", None),
    ("a#page=12345678", None), ("a#page=7b", None), ("x&page=5&y=1", 5),
]  # fmt: skip


@pytest.mark.parametrize(("name", "page"), PAGES_IN_IDS)
def test_id_of_a_document_may_say_its_page(name, page):
    assert found("words", [{"id": name, "text": "some words"}]).page == page


@pytest.mark.parametrize(
    ("text", "page"),
    [
        ("words", None), ("a\fwords", 2), ("words\fb", 1), ("\f\fwords", 3), ("[page 1]\n\fwords", 1), ("[page 0]\nwords", None), ("[slide 3]\nwords", 3),
        ("x [page 2]\nwords", None), ("[page 2] \nwords", None), ("[page 12]\n[page 13]\nwords\n[page 14]", 13),
    ],
)  # fmt: skip
def test_page_is_told_by_markers_or_form_feeds(text, page):
    assert found("words", [{"id": "a", "text": text}]).page == page


@pytest.mark.parametrize(
    ("quote", "true"),
    [
        ("the quick brown cat jumps over", "the quick brown fox jumps over"),
        ("The quick brown fox jumps, over", "the quick brown fox jumps over"),
        ("quick red fox jumps over the", "quick brown fox jumps over the"),
        ("(brown fox jumps over a lazy dog", "brown fox jumps over the lazy dog"),
        ("jumps over the lazy cat.", "jumps over the lazy dog."),
        ("jumps over the lazy cat", "jumps over the lazy dog"),
    ],
)
def test_nearest_words_begin_and_end_as_the_quote_does(quote, true):
    text = "Once, it is told, the quick brown fox jumps over the lazy dog. Then nothing."
    refused = found(quote, text)
    assert refused.why == (
        f"{quote!r} does not stand in the context; the nearest words that do are {true!r} (characters "
        f"{text.index(true):,}-{text.index(true) + len(true):,})"
    )


def test_nearest_words_share_four_tenths_of_the_quote():
    words = [f"word{number}" for number in range(10)]
    for shared, is_near in ((5, True), (4, False)):
        others = [f"other{number}" for number in range(10 - shared)]
        why = found(" ".join(words), " ".join([*words[:shared], *others])).why
        assert ("the nearest words" in why) is is_near


def test_words_as_they_are_written_come_before_words_with_other_space(monkeypatch):
    monkeypatch.setattr(citations, "_STRETCH", 64)
    for at in range(20, 130):
        text = f"one two {'x' * (at - 9)} one\ntwo one\ntwo"
        assert found("one\ntwo", text).start == at
        assert found("one  two", text).start == 0


@pytest.mark.parametrize("word", ["filler", "füllwort"])
def test_nearest_words_are_found_wherever_they_stand(word):
    true = "the quick brown fox jumps over a lazy dog"
    for before in range(0, 700, 23):
        words = [word] * 700
        words[before:before] = true.split()
        text = " ".join(words)
        at = text.index(true)
        assert found("the quick brown cat jumps over a lazy dog", text).why.endswith(
            f"the nearest words that do are {true!r} (characters {at:,}-{at + len(true):,})"
        )


def test_nearest_words_are_looked_for_by_the_longest_words_of_a_long_quote():
    short, long = [f"s{number}" for number in range(24)], [f"longer-word-{number}" for number in range(20)]
    texts = [" ".join(reversed(short))] * 10
    texts.insert(5, " ".join(long))
    assert "(5, characters 0-" in found(" ".join([*short, *long]), texts).why


def test_other_documents_are_left_out_where_their_time_is_over():
    moments = iter([0.0, 0.0, 0.0, 0.0, 10.1])
    asked = CitationRequest("two words", 0)
    refused = check(asked, make_context(["one", "two words"]), lambda: next(moments, 10.1))
    assert (
        refused.why
        == "'two words' does not stand in document 0, nor do words like it; look at the context and cite what stands there"
    )


def test_nearest_words_are_found_among_words_that_come_again_and_again():
    assert "the nearest words that do are 'aa bb cc dd' (" in found("aa bb xx dd", "aa bb cc dd " * 300).why
