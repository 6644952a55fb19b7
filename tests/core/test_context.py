"""The long input as bytes, offsets and pieces."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_ray.core.context import ByteRange, DocumentRange, join_documents, make_context
from rlm_ray.errors import InputError

TEXTS = st.lists(st.text(alphabet=st.characters(exclude_categories=["Cs"])), max_size=6)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_a_text_comes_back_whole(text):
    context = make_context(text)
    assert context.text() == text
    assert context.info.chars == len(text)
    assert context.nbytes == len(text.encode())


@given(TEXTS)
def test_documents_come_back_whole(texts):
    context = make_context(texts)
    assert context.documents() == texts
    assert context.info.documents == len(texts)
    assert context.info.chars == sum(map(len, texts))


@given(TEXTS, st.data())
def test_a_range_of_documents_is_the_same_documents(texts, data):
    start = data.draw(st.integers(0, len(texts)))
    stop = data.draw(st.integers(start, len(texts)))
    part = make_context(texts).slice(DocumentRange(start, stop))
    assert part.documents() == texts[start:stop]
    assert part.info.chars == sum(map(len, texts[start:stop]))


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])), st.text(), st.text())
def test_a_byte_range_is_the_text_between_its_bytes(before, middle, after):
    before, middle, after = (text.encode("utf-8", "ignore").decode() for text in (before, middle, after))
    context = make_context(before + middle + after)
    start = len(before.encode())
    part = context.slice(ByteRange(start, start + len(middle.encode())))
    assert part.text() == middle
    assert part.info.chars == len(middle)


def test_documents_keep_their_ids():
    documents = [{"id": "a", "text": "x"}, {"id": 2, "text": "ü"}]
    context = make_context(documents)
    assert context.documents() == [{"id": "a", "text": "x"}, {"id": "2", "text": "ü"}]
    assert context.slice(DocumentRange(1, 2)).documents() == [{"id": "2", "text": "ü"}]
    assert context.text() == "[a]\nx\n\n[2]\nü"


def test_pieces_share_the_bytes_of_the_whole():
    data = b"x" * 1000
    piece = make_context(data).slice(ByteRange(10, 20))
    assert piece.data.obj is data


def test_a_piece_of_a_named_context_has_a_name_of_its_own():
    context = make_context("abcdef", key="k")
    assert len({context.key, context.slice(ByteRange(0, 3)).key, context.slice(ByteRange(3, 6)).key}) == 3
    assert context.slice(ByteRange(0, 6)) is context
    assert make_context("abc").slice(ByteRange(0, 1)).key == ""


def test_context_is_one_already():
    context = make_context("x")
    assert make_context(context) is context


def test_a_short_context_is_shown_whole_and_an_empty_one_too():
    assert make_context("short").info.fits_in_prompt
    assert make_context("").info.fits_in_prompt
    assert make_context([]).info.fits_in_prompt
    assert not make_context("x" * 2_000).info.fits_in_prompt
    assert not make_context(["a", "b"]).info.fits_in_prompt


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (b"ok \xff\xfe", "offset 3"),
        (42, "not int"),
        ({"a": 1}, "not dict"),
        (["a", 3], "document 1"),
        ([{"text": "x"}], "document 0"),
        ([{"id": "a", "text": "x"}, "y"], "all documents or none"),
    ],
)
def test_what_is_no_context_is_refused_with_the_reason(source, said):
    with pytest.raises(InputError, match=said):
        make_context(source)


@pytest.mark.parametrize("text", ["", "a", "ä text"])
def test_text_is_one_document_of_its_own(text):
    assert make_context(text).documents() == [text]


@pytest.mark.parametrize(
    "documents",
    [
        ["one", "", "drei ☃"],
        [{"id": "a", "text": "x" * 5_000}, {"id": "b", "text": "ÿ"}],
        [{"id": 7, "text": "a number as a name"}],
        [],
    ],
    ids=["texts", "documents", "number", "none"],
)
def test_documents_that_come_one_by_one_make_the_same_context(documents):
    assert join_documents(iter(documents)) == make_context(documents)


@pytest.mark.parametrize(
    ("documents", "said"),
    [
        (["a", {"id": "b", "text": "b"}], "either all documents or none must have an id"),
        (["a", "\ud800"], "document 1: holds half of a surrogate pair"),
        ([{"id": "\ud800", "text": "a"}], "the id of document 0: holds half of a surrogate pair"),
        (["a", 1], "document 1 is neither"),
    ],
    ids=["half named", "surrogate", "surrogate in an id", "number"],
)
def test_documents_that_come_one_by_one_are_checked(documents, said):
    with pytest.raises(InputError, match=said):
        join_documents(iter(documents))


def test_a_corpus_that_comes_one_by_one_is_in_memory_once():
    tracemalloc.start()
    context = join_documents(str(number) * 1_000_000 for number in range(10))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert context.nbytes == 10_000_000
    assert peak < 1.5 * context.nbytes


@given(st.text(alphabet="ab ü🙂", max_size=20), st.integers(0, 20), st.sampled_from([1, 150]))
def test_piece_is_described_as_if_it_were_a_context_of_its_own(text, start, times):
    text *= times
    context = make_context(f"{text[:start]}{text}")
    begin = len(text[:start].encode())
    assert context.slice(ByteRange(begin, context.nbytes)).info == make_context(text).info
    documents = make_context([text[:start], text, "x"])
    assert documents.slice(DocumentRange(1, 3)).info == make_context([text, "x"]).info
    assert documents.slice(ByteRange(begin, documents.nbytes - 1)).info == make_context(text).info


@pytest.mark.parametrize(("chars", "fits"), [(1_000, True), (1_001, False)])
def test_thousand_characters_fit_into_the_prompt(chars, fits):
    assert make_context("ü" * chars).info.fits_in_prompt is fits
    assert make_context(["ü" * chars]).info.fits_in_prompt is fits
