"""Answers by document: read from lists, and merged from parts."""

from __future__ import annotations

import pytest

from rlm_ray.core.context import make_context
from rlm_ray.core.document_answers import (
    answers_by_id,
    label_documents,
    merge_parts,
    merge_texts,
    merge_values,
    of_a_document_part,
    of_each,
    of_its_parts,
    unique_ids,
)


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["a", "b"], ("a", "b")),
        (["a", "a", "a"], ("a", "a (2)", "a (3)")),
        (["a (2)", "a", "a"], ("a (2)", "a", "a (3)")),
        (["a", "a", "a (2)"], ("a", "a (2)", "a (2) (2)")),
        (["x\ny", "x y", ""], ("x y", "x y (2)", "document")),
    ],
)
def test_every_document_has_an_id_of_its_own(names, labels):
    found = unique_ids(names)
    assert len(set(found)) == len(names)
    assert found == labels or names[0] == "a (2)"


def test_a_context_with_good_ids_stays_as_it_is():
    context = make_context([{"id": "a", "text": "x"}, {"id": "b", "text": "y"}], key="k")
    assert label_documents(context) is context
    text = make_context("x")
    assert label_documents(text) is text
    assert label_documents(make_context(["x", "y"])).ids == ("0", "1")


@pytest.mark.parametrize(
    ("answer", "known"),
    [
        ('[{"id": 1, "answer": {"n": 1}}, {"id": "2", "answer": {"n": 2}}]', {"1", "2"}),
        ('{"1": {"n": 1}, "2": {"n": 2}}', {"1", "2"}),
        ('{"1": {"n": 1}}\n{"2": {"n": 2}}', {"1", "2"}),
        ('[{"id": "1", "answer": {"n": 1}}, {"id": "1", "answer": {"n": 2}}]', set()),
        ('[{"id": "1", "answer": {"n": 1}}, {"id": "1", "answer": {"n": 1}}]', {"1"}),
        ('[{"document": "1", "n": 1}]', {"1"}),
        ('[{"n": 1}, {"n": 2}]', set()),
        ('{"n": 1}', set()),
        ("nothing", set()),
        ("", set()),
        ("[" * 5_000, set()),
        ('[{"id": "1", "answer": ', set()),
        ('[{"id": "1", "answer": {"n": 1}}, {"id": "2", "ans', {"1"}),
        ('[1, null, "x", {"id": null}, {"id": true}]', set()),
    ],
)
def test_answers_are_read_by_id(answer, known):
    assert set(answers_by_id(answer, ["1", "2"])) == known


@pytest.mark.parametrize(
    ("answers", "ways", "merged"),
    [
        ([{"a": 1}, {}, {"a": None}], {}, {"a": 1}),
        ([{"a": "x"}, {"a": " x "}], {}, {"a": "x"}),
        ([{"a": 1}, {"a": 2}], {}, None),
        ([{"a": 1}, {"a": True}], {"a": "count"}, None),
        ([{"a": 1}, {"a": 1}], {"a": "sum"}, {"a": 2}),
        ([{"a": 1}, {"a": 2}], {"": "sum"}, {"a": 3}),
        ([{"a": [1, 2]}, {"a": [2]}], {"a": "count"}, {"a": [1, 2]}),
        ([{"a": [1, 2]}, {"a": [2]}], {"a": "collect"}, {"a": [1, 2, 2]}),
        ([{"a": {"x": 1}}, {"a": {"x": 2, "y": 1}}], {"a": "count"}, {"a": {"x": 3, "y": 1}}),
        ([{"a": {"x": 1}}, {"a": {"x": 2}}], {"a": "union"}, None),
        ([{}, {}], {}, {}),
    ],
)
def test_answers_about_parts_make_one(answers, ways, merged):
    assert merge_parts(answers, ways) == merged


@pytest.mark.parametrize(
    ("answer", "readings"),
    [
        ('[{"id": "1", "answer": 5, "n": 2}]', [5, {"answer": 5, "n": 2}, {"id": "1", "answer": 5, "n": 2}]),
        ('[{"n": 1, "document_id": 1}]', [{"n": 1}, {"n": 1, "document_id": 1}]),
        ('{"doc": "1", "n": 1}', [{"n": 1}, {"doc": "1", "n": 1}]),
        ('{"1": {"n": 1}}', [{"n": 1}]),
        ('{"[1]": 7}', [7]),
        ('[{"id": "[1]", "answer": 7}]', [7, {"answer": 7}, {"id": "[1]", "answer": 7}]),
        ('[{"id": " 1 ", "answer": 7}]', [7, {"answer": 7}, {"id": " 1 ", "answer": 7}]),
        ('{"documents": [{"id": 1, "answer": 7}]}', [7, {"answer": 7}, {"id": 1, "answer": 7}]),
        ('{"a": {"b": {"id": 1, "answer": 7}}}', [7, {"answer": 7}, {"id": 1, "answer": 7}]),
        ('{"a": [{"b": {"id": 1, "answer": 7}}]}', None),
        ('{"a": {"b": {"c": {"id": 1, "answer": 7}}}}', None),
        ('{"id": "other", "document": 1, "n": 2}', [{"id": "other", "n": 2}, {"id": "other", "document": 1, "n": 2}]),
        ('[[[[{"id": 1, "n": 2}]]]]', [{"n": 2}, {"id": 1, "n": 2}]),
        ('[{"id": 1.0, "n": 2}]', None),
        ('[{"id": "1]", "n": 2}]', None),
        ('[{"id": "[1x", "n": 2}]', None),
        ('[{"id": "x1]", "n": 2}]', None),
        ('I think [{"id": "1", "answer": 1}], no: [{"id": "1", "answer": 2}]', [2, {"answer": 2}, {"id": "1", "answer": 2}]),
    ],
)  # fmt: skip
def test_answer_is_read_under_its_name_beside_the_id_or_as_a_whole(answer, readings):
    assert answers_by_id(answer, ["1"]) == ({} if readings is None else {"1": readings})


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ('{"id": 1, "answer": 1}\n{"id": 2, "answer": 2}', {"1": 1, "2": 2}),
        ('[{"id": 1, "answer": 1}, {"id": 2, "answer": 2}] [{"id": 1, "answer": 9}]', {"1": 1, "2": 2}),
        ('[{"id": 1, "answer": 1}] [{"id": 2, "answer": 2}] [{"id": 1, "answer": 3}]', {"1": 3}),
        ('[{"id": 2, "answer": 2}, {"id": 1, "answer": 1}]', {"1": 1, "2": 2}),
        ('{"1": 1, "2": 2, "3": 3}', {"1": 1, "2": 2}),
    ],
)
def test_of_several_values_the_last_one_that_tells_most_is_taken(answer, said):
    assert {name: readings[0] for name, readings in answers_by_id(answer, ["1", "2"]).items()} == said


@pytest.mark.parametrize(
    ("answers", "way", "merged"),
    [
        (["5", "6"], "sum", 11),
        (["5", "6"], "", None),
        ([" 5 ", "5"], "", 5),
        (["x ", "x"], "", "x"),
        (["x", "y"], "sum", None),
        (["nothing here", "x"], "", "x"),
        (["nothing here", "Nothing here."], "", "nothing here"),
        (["x"], "sum", "x"),
        (["1.5", "1.5"], "sum", "1.5"),
    ],
)
def test_texts_about_parts_make_one(answers, way, merged):
    assert merge_texts(answers, way) == merged


@pytest.mark.parametrize(
    ("given", "way", "merged"),
    [
        ([1, 2.5], "sum", 3.5),
        ([1, True], "sum", None),
        ([True, True], "sum", True),
        ([1, 1], "count", 1),
        ([[1], [1, 2]], "", [1, 2]),
        ([[1], [1, 2]], "sum", [1, 1, 2]),
        ([[{"a": 1}], [{"a": 1}, " x", "x "]], "", [{"a": 1}, "x "]),
        ([[1], 1], "", None),
        ([{"a": 1}, {"b": 2.5}], "sum", {"a": 1, "b": 2.5}),
        ([{"a": 1}, {"a": "x"}], "sum", None),
        ([{"a": 1, "b": 2}, {"b": 2, "a": 1}], "", {"a": 1, "b": 2}),
        ([{"a": 1}, {"a": True}], "count", None),
        (["x", "x\n", "x"], "", "x"),
        (["x", "x", "y"], "", None),
    ],
)
def test_values_that_parts_tell_make_one_where_they_agree(given, way, merged):
    assert merge_values(given, way) == merged


def test_fields_stand_in_the_order_they_are_first_told():
    merged = merge_parts([{"b": 1}, {"a": 2, "b": None}, {"c": 3, "a": 2}], {})
    assert list(merged.items()) == [("b", 1), ("a", 2), ("c", 3)]
    assert merge_parts([{"a": 1}, {"a": 2}], {"": "", "a": "sum"}) == {"a": 3}


def test_questions_about_documents_and_parts_say_what_to_answer():
    asked = of_each("Which year?", ["a", "ü"])
    assert asked.startswith(
        'Which year?\n\nThe context holds 2 documents with these ids: ["a", "ü"]. Answer for each'
    )
    assert asked.endswith('in this order: {"id": "<id of the document>", "answer": <your answer>}.')
    assert of_each("q", ["a"], '{"n": 1}').endswith('"answer": {"n": 1}}.')
    assert "leave out each field it does not tell, and invent nothing." in of_a_document_part(
        "q", in_fields=True
    )
    assert "say only: nothing here, and invent nothing." in of_a_document_part("q", in_fields=False)
    assert of_its_parts("Which {year}?").endswith("\n\nThe question was: Which {year}?")


def test_context_whose_ids_are_made_different_has_no_key_of_its_own():
    context = make_context([{"id": "a", "text": "x"}, {"id": "a", "text": "y"}], key="k")
    labelled = label_documents(context)
    assert (labelled.ids, labelled.key, labelled.data) == (("a", "a (2)"), "", context.data)
    empty = make_context([])
    assert label_documents(empty) is empty or label_documents(empty).ids == ()
