"""What a map-reduce asks each piece, each document and each part, and which of its fields are there."""

from __future__ import annotations

import pytest

from rlm_ray.core.document_answers import of_a_document_part, of_each, of_its_parts
from rlm_ray.core.map_reduce import map_prompt, reduce_prompt
from rlm_ray.errors import InputError
from rlm_ray.mapreduce.spec import parse_spec

TABLE = {
    "type": "object",
    "properties": {"status": {"type": "string"}, "n": {"type": "integer"}},
    "required": ["status"],
}


def test_without_a_schema_questions_are_plain_text():
    for spec in (parse_spec("Which?"), parse_spec("Which?", reduce="count")):
        assert spec.question_of_each(["a", "b"]) == of_each("Which?", ["a", "b"])
        assert spec.part_question == of_a_document_part("Which?", in_fields=False)
        assert spec.parts_question == of_its_parts("Which?")
        assert spec.reduce_question == reduce_prompt("Which?", cite=True)
    assert parse_spec("Which?").map_question == map_prompt("Which?")
    assert parse_spec("Which?", reduce="count").map_question == "Which?"
    own = parse_spec("Which?", reduce_query="Count them.")
    assert own.reduce_question == reduce_prompt("Which?", "Count them.")


@pytest.mark.parametrize("reduce", ["model", "count:status"])
def test_with_a_schema_every_question_asks_for_its_fields(reduce):
    spec = parse_spec("Which?", reduce=reduce, schema=TABLE)
    assert spec.map_question == spec.schema.ask("Which?")
    assert spec.question_of_each(["a", "b"]) == of_each("Which?", ["a", "b"], spec.schema.described())
    part = of_a_document_part("Which?", in_fields=True)
    assert spec.part_question == spec.schema.for_part().ask(part) != spec.schema.ask(part)
    assert spec.parts_question == spec.schema.ask(of_its_parts("Which?"))
    assert spec.reduce_question == spec.schema.ask(reduce_prompt("Which?", cite=False))
    own = parse_spec("Which?", reduce=reduce, schema=TABLE, reduce_query="Count.")
    assert own.reduce_question == own.schema.ask(reduce_prompt("Which?", "Count.", cite=False))


@pytest.mark.parametrize(
    ("options", "one_answer_a_document"),
    [({}, False), ({"reduce": "count"}, True), ({"schema": TABLE}, True), ({"reduce": "count:n", "schema": TABLE}, True)],
)  # fmt: skip
def test_documents_have_an_answer_each_where_values_are_put_together(options, one_answer_a_document):
    assert parse_spec("Which?", **options).one_answer_a_document is one_answer_a_document


@pytest.mark.parametrize(
    ("reduce", "schema", "fields"),
    [
        ("model", None, None), ("count", None, None), ("count:a", None, ["a"]), ("count:a,sum:b", None, ["a", "b"]), ({"a": "union"}, None, ["a"]),
        ("count:n", TABLE, ["status", "n"]), ("count", TABLE, ["status", "n"]), ("model", TABLE, ["status", "n"]),
        ("count:x", {"$ref": "#/$defs/t", "$defs": {"t": {"type": "object", "properties": {"x": {}}}}}, ["x"]),
    ],
)  # fmt: skip
def test_fields_to_be_reduced_make_a_schema_where_there_is_none(reduce, schema, fields):
    found = parse_spec("Which?", reduce=reduce, schema=schema).schema
    if fields is None:
        assert found is None
    elif schema is None:
        assert found.table == {
            "type": "object",
            "properties": {name: {} for name in fields},
            "required": fields,
        }
    else:
        assert found.table == schema


@pytest.mark.parametrize(
    ("query", "options", "why"),
    [
        ("", {}, "query: is empty; say what you want to know"), (" \n", {}, "query: is empty"), (None, {}, "query: is empty"), (7, {}, "query: is empty"),
        ("q", {"on_error": "drop"}, "on_error: must be raise or skip; got 'drop'"), ("q", {"pakc": True}, "pakc: is no keyword of map_reduce"),
        ("q", {"reduce": "count:a", "schema": TABLE}, "'a' is no field of the schema; it has status, n"),
        ("q", {"reduce": "count:n,sum:b", "schema": TABLE}, "'b' is no field of the schema"), ("q", {"reduce": "max"}, "must be model, collect"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(query, options, why):
    with pytest.raises(InputError) as refused:
        parse_spec(query, **options)
    assert why in str(refused.value)


def test_what_is_said_is_kept_and_the_rest_has_its_defaults():
    spec = parse_spec("Which?", split_by="tokens", size=5, overlap=2, pack=False, on_error="skip")
    assert (spec.split_by, spec.size, spec.overlap, spec.pack, spec.on_error) == (
        "tokens",
        5,
        2,
        False,
        "skip",
    )
    plain = parse_spec("Which?")
    assert (plain.split_by, plain.size, plain.overlap, plain.pack, plain.on_error) == (
        None,
        None,
        0,
        True,
        "raise",
    )
    assert (plain.reduce, plain.schema, plain.reduce_query) == (None, None, "")
