"""What code hands to a sub-call travels by reference where it is a piece of the context, and is always the same text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlm_ray.core.context import ByteRange, DocumentRange, make_context
from rlm_ray.sandbox.guest.context_parts import (
    DocumentReferences,
    TextReferences,
    by_value,
    parts_of,
    to_text,
)

LONG = 65_536
ALPHABETS = (
    "".join(f"{number} " for number in range(60_000)),
    "".join(f"ä{number}😀" for number in range(50_000)),
)


@settings(max_examples=30)
@given(
    st.sampled_from(ALPHABETS),
    st.lists(st.tuples(st.integers(0, 200_000), st.integers(LONG, LONG + 3)), min_size=1, max_size=5),
)
def test_long_slice_is_a_range_of_the_bytes_of_the_same_text(text, slices):
    parts, context = TextReferences(text), make_context(text)
    for start, length in slices:
        piece = text[start : start + length]
        part = parts.to_part(piece)
        assert isinstance(part, ByteRange) is (len(piece) >= LONG)
        assert context.slice(part).text() == piece


@pytest.mark.parametrize("step", [LONG, LONG - 300, LONG - 1, LONG + 1, LONG + 2000])
@pytest.mark.parametrize("text", ["same " * 80_000, "ö same " * 60_000], ids=["ascii", "wide"])
def test_chunks_of_a_repetitive_text_are_found_in_their_order(text, step):
    parts = TextReferences(text)
    chunks = [(start, text[start : start + LONG]) for start in range(0, len(text) - LONG, step)]
    for start, chunk in chunks:
        part = parts.to_part(chunk)
        assert isinstance(part, ByteRange)
        assert make_context(text).slice(part).text() == chunk
        if step == LONG:
            assert part.start == len(text[:start].encode())


def test_overlapping_chunk_is_found_near_the_last_one_and_any_other_anywhere():
    head = "x" * 256
    text = "".join(head + chr(97 + at) * LONG for at in range(6))
    parts, unit = TextReferences(text), LONG + 256
    for at in (0, 1, 4, 0, 5, 3):
        part = parts.to_part(text[at * unit : at * unit + unit])
        expected = ByteRange(at * unit, at * unit + unit)
        assert part in (expected, text[at * unit : at * unit + unit])
        if at in (0, 1):
            assert part == expected
    overlapping = text[2 * unit - 100 : 3 * unit - 100]
    parts.to_part(text[unit : 2 * unit])
    assert parts.to_part(overlapping) == ByteRange(2 * unit - 100, 3 * unit - 100)


def test_text_that_is_no_slice_of_the_context_travels_as_it_is():
    text = ALPHABETS[0]
    parts = TextReferences(text)
    for other in (text[:LONG] + "!", "short", text[10:20], "!" * (LONG + 1), text[: LONG - 1]):
        assert parts.to_part(other) == other


def test_whole_context_is_all_its_bytes():
    assert TextReferences("äb").to_part("äb"[:]) in (ByteRange(0, 3), "äb")
    whole = "äb"
    assert parts_of(whole).to_part(whole) == ByteRange(0, 3)
    assert parts_of(whole).original() == whole


DOCUMENTS = [
    {"id": f"d{at}", "text": ("ä" if at % 2 else "a") * size}
    for at, size in enumerate([10, 4096, 2047, 2048, 4095, 0])
]
TEXTS = [each["text"] for each in DOCUMENTS]


@pytest.mark.parametrize("documents", [DOCUMENTS, TEXTS], ids=["with ids", "texts"])
def test_document_of_at_least_4096_bytes_travels_by_reference(documents):
    parts, context = parts_of(list(documents)), make_context(documents)
    for document, text, by_reference in zip(
        documents, TEXTS, [False, True, False, True, False, False], strict=True
    ):
        part = parts.to_part(document)
        assert isinstance(part, ByteRange) is by_reference
        assert context.slice(part).text() == text


@pytest.mark.parametrize("documents", [DOCUMENTS, TEXTS], ids=["with ids", "texts"])
def test_neighbours_in_their_order_travel_as_a_range(documents):
    parts = parts_of(list(documents))
    for start in range(len(documents)):
        for stop in range(start + 1, len(documents) + 1):
            assert parts.to_part(documents[start:stop]) == DocumentRange(start, stop)
    for others in (
        [documents[1], documents[0]],
        [documents[0], documents[2]],
        [documents[5], documents[5]],
        [*documents, documents[0]],
    ):
        assert parts.to_part(others) == others


def test_changed_document_travels_as_it_is_now():
    documents = [dict(each) for each in DOCUMENTS]
    parts = DocumentReferences(documents)
    renamed, rewritten = documents[0] | {"id": "other"}, documents[1] | {"text": "new"}
    assert parts.to_part([renamed, documents[1]]) == [renamed, documents[1]]
    assert parts.to_part([documents[0], rewritten]) == [documents[0], rewritten]
    assert parts.to_part([documents[0]["text"], documents[1]["text"]]) == TEXTS[:2]
    assert parts.to_part([]) == "[]"


def test_list_of_documents_that_was_changed_is_restored():
    documents = list(TEXTS)
    parts = DocumentReferences(documents)
    assert not parts.was_modified()
    documents.append("more")
    assert parts.was_modified()
    assert parts.original() == TEXTS
    parts.restore()
    assert documents == TEXTS
    assert not parts.was_modified()


def test_found_document_stands_for_itself_and_a_stretch_for_its_characters():
    documents = [{"id": "a", "text": "ä first\n"}, {"id": "b", "text": "ü second\n" * 9000}]
    parts, context = DocumentReferences(documents), make_context(documents)
    whole, *_ = parts.finder().search("first")
    assert parts.to_part(whole) == "ä first\n"
    assert parts.to_part([whole]) == DocumentRange(0, 1)
    for stretch in parts.finder().bm25("second", top=5):
        start, stop = stretch.stretch
        part = parts.to_part(stretch)
        assert context.slice(part).text() == documents[1]["text"][start:stop]
        assert parts.to_part([stretch]) == [{"id": "b", "text": documents[1]["text"][start:stop]}]


@pytest.mark.parametrize(
    ("value", "part"),
    [
        ("text", "text"), (3, "3"), (None, "None"), ([], "[]"), ((), "[]"), ({}, "{}"),
        (["a", "b"], ["a", "b"]), (("a", "b"), ["a", "b"]), (["a", 1], '["a", 1]'),
        ({"id": 7, "text": "x"}, "x"), ([{"id": 7, "text": "x"}], [{"id": "7", "text": "x"}]),
        ({"id": 7, "text": 1}, '{"id": 7, "text": 1}'), ({"text": "x"}, '{"text": "x"}'), ({"id": "x"}, '{"id": "x"}'),
        ({"id": 7, "text": "x", "more": 1}, '{"id": 7, "text": "x", "more": 1}'),
        ([{"id": 7, "text": "x"}, "y"], '[{"id": 7, "text": "x"}, "y"]'),
        ({"ä": [1]}, '{"ä": [1]}'), ({1 }, "{1}"), ([{1}], "[{1}]"),
    ],
)  # fmt: skip
def test_other_values_are_documents_or_a_text(value, part):
    assert by_value(value) == part
    assert TextReferences("some context").to_part(value) == part


def test_value_that_holds_itself_is_a_text():
    loop = []
    loop.append(loop)
    assert to_text(loop) == "[[...]]"
