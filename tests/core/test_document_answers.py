"""Answers by document: read from lists, and merged from parts."""

from __future__ import annotations

import pytest

from rlm_ray.core.context import make_context
from rlm_ray.core.document_answers import answers_by_id, label_documents, merge_parts, unique_ids


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
