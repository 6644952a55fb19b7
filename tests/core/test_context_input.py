"""What a record tells of a text that a node was given."""

from dataclasses import replace

import pytest

from rlm_ray.core.context import (
    ByteRange,
    DocumentRange,
    InputSummary,
    make_context,
    summarize,
    summarize_part,
)


@pytest.mark.parametrize(
    ("part", "given_"),
    [
        ("héllo", InputSummary("text", 5, sample="héllo")),
        (ByteRange(1, 4), InputSummary("text", 3, 1, 101, 104, "bcd")),
        (["ab", {"id": "7", "text": "cde"}], InputSummary("documents", 5, 2, sample="ab")),
        ([], InputSummary("documents", 0, 0)),
    ],
)
def test_the_input_of_a_part_of_a_text(part, given_):
    assert summarize_part(part, replace(make_context("abcdef"), root_offset=100)) == given_


def test_the_input_of_documents_is_where_they_stand():
    context = replace(make_context(["ab", "cdé", "f"]), root_offset=0)
    assert summarize_part(DocumentRange(1, 3), context) == InputSummary("documents", 5, 2, 2, 7, "cdéf")
    assert summarize(context) == InputSummary("documents", 6, 3, 0, 7, "ab")
    assert summarize(make_context("x" * 300)) == InputSummary("text", 300, 1, None, None, "x" * 200)


def test_a_sample_never_ends_in_half_a_character():
    context = replace(make_context("x" * 199 + "é"), root_offset=0)
    assert summarize_part(ByteRange(0, 201), context).sample == "x" * 199
