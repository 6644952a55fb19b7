"""A context in pieces: nothing lost, nothing too large, nothing cut that fits."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rlm_ray.core.chunking import SPLIT_UNITS, PieceOrigin, origins, pack, split, text_chunks
from rlm_ray.core.context import ByteRange, DocumentRange, make_context
from rlm_ray.errors import InputError

TEXT = st.text(alphabet="ab .\n\r\tÄ漢😀", max_size=200)
WORD = st.text(alphabet="abcÄ漢", min_size=1, max_size=8)
PARAGRAPH = st.lists(WORD, min_size=1, max_size=6).map(" ".join)


@given(TEXT | st.lists(TEXT, max_size=5), st.sampled_from(SPLIT_UNITS), st.integers(1, 60), st.data())
def test_pieces_are_all_of_the_context_in_order_and_fit(source, by, size, data):
    overlap = data.draw(st.integers(0, size - 1))
    context = make_context(source)
    pieces = split(context, by, size, overlap)
    texts = [bytes(context.data[piece.start : piece.stop]).decode() for piece in pieces]
    covered = 0
    for piece, text in zip(pieces, texts, strict=True):
        assert piece.start <= covered < piece.stop
        covered = piece.stop
        if by == "tokens":
            assert len(text.encode()) <= 3 * size or len(text) == 1
        else:
            assert len(text) <= size
    assert covered == context.nbytes


@given(TEXT, st.integers(1, 60), st.data())
def test_characters_overlap_as_asked(text, size, data):
    overlap = data.draw(st.integers(0, size - 1))
    context = make_context(text)
    pieces = [
        bytes(context.data[piece.start : piece.stop]).decode()
        for piece in split(context, "characters", size, overlap)
    ]
    step = size - overlap
    starts = range(0, max(1, len(text) - overlap), step) if text else []
    assert pieces == [text[start : start + size] for start in starts]


@given(TEXT, st.integers(2, 60), st.data())
def test_paragraphs_overlap_as_asked(text, size, data):
    overlap = data.draw(st.integers(0, size - 1))
    context = make_context(text)
    pieces = split(context, "paragraphs", size, overlap)
    for before, after in pairwise(pieces):
        assert len(bytes(context.data[after.start : before.stop]).decode()) == overlap


@given(st.lists(PARAGRAPH, min_size=1, max_size=8), st.integers(50, 120))
def test_a_paragraph_that_fits_is_never_cut(paragraphs, size):
    context = make_context("\n\n".join(paragraphs))
    ends = {piece.stop for piece in split(context, "paragraphs", size)}
    at = 0
    for paragraph in paragraphs:
        if len(paragraph) + 2 <= size:
            inside = range(at + 1, at + len(paragraph.encode()))
            assert not ends.intersection(inside)
        at += len(paragraph.encode()) + 2


@given(st.lists(WORD.map(lambda word: word + ". "), min_size=1, max_size=30), st.integers(10, 40))
def test_a_sentence_that_fits_is_never_cut(sentences, size):
    context = make_context("".join(sentences))
    ends = {piece.stop for piece in split(context, "paragraphs", size)}
    at, starts = 0, set()
    for sentence in sentences:
        starts.add(at := at + len(sentence.encode()))
    assert ends <= starts


@given(st.lists(TEXT, max_size=6), st.integers(1, 60))
def test_by_documents_one_that_fits_is_one_piece(texts, size):
    context = make_context(texts)
    whole = {piece.documents for piece in split(context, "documents", size) if piece.documents}
    assert whole == {(n, n + 1) for n, text in enumerate(texts) if 0 < len(text) <= size}


@given(st.lists(TEXT, max_size=6), st.sampled_from(SPLIT_UNITS), st.integers(1, 60))
@example(["a" * 8], "documents", 10)  # fits, but not with its name above
def test_what_is_read_of_named_documents_fits_with_their_names(texts, by, size):
    context = make_context([{"id": f"Ä{n}", "text": text} for n, text in enumerate(texts)])
    for piece in split(context, by, size):
        read = context.slice(piece.as_part).text()
        if by == "tokens":
            assert len(read.encode()) <= 3 * size or len(read) == 1
        else:
            assert len(read) <= size


@given(st.lists(TEXT, max_size=8), st.integers(1, 200), st.booleans())
def test_packed_pieces_are_the_same_text_and_fit(texts, size, named):
    context = make_context([{"id": f"d{n}", "text": t} for n, t in enumerate(texts)] if named else texts)
    pieces = split(context, "documents", size)
    packed = pack(context, pieces, size)
    single = {(piece.start, piece.stop) for piece in pieces}
    assert [source for piece in packed for source in origins(context, piece)] == [
        source for piece in pieces for source in origins(context, piece)
    ]
    for piece in packed:
        read = context.slice(piece.as_part).text()
        assert len(read.encode()) <= size or (piece.start, piece.stop) in single


def test_small_documents_share_a_piece_and_a_large_one_has_several():
    context = make_context(["a" * 10, "b" * 10, "c " * 50, "d" * 10])
    packed = pack(context, split(context, "documents", 60), 60)
    assert [piece.as_part for piece in packed] == [
        DocumentRange(0, 2),
        ByteRange(20, 80),
        ByteRange(80, 120),
        DocumentRange(3, 4),
    ]


def test_a_position_is_named_by_document_and_bytes():
    context = make_context([{"id": "x", "text": "ä" * 3}, {"id": "y", "text": "abc def"}])
    pieces = split(context, "documents", 4)
    places = [str(source) for piece in pieces for source in origins(context, piece)]
    assert places == ["x:0-6", "y:0-4", "y:4-7"]
    text = make_context("abc")
    assert list(origins(text, split(text, "paragraphs", 9)[0])) == [PieceOrigin("", 0, 3)]


def test_a_line_or_a_word_is_whole_where_there_is_nothing_better():
    lines = "one 11\ntwo 22\nthree 33\n"
    assert [lines[a:b] for a, b in text_chunks(lines, 15)] == ["one 11\ntwo 22\n", "three 33\n"]
    words = "alpha beta gamma"
    assert [words[a:b] for a, b in text_chunks(words, 8)] == ["alpha ", "beta ", "gamma"]
    assert [b - a for a, b in text_chunks("x" * 20, 8)] == [8, 8, 4]


@pytest.mark.parametrize(
    ("by", "size", "overlap", "why"),
    [
        ("pages", 5, 0, "split_by"),
        ("tokens", 0, 0, "size"),
        ("tokens", 5, 5, "overlap"),
        ("tokens", 5, -1, "overlap"),
    ],
)
def test_what_makes_no_sense_is_refused(by, size, overlap, why):
    with pytest.raises(InputError, match=why):
        split(make_context("x"), by, size, overlap)


@pytest.mark.timeout(20)
def test_a_large_context_is_split_quickly():
    context = make_context(("A sentence of some words.\n" * 30 + "\n") * 20_000)
    pieces = split(context, "paragraphs", 100_000)
    assert 150 < len(pieces) < 170


def test_empty_documents_between_others_take_their_place():
    context = make_context([{"id": name, "text": text} for name, text in (("a", "x"), ("b", ""), ("c", "x"))])
    pieces = split(context, "documents", 100)
    assert [piece.documents for piece in pack(context, pieces, 19)] == [(0, 1), (2, 3)]
    assert [piece.documents for piece in pack(context, pieces, 20)] == [(0, 3)]


@given(st.text(alphabet="ab Ä\n", max_size=200), st.integers(1, 20), st.data())
def test_tokens_overlap_as_asked(text, size, data):
    overlap = data.draw(st.integers(0, size - 1))
    pieces = split(make_context(text), "tokens", size, overlap)
    for before, after in pairwise(pieces):
        assert 0 <= 3 * overlap - (before.stop - after.start) <= 1  # half of a character is no overlap


@pytest.mark.parametrize(
    ("by", "size", "longest"),
    [("documents", 10, 6), ("paragraphs", 10, 6), ("characters", 10, 6), ("tokens", 3, 5)],
)
def test_document_is_read_with_its_name_where_both_fit(by, size, longest):
    texts = ["x" * chars for chars in range(1, 9)]
    context = make_context([{"id": "a", "text": text} for text in texts])
    whole = [piece.documents[0] for piece in split(context, by, size) if piece.documents]
    assert [len(texts[number]) for number in whole] == list(range(1, longest + 1))
