"""What a record tells of a text that a node was given."""

from dataclasses import replace

import pytest

from rlm_ray.core.context import Docs, Input, Span, input_of, input_of_part, make_context


@pytest.mark.parametrize(
    ("part", "given_"),
    [
        ("héllo", Input("text", 5, sample="héllo")),
        (Span(1, 4), Input("text", 3, 1, 101, 104, "bcd")),
        (["ab", {"id": "7", "text": "cde"}], Input("documents", 5, 2, sample="ab")),
        ([], Input("documents", 0, 0)),
    ],
)
def test_the_input_of_a_part_of_a_text(part, given_):
    assert input_of_part(part, replace(make_context("abcdef"), origin=100)) == given_


def test_the_input_of_documents_is_where_they_stand():
    context = replace(make_context(["ab", "cdé", "f"]), origin=0)
    assert input_of_part(Docs(1, 3), context) == Input("documents", 5, 2, 2, 7, "cdéf")
    assert input_of(context) == Input("documents", 6, 3, 0, 7, "ab")
    assert input_of(make_context("x" * 300)) == Input("text", 300, 1, None, None, "x" * 200)


def test_a_sample_never_ends_in_half_a_character():
    context = replace(make_context("x" * 199 + "é"), origin=0)
    assert input_of_part(Span(0, 201), context).sample == "x" * 199
