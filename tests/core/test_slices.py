"""Slices of a context are found where they stand, in the order in which code hands them out."""

from __future__ import annotations

from array import array
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlm_ray.core.context import make_context
from rlm_ray.core.slices import BLOCK_BYTES, SliceLocator

DISTINCT = " ".join(f"{number}ä" for number in range(3_000))
REPEATED = "the same line again\n" * 500
LARGE = BLOCK_BYTES * 2


def locator_of(source, offset=0, **limits):
    return SliceLocator(replace(make_context(source), root_offset=offset), **limits)


def bytes_before(text, at):
    return len(text[:at].encode())


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 15_000), st.integers(12, 4_000)), min_size=1, max_size=8))
def test_any_slices_in_any_order_stand_where_they_were_cut(slices):
    locator = locator_of(DISTINCT)
    for start, length in slices:
        stop = min(start + length, len(DISTINCT))
        piece = DISTINCT[start:stop]
        if len(piece) >= 12:
            assert locator.locate(piece) == (bytes_before(DISTINCT, start), bytes_before(DISTINCT, stop))


@settings(max_examples=30)
@given(st.integers(40, 900), st.sampled_from([1, 2, 3, 10]))
def test_chunks_of_repeated_text_stand_one_after_another(size, parts):
    """Where chunks overlap, the first two tell how far: their words alone do not."""
    step, locator = size // parts, locator_of(REPEATED)
    starts = range(0, len(REPEATED) - size, step)
    for start in starts:
        if start <= step < size:
            locator.follow(start, start + size)
        else:
            assert locator.locate(REPEATED[start : start + size]) == (start, start + size)


@given(st.text(min_size=1, max_size=300), st.data())
def test_a_place_that_is_told_holds_the_very_text(text, data):
    start = data.draw(st.integers(0, len(text) - 1))
    piece = text[start : data.draw(st.integers(start + 1, len(text)))]
    try:
        whole = text.encode()
    except UnicodeEncodeError:
        return
    for asked in (piece, piece.upper(), piece.strip()):
        place = locator_of(text).locate(asked)
        if place is not None:
            assert whole[slice(*place)] == asked.encode()
    assert (locator_of(text).locate(piece) is None) is not bool(piece.strip())


PLACES = [
    ("a slice", DISTINCT[100:400], (100, 400)),
    ("its ends stripped", DISTINCT[100:400].strip(), (100, 399)),
    ("the whole", DISTINCT, (0, len(DISTINCT))),
    ("its first character", DISTINCT[:1], (0, 1)),
    ("upper case", DISTINCT[100:400].upper(), None),
    ("other spaces", DISTINCT[100:400].replace(" ", "\n"), None),
    ("a heading before it", f"Part 1\n{DISTINCT[100:400]}", None),
    ("two slices joined", DISTINCT[:50] + DISTINCT[100:150], None),
    ("more than the whole", f"{DISTINCT} ", None),
    ("no text", "", None),
    ("blanks", " \n ", None),
    ("half of a surrogate pair", "\ud83d", None),
]


@pytest.mark.parametrize(("text", "cut"), [row[1:] for row in PLACES], ids=[row[0] for row in PLACES])
def test_only_what_stands_in_the_context_has_a_place(text, cut):
    expected = None if cut is None else tuple(bytes_before(DISTINCT, at) for at in cut)
    assert locator_of(DISTINCT).locate(text) == expected


def test_a_context_that_is_a_piece_of_the_root_s_tells_places_in_the_root_s():
    assert locator_of("what was said", offset=1_000).locate("was") == (1_005, 1_008)
    assert SliceLocator(make_context("what was said")).locate("was") is None


def test_slices_of_documents_are_found_among_all_of_them():
    documents = [{"id": "a", "text": "first words"}, {"id": "b", "text": "other words"}]
    assert locator_of(documents).locate("other") == (11, 16)


@pytest.mark.parametrize("before", [0, 1, 5, 16, 17])
def test_a_slice_over_a_boundary_of_blocks_is_found_in_any_buffer(before):
    data = b"." * (LARGE - before) + b"over the boundary" + b"." * LARGE
    for source in (data, memoryview(array("B", data))):
        assert locator_of(source).locate("over the boundary") == (LARGE - before, LARGE - before + 17)


@pytest.mark.parametrize(
    ("start", "is_near"), [(999, False), (1_000, True), (1_100, True), (1_200, True), (1_201, False)]
)
def test_what_begins_within_its_length_of_the_last_slice_s_end_is_found_without_a_search(start, is_near):
    text = " ".join(f"{number}" for number in range(1_000, 2_000))
    locator = locator_of(text, max_searched_bytes=0)
    locator.follow(950, 1_100)
    assert locator.locate(text[start : start + 100]) == ((start, start + 100) if is_near else None)


def test_no_more_than_the_limit_is_looked_through_and_what_stands_near_is_found_all_the_same():
    text = "." * (3 * BLOCK_BYTES) + "the end, and after it"
    locator = locator_of(text, max_searched_bytes=BLOCK_BYTES)
    assert locator.locate("the end") is None
    locator.follow(3 * BLOCK_BYTES - 4, 3 * BLOCK_BYTES)
    assert locator.locate("the end") == (3 * BLOCK_BYTES, 3 * BLOCK_BYTES + 7)


@pytest.mark.parametrize(("limit", "place"), [(BLOCK_BYTES, (1_000, 1_006)), (BLOCK_BYTES - 1, None)])
def test_block_is_looked_through_where_the_limit_leaves_all_of_it(limit, place):
    assert (
        locator_of("." * 1_000 + "needle" + "." * 1_000, max_searched_bytes=limit).locate("needle") == place
    )


def test_slices_may_go_on_by_one_character():
    locator = locator_of("a" * 100)
    locator.follow(0, 40)
    locator.follow(1, 41)
    assert locator.locate("a" * 40) == (2, 42)
