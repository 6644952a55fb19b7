"""Rules of schemas at their edges: what a fault says, which kinds of answers are looked for, sizes, types of columns."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

from rlm_ray.errors import InputError
from rlm_ray.structured import validation
from rlm_ray.structured.arrow import columns_of, to_arrow_value
from rlm_ray.structured.json_schema import (
    estimate_answer_chars,
    iter_refs,
    resolve_ref,
    resolve_root,
    strip_annotations,
)
from rlm_ray.structured.schema import AnswerSchema
from rlm_ray.structured.validation import find_faults, is_linear, join_faults, place, shown

TEXT = {"type": "string"}


def fields(**properties):
    return {"type": "object", "properties": properties}


@pytest.mark.parametrize(
    ("table", "value", "why"),
    [
        ({"type": "integer"}, 1, ""),
        ({"type": "integer"}, 1.0, ""),
        ({"type": "integer"}, True, "the answer: found true, wanted an integer"),
        ({"type": ["integer", "null"]}, "x", 'the answer: found "x", wanted an integer or null'),
        ({"enum": ["a", 1]}, "b", 'the answer: found "b", wanted one of ["a", 1]'),
        ({"const": 5}, 6, "the answer: found 6, wanted 5"),
        ({"minimum": 5}, 4, "the answer: found 4, wanted at least 5"),
        ({"minimum": 5}, 5, ""),
        ({"maximum": 5}, 6, "the answer: found 6, wanted at most 5"),
        ({"exclusiveMinimum": 5}, 5, "the answer: found 5, wanted more than 5"),
        ({"exclusiveMaximum": 5}, 5, "the answer: found 5, wanted less than 5"),
        ({"multipleOf": 5}, 6, "the answer: found 6, wanted a multiple of 5"),
        ({"minLength": 3}, "ab", 'the answer: found "ab", wanted at least 3 characters'),
        ({"maxLength": 1}, "ab", 'the answer: found "ab", wanted at most 1 characters'),
        ({"minItems": 1}, [], "the answer: found [], wanted at least 1 items"),
        ({"maxItems": 1}, [1, 2], "the answer: found [1, 2], wanted at most 1 items"),
        ({"minProperties": 1}, {}, "the answer: found {}, wanted at least 1 fields"),
        ({"maxProperties": 0}, {"a": 1}, 'the answer: found {"a": 1}, wanted at most 0 fields'),
        ({"pattern": "^a"}, "b", 'the answer: found "b", wanted a text that matches "^a"'),
        ({"pattern": "^(?=a)a"}, "b", 'the answer: found "b", wanted a text that matches "^(?=a)a"'),
        ({"pattern": "b$"}, "ab", ""),
        ({"pattern": "a"}, 5, ""),
        ({"uniqueItems": True}, [1, 1.0], "the answer: found [1, 1.0], wanted items that differ from each other"),
        ({"uniqueItems": True}, [1, True, "1", [1], {"a": 1}], ""),
        ({"uniqueItems": True}, [{"a": [1]}, {"a": [1.0]}], 'the answer: found [{"a": [1]}, {"a": [1.0]}], wanted items that differ from each other'),
        ({"uniqueItems": False}, [1, 1], ""),
        ({"required": ["a", "b"]}, {"a": 1}, "the answer: 'b' is a required property and is missing"),
        (
            fields(b=TEXT, a=TEXT) | {"additionalProperties": False},
            {"c": 1, "a": "x"},
            'the answer: found {"c": 1, "a": "x"}, wanted no other field than ["a", "b"]; ["c"] is not among them',
        ),
        (fields(a=fields(b={"type": "array", "items": TEXT})), {"a": {"b": ["x", 5]}}, "`a.b[1]`: found 5, wanted a string"),
        ({"anyOf": [{"type": "integer"}, {"minLength": 3}]}, "ab", 'the answer: found "ab", wanted an integer or at least 3 characters'),
        ({"anyOf": [fields(a={"type": "integer"}), {"type": "null"}]}, {"a": "x"}, '`a`: found "x", wanted an integer'),
        ({"oneOf": [fields(a=fields(b={"type": "integer"})), fields(a={"type": "null"})]}, {"a": {"b": "x"}}, '`a.b`: found "x", wanted an integer'),
        ({"format": "date"}, "2024-02-30", 'the answer: found "2024-02-30", wanted a text of the format "date"'),
        ({"$ref": "#/$defs/no"}, 1, "it cannot be checked: the schema refers to '/$defs/no', which it does not hold"),
        ({"$ref": "#"}, 1, "it is nested too deeply, or its schema refers to itself without end"),
    ],
)  # fmt: skip
def test_fault_says_where_it_is_what_stands_there_and_what_was_wanted(table, value, why):
    assert find_faults(table, value) == why


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("date", "2024-01-31", "31.1.2024"), ("date-time", "2024-01-31T10:00:00Z", "2024-01-31"), ("time", "10:00:00", "25:00"),
        ("uuid", "12345678-1234-5678-1234-567812345678", "1234"), ("ipv4", "10.0.0.1", "10.0.0.256"), ("ipv6", "::1", "10.0.0.1"),
        ("email", "a@b.c", "a b@c"), ("email", "a@b", "@b"), ("unknown", "x", None),
    ],
)  # fmt: skip
def test_formats_are_checked(name, right, wrong):
    assert find_faults({"format": name}, right) == find_faults({"format": name}, 5) == ""
    assert wrong is None or find_faults({"format": name}, wrong)


def test_three_faults_are_told_each_up_to_three_hundred_characters():
    assert join_faults(["a", "b", "c", "d"]) == "a; b; c"
    assert join_faults(["x" * 301, "y"]) == "x" * 300 + "; y"
    assert find_faults({"items": TEXT}, [1, 2, 3, 4]).count("wanted a string") == 3


@pytest.mark.parametrize(
    ("steps", "why"), [(5, ""), (4, "it cannot be checked: the schema takes too many steps; make it simpler")]
)
def test_check_of_a_schema_that_takes_too_long_is_given_up(steps, why, monkeypatch):
    monkeypatch.setattr(validation, "MAX_STEPS", steps)
    assert find_faults({"items": {"type": "integer"}}, [1, 2, 3, 4]) == why


def test_check_that_takes_long_for_each_step_is_given_up(monkeypatch):
    clock = iter([0.0, *[validation.MAX_CPU_S] * 5, validation.MAX_CPU_S + 0.1])
    monkeypatch.setattr(validation, "thread_time", lambda: next(clock))
    check = {"items": {"type": "integer"}}
    assert not find_faults(check, [1, 2, 3, 4])
    clock = iter([0.0, *[validation.MAX_CPU_S] * 4, validation.MAX_CPU_S + 0.1])
    assert "too many steps" in find_faults(check, [1, 2, 3, 4])


DIALECTS = [
    "https://json-schema.org/draft/2020-12/schema",
    "http://json-schema.org/draft-07/schema#",
    "urn:none",
]


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("root", [{}, {"$schema": DIALECTS[0]}, {"$schema": DIALECTS[1]}])
def test_bounds_hold_for_a_schema_within_a_schema_that_names_its_dialect(root, dialect, monkeypatch):
    text = {"$schema": dialect, "allOf": [{"type": "string", "pattern": "^(a+)+$"}] * 5}
    schema = AnswerSchema.parse({**root, **fields(x=text), "additionalProperties": False}, trusted=False)
    monkeypatch.setattr(validation.re, "search", None)  # of this pattern it would take for ever
    assert "wanted a text that matches" in schema.check('{"x": "' + "a" * 60 + 'b"}').why
    monkeypatch.setattr(validation, "MAX_STEPS", 10)
    assert "too many steps" in schema.check('{"x": "aaa"}').why


def test_all_values_of_an_answer_are_checked_within_the_bounds_of_one(monkeypatch):
    schema = AnswerSchema.parse({"type": "array", "items": {"type": "integer"}})
    monkeypatch.setattr(validation, "MAX_STEPS", 20)
    assert schema.check("[1] or [2]").value == [2]
    assert schema.check(" or ".join(["[3]", *['["x"]'] * 4])).value == [3]
    assert schema.check(" or ".join(["[3]", *['["x"]'] * 8])).value is None
    assert schema.check("[1]").value == [1]


def test_a_fault_for_each_of_many_alternatives_does_not_quote_the_value_as_often():
    quoted = 0

    class Counted(dict):
        def __repr__(self):
            return "x" * 100_000

    for wanted in ({"type": "string"}, False):
        validator = validation._bounded(validation.validator_for({}))
        (fault,) = validator({"anyOf": [wanted] * 20}).iter_errors(Counted())
        quoted += sum(len(each.message) + len(str(each.args)) for each in fault.context)
    assert quoted < 1_000_000


@pytest.mark.parametrize("dialect", [5, None, [], {}, "http://[", "urn:none", ""])
def test_a_dialect_that_is_none_is_a_sentence_or_the_latest(dialect):
    table = {"$schema": dialect, **fields(x={"const": 1})}
    if isinstance(dialect, str):
        schema = AnswerSchema.parse(table, trusted=False)
        assert (schema.check('{"x": 1}').fits, schema.check('{"x": 2}').fits) == (True, False)
    else:
        with pytest.raises(InputError, match=r"is no valid JSON Schema at \$schema: "):
            AnswerSchema.parse(table, trusted=False)


@pytest.mark.parametrize(
    ("reference", "why"),
    [
        ("#/$defs/a%20b%24", ""), ("#k", ""), ("#/else/oneOf/0", ""), ("#/else/oneOf/2", "does not hold"), ("#/else/oneOf/x", "does not hold"),
        ("#/else/oneOf/9999999999", "does not hold"), ("#/else/oneOf/0000000009", "does not hold"), (f"#/else/oneOf/{'9' * 5000}", "does not hold"), ("#nobody", "does not hold"), ("##", "does not hold"), ("#/else/oneOf", "no valid JSON Schema"),
        ("#/$defs/c/$anchor", "no valid JSON Schema"), ("#/$defs/c/$anchor/0", "does not hold"), ("#/const/odd", "no valid JSON Schema"),
        ("#/const/further", "no valid JSON Schema"), ("#/const/endless", "does not hold"),
    ],
)  # fmt: skip
def test_a_reference_is_followed_or_refused_before_anything_is_asked(reference, why):
    hidden = {"odd": {"type": 5}, "further": {"$ref": "#/const/odd"}, "endless": {"$ref": "#/const/none"}}
    table = {
        **fields(x={"$ref": reference}),
        "$defs": {"a b$": {"const": 1}, "c": {"$anchor": "k", "const": 1}},
        "else": {"oneOf": [{"const": 1}, {"const": 2}]},
        "not": {"const": hidden},
    }
    text = json.dumps(table).replace("#/const", "#/not/const")
    if why:
        with pytest.raises(InputError, match=why):
            AnswerSchema.parse(text, trusted=False)
    else:
        schema = AnswerSchema.parse(text, trusted=False)
        assert (schema.check('{"x": 1}').fits, schema.check('{"x": 2}').fits) == (True, False)


@pytest.mark.parametrize(
    "table",
    [
        {"const": {"pattern": "(?=a)(a+)+$"}, "$ref": "#/const"},
        {"enum": [{"patternProperties": {"a": {}}}], "$ref": "#/enum/0"},
        {"default": {"$ref": "#/examples/0"}, "examples": [{"pattern": "(a)\\1"}], "allOf": [{"$ref": "#/default"}]},
        {"$schema": DIALECTS[1], "dependencies": {"default": {"pattern": "(?=a)(a+)+$"}}},
        {"dependentSchemas": {"const": {"pattern": "(?=a)(a+)+$"}}},
    ],
)  # fmt: skip
def test_a_pattern_of_a_client_is_found_wherever_it_stands(table):
    with pytest.raises(InputError, match="not supported here"):
        AnswerSchema.parse(table, trusted=False)


def test_a_schema_of_a_client_that_takes_long_to_check_is_refused(monkeypatch):
    table = {"$schema": "http://json-schema.org/draft-04/schema#", "enum": [{"a": n} for n in range(2_000)]}
    assert (
        AnswerSchema.parse(table, trusted=False).check('{"a": 5}').fits
    )  # quadratic in jsonschema's own check
    monkeypatch.setattr(validation, "MAX_STEPS", 20)
    with pytest.raises(InputError, match="takes too many steps to check"):
        AnswerSchema.parse(fields(x=TEXT), trusted=False)
    assert AnswerSchema.parse(fields(x=TEXT)).table


def test_patterns_of_a_client_are_made_within_the_bounds_of_a_check(monkeypatch):
    table = {"anyOf": [{"pattern": f"^{letter}$"} for letter in "pqrstuvwxyz"]}
    assert AnswerSchema.parse(table, trusted=False).check('"z"').fits
    count, left = validation._Bounds.count, iter(range(1_000))
    validation._rust.cache_clear()
    monkeypatch.setattr(validation._Bounds, "count", lambda bounds: (next(left), count(bounds)))
    AnswerSchema.parse(table, trusted=False)
    validation._rust.cache_clear()
    monkeypatch.setattr(validation, "MAX_STEPS", next(left) - 5)
    with pytest.raises(InputError, match="takes too many steps to check"):
        AnswerSchema.parse(table, trusted=False)


@pytest.mark.parametrize(
    ("path", "said"), [((), "the answer"), (("a",), "`a`"), (("a", 0, "b"), "`a[0].b`"), ((2,), "`[2]`"), ((2, "x"), "`[2].x`")]
)  # fmt: skip
def test_place_in_an_answer(path, said):
    assert place(path) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [("x" * 78, '"' + "x" * 78 + '"'), ("x" * 79, '"' + "x" * 79 + "…"), ({"ä": 1}, '{"ä": 1}'), (pytest, f'"{pytest!r}"'[:80] + "…")],
)  # fmt: skip
def test_value_is_shown_up_to_eighty_characters(value, said):
    assert shown(value) == said or value is pytest


def test_patterns_with_look_around_are_not_linear():
    assert [is_linear(pattern) for pattern in ("a+b*", "(?=a)", r"(a)\1", "[")] == [True, False, False, False]


@pytest.mark.parametrize(
    ("table", "answer", "value"),
    [
        ({"type": "array"}, "It is [1, 2].", [1, 2]),
        ({"type": "string"}, " two words ", "two words"),
        ({"type": "string"}, '"quoted"', "quoted"),
        ({}, "two words", "two words"),
        ({"type": "integer"}, "5", 5),
        ({"type": "integer"}, "```json\n5\n```", 5),
        ({"enum": ["yes", "no"]}, "yes", "yes"),
        ({"const": "yes"}, "yes", "yes"),
        ({"anyOf": [{"type": "null"}, {"type": "string"}]}, "x y", "x y"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"type": "string"}}}, "x y", "x y"),
        ({"type": ["string", "null"]}, "null", None),
    ],
)  # fmt: skip
def test_value_of_the_wanted_kind_is_found(table, answer, value):
    checked = AnswerSchema.parse(table).check(answer)
    assert (checked.why, checked.value) == ("", value)


@pytest.mark.parametrize(
    ("table", "answer", "why"),
    [
        ({"type": "integer"}, "five", 'the answer: found "five", wanted an integer'),
        ({"type": "array"}, "five", "no JSON array"),
        ({"type": "object"}, "five", "no JSON object"),
        ({"type": "integer"}, " ", "empty"),
        ({"enum": ["yes"]}, "no", 'the answer: found "no", wanted one of ["yes"]'),
        ({"type": "integer"}, '"x"', 'the answer: found "x", wanted an integer'),
    ],
)
def test_answer_of_another_kind_says_what_was_wanted(table, answer, why):
    assert why in AnswerSchema.parse(table).check(answer).why


@pytest.mark.parametrize(
    ("table", "is_object"),
    [
        ({"type": "object"}, True), ({"properties": {"a": {}}}, True), ({"enum": [{"a": 1}]}, True), ({"anyOf": [{"type": "object"}, {"const": {}}]}, True),
        ({"type": ["object", "null"]}, False), ({}, False), ({"enum": [1, {}]}, False), ({"anyOf": [{"type": "object"}, True]}, False), ({"enum": [[]]}, False),
        ({"oneOf": [{"type": "object"}] * 250}, False), ({"allOf": [{"type": "object"}]}, True),
    ],
)  # fmt: skip
def test_schema_knows_whether_every_answer_is_an_object(table, is_object):
    schema = AnswerSchema(table)
    assert schema.wants_objects is is_object
    assert ("one JSON object and nothing else" in schema.instruction()) is is_object


@pytest.mark.parametrize(
    ("table", "why"),
    [
        ({"description": "x" * 100_000}, "has 100,019 characters; the most is 100,000"),
        ({"type": "string", "pattern": "(?=a)"}, "look-around and back-references are not supported here"),
        ({"patternProperties": {"a": {}}}, "has patternProperties"),
        ({"type": "objekt"}, "is no valid JSON Schema at type: 'objekt' is not valid"),
        ({"properties": {"a": {"type": 5}}}, "is no valid JSON Schema at properties.a.type"),
        ({"a": {1, 2}}, "is no JSON"),
    ],
)
def test_schema_of_a_client_that_could_cost_too_much_is_refused(table, why):
    with pytest.raises(InputError) as refused:
        AnswerSchema.parse(table, trusted=False)
    assert why in str(refused.value)


@pytest.mark.parametrize(("depth", "fits"), [(49, True), (50, False)])
def test_schema_of_a_client_may_be_nested_a_hundred_deep(depth, fits):
    table = {}
    for _ in range(depth):
        table = {"properties": {"a": table}}
    if fits:
        assert AnswerSchema.parse(table, trusted=False).table == table
    else:
        with pytest.raises(InputError, match="nested deeper than 100"):
            AnswerSchema.parse(table, trusted=False)
    assert AnswerSchema.parse(table).table == table


def test_trusted_schema_may_be_long_and_have_any_pattern():
    assert AnswerSchema.parse({"description": "x" * 100_000}).table
    assert AnswerSchema.parse({"pattern": "(?=a)"}).check("a").value == "a"
    with pytest.raises(InputError, match="is no valid JSON Schema at pattern"):
        AnswerSchema.parse({"pattern": "["})
    assert AnswerSchema.parse({"description": "x" * 99_980}, trusted=False)


@pytest.mark.parametrize("source", [None, "no json", 5, True, [], 1.5])
def test_what_is_no_schema_is_refused(source):
    with pytest.raises(InputError):
        AnswerSchema.parse(source, trusted=False)


def test_text_of_a_schema_makes_the_same_one():
    schema = AnswerSchema.parse(fields(a=TEXT) | {"required": ["a"]})
    assert AnswerSchema.parse(schema.source) == schema
    assert AnswerSchema.parse(schema) is schema
    assert schema.required == ("a",)
    for text in (' {"type": "string"} ', '{"type": "string"}'):
        assert AnswerSchema.parse(text).table == TEXT
    with pytest.raises(InputError, match="cannot be read as a JSON Schema"):
        AnswerSchema.parse("{")


def test_answer_about_a_part_may_leave_out_each_field():
    table = fields(a=TEXT, b={"type": "integer"}) | {"required": ["a"], "title": "T"}
    part = AnswerSchema.parse(table).for_part()
    assert "required" not in part.table
    assert part.table["title"] == "T"
    assert [part.check(answer).value for answer in ("{}", '{"a": null, "b": 1}')] == [{}, {"a": None, "b": 1}]
    assert part.check('{"a": 5}').value is None
    referred = AnswerSchema.parse({"$ref": "#/$defs/x", "$defs": {"x": table}}).for_part()
    assert referred.check("{}").value == {}
    assert "$ref" not in referred.table


@pytest.mark.parametrize(
    ("table", "chars"),
    [
        (TEXT, 42), ({"type": "string", "maxLength": 10}, 12), ({"type": "string", "maxLength": 500}, 42), ({"type": "boolean"}, 5), ({"type": "integer"}, 4),
        ({"type": "number"}, 6), ({"type": "null"}, 4), ({"enum": ["a", "abc"]}, 4), ({"const": "ab"}, 4), ({"anyOf": [{"type": "null"}, TEXT]}, 4),
        ({"type": ["integer", "null"]}, 4), ({}, 42), ({"type": "array", "items": {"type": "integer"}}, 20), ({"type": "array", "items": {"type": "null"}, "maxItems": 1}, 5),
        ({"type": "array", "items": {"type": "null"}, "minItems": 3, "maxItems": 5}, 26), ({"type": "array", "items": {"type": "null"}, "minItems": 9}, 56),
        ({"type": "array"}, 128), ({"type": "object", "additionalProperties": {"type": "null"}}, 20), (fields(ab={"type": "integer"}, c=TEXT), 12 + 49),
        ({"properties": {"ab": {"type": "integer"}}}, 12), ({"$ref": "#/$defs/a", "$defs": {"a": {"type": "integer"}}}, 4),
        ({"type": "array", "items": {"$ref": "#"}}, None), ({"anyOf": [{"$ref": "#"}]}, 40),
    ],
)  # fmt: skip
def test_length_of_an_answer_is_estimated_from_its_schema(table, chars):
    found = estimate_answer_chars(table)
    assert found == chars if chars is not None else found > 100


def test_references_are_followed_within_their_schema():
    table = {
        "$defs": {"a/b": {"~": 5}, "c": {"$ref": "#/$defs/d"}, "d": {"type": "string"}},
        "$ref": "#/$defs/c",
    }
    assert resolve_ref(table, "#/$defs/a~1b/~0") == 5
    assert resolve_ref(table, "#") is table
    assert resolve_root(table) == TEXT
    for reference in ("#/$defs/no", "other#/a", 5, "#/$defs/a~1b/~0/x"):
        with pytest.raises(KeyError):
            resolve_ref(table, reference)
    assert sorted(
        iter_refs(
            {"a": [{"$ref": "x"}], "properties": {"$ref": {"$dynamicRef": "y"}}, "enum": [{"$ref": "z"}]}
        )
    ) == ["x", "y"]


def test_schema_is_shown_without_what_only_people_read():
    table = {
        "title": "T",
        "$id": "x",
        "properties": {"title": {"title": "U", "type": "string"}},
        "enum": [{"title": "kept"}],
        "anyOf": [{"$comment": "c", "type": "null"}],
    }
    assert strip_annotations(table) == {
        "properties": {"title": {"type": "string"}}, "enum": [{"title": "kept"}], "anyOf": [{"type": "null"}],
    }  # fmt: skip
    assert AnswerSchema(table).compact() == json.dumps(strip_annotations(table), separators=(",", ":"))


@pytest.mark.parametrize(
    ("field", "kind"),
    [
        (TEXT, pa.string()), ({"type": "integer"}, pa.int64()), ({"type": "number"}, pa.float64()), ({"type": "boolean"}, pa.bool_()), ({}, pa.string()),
        ({"type": ["integer", "null"]}, pa.int64()), ({"type": ["integer", "string"]}, pa.string()), ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, pa.int64()),
        ({"anyOf": [{"type": "integer"}, TEXT]}, pa.string()), ({"allOf": [{"type": "integer"}]}, pa.int64()), ({"enum": ["a", None]}, pa.string()),
        ({"enum": [1, 2]}, pa.int64()), ({"enum": [1, 2.5]}, pa.string()), ({"enum": [True]}, pa.bool_()), ({"const": 1.5}, pa.float64()), ({"enum": [None]}, pa.string()),
        ({"type": "array"}, pa.string()), ({"type": "array", "items": {"type": "integer"}}, pa.list_(pa.int64())), ({"type": "object"}, pa.string()),
        (fields(x={"type": "integer"}), pa.struct([("x", pa.int64())])), ({"type": "null"}, pa.string()), (True, pa.string()),
    ],
)  # fmt: skip
def test_column_has_the_type_of_its_field(field, kind):
    assert columns_of({"properties": {"a": field}}).field("a").type == kind


@pytest.mark.parametrize(
    ("kind", "value", "held"),
    [
        (pa.string(), None, None), (pa.string(), "x", "x"), (pa.string(), 5, "5"), (pa.string(), {"ä": 1}, '{"ä": 1}'), (pa.int64(), 5.0, 5), (pa.float64(), 5, 5.0),
        (pa.bool_(), True, True), (pa.list_(pa.int64()), [1.0, None], [1, None]), (pa.struct([("a", pa.string()), ("b", pa.int64())]), {"a": 1}, {"a": "1", "b": None}),
    ],
)  # fmt: skip
def test_value_is_held_as_its_column_has_it(kind, value, held):
    found = to_arrow_value(kind, value)
    assert (found, type(found)) == (held, type(held))


@pytest.mark.parametrize(
    ("part", "kind"),
    [({"anyOf": [True, TEXT]}, pa.string()), ({"oneOf": [True]}, pa.string()), ({"anyOf": [TEXT, {"type": "null"}]}, pa.string())],
)  # fmt: skip
def test_column_of_a_union_with_anything(part, kind):
    assert columns_of(fields(x=part)).field("x").type == kind


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ({"properties": {"a": TEXT}}, 5), ({"enum": [2**70]}, 2**70), ({"type": "integer"}, 2**63),
        ({"type": "array", "items": {"properties": {"a": TEXT}}}, [5]), pytest.param({"type": "number"}, 10**400, id="no double"),
    ],
)  # fmt: skip
def test_a_value_that_fits_the_schema_and_no_column_is_an_error(part, value):
    schema = AnswerSchema.of(fields(x=part))
    assert schema.check_value({"x": value}).fits
    with pytest.raises(InputError, match="x: cannot be held in a column of the type"):
        schema.row({"x": value})


@pytest.mark.parametrize(("number", "fits"), [(1e18, True), (-1e300, True), (1.0, True), (1.5, False), (2**64, True), (float("inf"), False), (True, False)])  # fmt: skip
def test_an_integer_is_a_whole_number_of_any_size(number, fits):
    assert AnswerSchema.parse({"type": "integer"}).check_value(number).fits is fits
