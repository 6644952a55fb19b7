"""What a context is when it is made, cut and described; which document a piece lies in; merged values; a model's size by its name."""

from __future__ import annotations

import pytest

from rlm_ray.core.chunking import Piece, PieceOrigin, document_of, documents_in, pack
from rlm_ray.core.context import (
    INPUT_SAMPLE_CHARS,
    SAMPLE_CHARS,
    ByteRange,
    DocumentRange,
    InputSummary,
    document_header,
    encoded,
    make_context,
    summarize,
    summarize_part,
)
from rlm_ray.core.document_answers import (
    merge_texts,
    merge_values,
    of_a_document_part,
    of_each,
    of_its_parts,
)
from rlm_ray.core.limits import Amount, Limits
from rlm_ray.core.profiles import profile_name, window_of_params
from rlm_ray.core.profiles.profile import parameters_in_billions
from rlm_ray.core.prompts import cut_note, format_budget
from rlm_ray.core.repl_types import Citation, ToolRequest
from rlm_ray.core.secrets import header_fault
from rlm_ray.errors import InputError

TEXT = make_context("Größe 🙂 " * 10)
NAMED = make_context([{"id": "a", "text": "one"}, {"id": "b", "text": ""}, {"id": "c", "text": "drei ü"}])
PLAIN = make_context(["one", "", "drei ü"])


def test_context_tells_characters_and_bytes_apart():
    assert (TEXT.info.chars, TEXT.nbytes) == (80, 80 + 10 * 2 + 10 * 3)
    assert (NAMED.info.chars, NAMED.nbytes, NAMED.info.documents, NAMED.info.with_ids) == (9, 10, 3, True)
    assert (PLAIN.info.kind, PLAIN.info.with_ids, PLAIN.info.sample) == ("documents", False, "one")
    assert make_context("x" * (SAMPLE_CHARS + 1)).info.sample == "x" * SAMPLE_CHARS
    assert NAMED.text() == "[a]\none\n\n[b]\n\n\n[c]\ndrei ü"
    assert (PLAIN.text(), PLAIN.documents()) == ("one\n\n\n\ndrei ü", ["one", "", "drei ü"])
    assert document_header("a") == "[a]\n"


def test_slices_share_bytes_and_know_where_they_stand():
    assert TEXT.slice(ByteRange(0, TEXT.nbytes)) is TEXT
    piece = TEXT.slice(ByteRange(0, 7))
    assert (piece.text(), piece.info.chars, piece.root_offset) == ("Größe", 5, None)
    root = make_context(b"0123456789")
    assert root.root_offset is None
    assert NAMED.slice(DocumentRange(0, 3)) is NAMED
    some = NAMED.slice(DocumentRange(1, 3))
    assert (some.documents(), some.info.documents, some.info.chars, some.info.sample) == (
        NAMED.documents()[1:],
        2,
        6,
        "",
    )
    assert NAMED.slice(DocumentRange(2, 2)).documents() == []
    assert NAMED.slice(ByteRange(3, 10)).text() == "drei ü"
    with pytest.raises(InputError, match="has no documents"):
        TEXT.slice(DocumentRange(0, 1))


def test_fingerprint_names_bytes_bounds_and_ids():
    contexts = [
        make_context("onetwo"),
        make_context(["one", "two"]),
        make_context(["on", "etwo"]),
        make_context([{"id": "0", "text": "one"}, {"id": "1", "text": "two"}]),
        make_context([]),
    ]
    assert len({context.fingerprint() for context in contexts}) == 5
    assert make_context(b"onetwo").fingerprint() == contexts[0].fingerprint()
    assert len(contexts[0].fingerprint()) == 32


def test_half_of_a_pair_is_refused_with_its_place():
    with pytest.raises(
        InputError, match=r"document 1: holds half of a surrogate pair \('\\ud800' at character 1,234\)"
    ):
        make_context(["x", "x" * 1_234 + "\ud800"])
    assert encoded("ü", "x") == b"\xc3\xbc"


@pytest.mark.parametrize(
    ("part", "context", "summary"),
    [
        ("abc", None, InputSummary("text", 3, sample="abc")), ("x" * (INPUT_SAMPLE_CHARS + 1), None, InputSummary("text", INPUT_SAMPLE_CHARS + 1, sample="x" * INPUT_SAMPLE_CHARS)),
        (["ab", {"id": "i", "text": "cde"}], None, InputSummary("documents", 5, 2, sample="ab")), ([], None, InputSummary("documents", 0, 0)),
        (ByteRange(3, 10), NAMED, InputSummary("text", 7, 1, sample="drei ü")), (DocumentRange(1, 3), NAMED, InputSummary("documents", 7, 2, sample="drei ü")),
    ],
)  # fmt: skip
def test_part_is_summed_up_by_kind_length_and_head(part, context, summary):
    assert summarize_part(part, context) == summary


def test_whole_context_is_summed_up():
    assert summarize(NAMED) == InputSummary("documents", 9, 3, sample="one")


@pytest.mark.parametrize(
    ("piece", "document", "documents"),
    [
        (Piece(0, 3, (0, 1)), 0, [0]), (Piece(0, 10, (0, 3)), 0, [0, 2]), (Piece(3, 10, (1, 3)), 1, [2]), (Piece(0, 2), 0, [0]), (Piece(3, 5), 2, [2]), (Piece(5, 10), 2, [2]),
    ],
)  # fmt: skip
def test_piece_knows_its_documents_and_empty_ones_are_left_out(piece, document, documents):
    assert document_of(NAMED, piece) == document
    assert documents_in(NAMED, piece) == documents
    assert piece.as_part == (
        ByteRange(piece.start, piece.stop) if piece.documents is None else DocumentRange(*piece.documents)
    )


def test_piece_of_a_text_lies_in_its_one_document():
    assert (document_of(TEXT, Piece(5, 9)), documents_in(TEXT, Piece(5, 9))) == (0, [0])
    assert (str(PieceOrigin("a", 1, 2)), str(PieceOrigin("", 1, 2))) == ("a:1-2", "text:1-2")


SMALL = make_context([{"id": str(number), "text": "xxxxx"} for number in range(4)])
ALONE = [Piece(5 * number, 5 * number + 5, (number, number + 1)) for number in range(4)]


@pytest.mark.parametrize(
    ("size", "max_documents", "packed"),
    [(10_000, None, [(0, 4)]), (10_000, 2, [(0, 2), (2, 4)]), (10_000, 3, [(0, 3), (3, 4)]), (10_000, 1, [(0, 1), (1, 2), (2, 3), (3, 4)]), (0, None, [(0, 1), (1, 2), (2, 3), (3, 4)])],
)  # fmt: skip
def test_neighbours_are_packed_up_to_size_and_number(size, max_documents, packed):
    assert [piece.documents for piece in pack(SMALL, ALONE, size, max_documents)] == packed
    found = pack(SMALL, [ALONE[0], Piece(5, 8), ALONE[2]], size, max_documents)
    assert [piece.documents for piece in found] == [(0, 1), None, (2, 3)]


def test_size_of_a_pack_counts_texts_ids_and_what_stands_between():
    least = next(size for size in range(200) if len(pack(SMALL, ALONE[:2], size)) == 1)
    assert least == 2 * len("[0]\nxxxxx") + 2 * len("\n\n")


@pytest.mark.parametrize(
    ("given", "way", "merged"),
    [
        ([5], "", 5), ([5, 5], "", 5), ([5, 6], "", None), (["a", " a "], "", "a"), ([1, "1"], "", None), ([2, 3], "sum", 5), ([2, True], "sum", None), ([2, 3], "count", None),
        ([["a"], ["b", "a"]], "", ["a", "b"]), ([["a"], ["a"]], "collect", ["a", "a"]), ([[1], [1]], "sum", [1, 1]), ([["a"], "a"], "", None),
        ([{"x": 1}, {"x": 2, "y": 1}], "count", {"x": 3, "y": 1}), ([{"x": 1}, {"x": 2}], "sum", {"x": 3}), ([{"x": 1}, {"x": 2}], "", None), ([{"x": 1}, {"x": "2"}], "count", None),
        ([{"x": 1, "y": 2}, {"y": 2, "x": 1}], "", {"x": 1, "y": 2}),
    ],
)  # fmt: skip
def test_values_of_parts_are_one_where_they_agree_or_add_up(given, way, merged):
    assert merge_values(given, way) == merged


@pytest.mark.parametrize(
    ("answers", "way", "merged"),
    [(["3", " 4 "], "sum", 7), (["3", "nothing here"], "sum", 3), (["nothing here", "nothing here"], "", "nothing here"), (["a", " a"], "", "a"), (["a", "b"], "", None), (["3.5", "3.5"], "", "3.5")],
)  # fmt: skip
def test_texts_of_parts_that_say_nothing_are_left_out(answers, way, merged):
    assert merge_texts(answers, way) == merged


def test_questions_about_documents_say_what_is_wanted():
    asked = of_each("q", ["a", 'ü"'], "<x>")
    assert asked.startswith('q\n\nThe context holds 2 documents with these ids: ["a", "ü\\""]')
    assert '"answer": <x>' in asked
    assert "nothing here" in of_a_document_part("q", in_fields=False)
    assert "leave out each field" in of_a_document_part("q", in_fields=True)
    assert of_its_parts("q").endswith("The question was: q")


@pytest.mark.parametrize(
    ("name", "size"),
    [("llama-3.1-8b-instant", 8.0), ("mixtral-8x7b", 56.0), ("gemma-3n-e4b-it", 4.0), ("qwen2.5-coder:1.5b", 1.5), ("gpt-5", None), ("qwen3-480b-a35b", 480.0), ("a_70b", 70.0), ("x7bit", None)],
)  # fmt: skip
def test_size_of_a_model_is_read_from_its_name(name, size):
    assert parameters_in_billions(name) == size


@pytest.mark.parametrize(("size", "profile"), [("13.9b", "short"), ("14b", "full"), ("14.1b", "full")])
def test_models_below_fourteen_billions_are_small(size, profile):
    assert profile_name("default", 2, f"openai/model-{size}", {}) == profile


@pytest.mark.parametrize(
    ("told", "window"),
    [
        (8_192, 8_192),
        ("8192", 8_192),
        ("8k", None),
        (True, None),
        (0, None),
        (-1, None),
        (None, None),
        ("", None),
        (8192.0, None),
        ("²", None),
        ("1" * 20, 111_111_111),
    ],
)
def test_window_of_the_parameters_is_a_number_or_the_text_of_one(told, window):
    assert window_of_params({"num_ctx": told}) == window


@pytest.mark.parametrize(
    ("window", "profile"), [(16_384, "small-window"), (16_385, "full"), (1, "small-window")]
)
def test_window_up_to_sixteen_thousand_is_small(window, profile):
    assert profile_name("default", 2, "openai/x", {"num_ctx": window}) == profile


@pytest.mark.parametrize(
    ("limits", "spent", "left"),
    [
        (Limits(), Amount(5, 5, 5), ""), (Limits(cost_usd=1.0), Amount(250_000_000), "$0.75"), (Limits(cost_usd=1.0), Amount(2 * 10**9), "$0.00"),
        (Limits(tokens=5_000), Amount(tokens=1_000), "4,000 tokens"), (Limits(tokens=5), Amount(tokens=9), "0 tokens"), (Limits(calls=5), Amount(calls=2), "3 model calls"),
        (Limits(calls=1), Amount(calls=2), "0 model calls"), (Limits(1.0, 10, 3), Amount(), "$1.00, 10 tokens, 3 model calls"), (Limits(sessions=1, time_s=1.0), Amount(), ""),
    ],
)  # fmt: skip
def test_budget_says_what_is_left(limits, spent, left):
    assert format_budget(limits, spent) == left


@pytest.mark.parametrize(
    ("count", "begins"),
    [
        (0, None),
        (1, "The answer of a sub-call was cut off"),
        (2, "The answers of 2 sub-calls were cut off"),
        (1_000, "The answers of 1,000 sub-calls were"),
    ],
)
def test_cut_answers_are_counted(count, begins):
    notes = cut_note(count)
    assert len(notes) == (begins is not None)
    assert all(note.startswith(begins) for note in notes)


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("sk-abc", ""), ("", ""), ('"', ""), ("a b~", ""), ("a\nb", "line break"), ("a\r", "line break"), (" a", "begins or ends with a space"), ("a ", "begins or ends with a space"),
        ('"a"', "quotation marks"), ("'a", "quotation marks"), ('a"', "quotation marks"), ("a\x7fb", "at character 1"), ("a\x1fb", "at character 1"), ("abü", "at character 2"),
    ],
)  # fmt: skip
def test_header_that_cannot_be_sent_is_named(value, fault):
    found = header_fault(value)
    assert bool(found) is bool(fault)
    assert fault in found


@pytest.mark.parametrize(
    ("citation", "place"),
    [
        (Citation("q", start=1_000, end=1_010), "characters 1,000-1,010"), (Citation("q", "a", 0, 1, 2), "a, characters 1-2"), (Citation("q", "a", None, 1, 2, 3), "page 3, characters 1-2"),
        (Citation("q", "a", 4, 1, 2, 3), "a, page 3, characters 1-2"),
    ],
)  # fmt: skip
def test_place_of_a_citation_in_words(citation, place):
    assert citation.place == place


def test_call_of_a_tool_is_named_by_tool_and_arguments():
    keys = {
        ToolRequest(name, arguments).key
        for name, arguments in (("a", "b"), ("a", "c"), ("ab", ""), ("a", "b\ud800"))
    }
    assert len(keys) == 4
    assert ToolRequest("a", "b").key == ToolRequest("a", "b").key


@pytest.mark.parametrize("part", ["a text", ["a", "b"], [{"id": "i", "text": "t"}]])
def test_part_that_is_no_range_is_a_context_of_its_own(part):
    assert make_context("whole").slice(part) == make_context(part)
