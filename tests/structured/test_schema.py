"""Structured answers: asked for, found, checked, repaired, and as typed columns."""

from __future__ import annotations

import json
from typing import Literal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, field_validator

from rlm_ray.errors import InputError
from rlm_ray.structured.schema import AnswerSchema

STATUS = {
    "type": "object",
    "properties": {
        "status": {"enum": ["Final", "Draft"]},
        "title": {"type": "string", "title": "Title"},
        "year": {"type": ["integer", "null"]},
    },
    "required": ["status"],
    "additionalProperties": False,
}
SCHEMA = AnswerSchema.of(STATUS)


class Author(BaseModel):
    name: str
    mail: str | None = None


class Paper(BaseModel):
    title: str
    year: int
    share: float = 0.5
    kind: Literal["a", "b"] = "a"
    authors: list[Author] = Field(default_factory=list)
    note: int | str | None = None
    extra: dict[str, int] = Field(default_factory=dict)

    @field_validator("year")
    @classmethod
    def _after_printing(cls, year: int) -> int:
        if year < 1450:
            raise ValueError("before printing")
        return year


class Node(BaseModel):
    name: str
    children: list[Node] = Field(default_factory=list)


@pytest.mark.parametrize(
    "answer",
    [
        '{"status": "Final"}',
        ' \n{"status": "Final"}\n',
        '```json\n{"status": "Final"}\n```',
        'Here it is:\n```\n{"status": "Final"}\n```\nAs you asked.',
        'It is {"status": "Final"}, as the header says.',
        'First I thought {"status": "Maybe"}, but it is {"status": "Final"}.',
        '{"thought": {"status": "Draft"}} and so {"status": "Final"}',
        'in set notation { x | x > 0 } it is {"status": "Final"}',
        '<think>{"status": "Draft"}</think>{"status": "Final"}',
    ],
)
def test_the_object_is_found_wherever_it_stands(answer):
    assert SCHEMA.check(answer).value == {"status": "Final"}


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("", "empty"),
        ("Final", "no JSON object"),
        ('["Final"]', "no JSON object"),
        ('{"status": "Final"', "before it is complete"),
        ('{"status": Final}', "not valid"),
        ('{"status": "Over"}', '`status`: found "Over", wanted one of'),
        ('{"status": "Final", "year": "x"}', "`year`"),
        ("{}", "the answer: 'status' is a required property"),
        ('{"status": "Final", "more": 1}', "more"),
        ('{"status": "Final", "year": 18446744073709551616}', "64 bits"),
        ('{"status": "Final", "year": NaN}', "NaN"),
        ('{"status": "Final", "title": "\\ud800"}', "no JSON object"),
    ],
)
def test_what_cannot_be_used_says_why(answer, why):
    checked = SCHEMA.check(answer)
    assert checked.value is None
    assert why in checked.why


@given(st.text(alphabet='{}[]":, \\nabc1`') | st.text())
def test_no_answer_breaks_the_check(answer):
    checked = SCHEMA.check(answer)
    assert (checked.value is None) == bool(checked.why)


@pytest.mark.parametrize("answer", ["{" * 100_000, '{"a":' * 50_000, "[" * 100_000, "```" * 20_000])
@pytest.mark.timeout(5)
def test_a_hostile_answer_is_refused_quickly(answer):
    assert SCHEMA.check(answer).value is None


def test_the_question_states_the_schema_without_decoration():
    asked = SCHEMA.ask("Which status?")
    assert asked.startswith("Which status?\n")
    shown = json.loads(asked[asked.index("{") :])
    assert shown["properties"]["title"] == {"type": "string"}
    assert shown["required"] == ["status"]


def test_a_repair_shows_the_answer_and_what_is_wrong():
    repair = SCHEMA.repair('{"status": "Over"}' + " " * 50_000, "`status`: not one of")
    assert '{"status": "Over"}' in repair
    assert "`status`: not one of" in repair
    assert len(repair) < 25_000


def test_a_pydantic_model_checks_with_its_own_validators():
    schema = AnswerSchema.of(Paper)
    assert "before printing; found 1449" in schema.check('{"title": "x", "year": 1449}').why
    assert schema.check('{"title": "x"}').why == "`year`: Field required"
    value = schema.check('{"title": "x", "year": "1991", "authors": [{"name": "A"}]}').value
    assert value is not None
    assert value["year"] == 1991
    assert value["authors"] == [{"name": "A", "mail": None}]


def test_a_schema_file_is_read(tmp_path):
    file = tmp_path / "status.json"
    file.write_text(json.dumps(STATUS))
    assert AnswerSchema.of(file) == SCHEMA
    assert AnswerSchema.of(str(file)) == SCHEMA


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ({"type": "object"}, "properties"),
        ({"type": "array", "items": {"type": "string"}}, "properties"),
        ({"type": "objekt", "properties": {"a": {}}}, "no valid JSON Schema"),
        ({"type": "object", "properties": {"a": {"$ref": "#/$defs/no"}}}, "does not hold"),
        ({"type": "object", "properties": {"a": {"$ref": "https://x.example/a"}}}, "does not hold"),
        (3, "pydantic"),
        ("/no/such/file.json", "does not exist; give the path of a JSON Schema"),
    ],
)
def test_a_schema_that_cannot_work_is_refused_at_once(source, why):
    with pytest.raises(InputError, match=why.replace("(", r"\(")):
        AnswerSchema.of(source)


def test_columns_have_types():
    columns = AnswerSchema.of(Paper).arrow()
    assert columns.field("title").type == pa.string()
    assert columns.field("year").type == pa.int64()
    assert columns.field("share").type == pa.float64()
    assert columns.field("kind").type == pa.string()
    assert columns.field("authors").type == pa.list_(
        pa.struct([("name", pa.string()), ("mail", pa.string())])
    )
    assert columns.field("note").type == pa.string()
    assert columns.field("extra").type == pa.string()


def test_a_checked_value_becomes_a_row_of_its_columns():
    schema = AnswerSchema.of(Paper)
    value = schema.check(
        '{"title": "x", "year": 1991, "share": 1, "note": 7, "extra": {"a": 1}, "authors": [{"name": "Ä"}]}'
    ).value
    table = pa.Table.from_pylist([schema.row(value)], schema=schema.arrow())
    assert table.to_pylist() == [
        {
            "title": "x",
            "year": 1991,
            "share": 1.0,
            "kind": "a",
            "authors": [{"name": "Ä", "mail": None}],
            "note": "7",
            "extra": '{"a": 1}',
        }
    ]


def test_a_schema_that_holds_itself_ends_in_json_text():
    schema = AnswerSchema.of(Node)
    value = schema.check('{"name": "a", "children": [{"name": "b", "children": [{"name": "c"}]}]}').value
    table = pa.Table.from_pylist([schema.row(value)], schema=schema.arrow())
    assert json.loads(table["children"][0][0]["children"].as_py()[0])["name"] == "c"
