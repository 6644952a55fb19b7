"""JSON objects and arrays in answers of models."""

from __future__ import annotations

import pytest

from rlm_ray.core.json_extraction import explain_no_json, find_json_objects, find_json_values, values_in


@pytest.mark.parametrize(
    ("answer", "objects"),
    [
        ('{"a": 1}', [{"a": 1}, {"a": 1}]), (' {"a": 1}\n', [{"a": 1}, {"a": 1}]), ("[1]", []), ("no", []), ("", []),
        ('x {"a": 1} y {"b": 2} z', [{"b": 2}, {"a": 1}]),
        ('```json\n{"a": 1}\n```\nand\n```\n{"b": 2}\n```', [{"b": 2}, {"a": 1}, {"b": 2}, {"a": 1}]),
        ('{"a": {"b": 1}}', [{"a": {"b": 1}}] * 2), ('{bad {"a": 1}', [{"a": 1}]), ('{"a": NaN} {"b": 1}', [{"b": 1}]),
        ('{"a": "\\ud800"} {"b": 1}', [{"b": 1}]), ("[" + '{"a": 1}]', [{"a": 1}]),
    ],
)  # fmt: skip
def test_objects_come_last_written_first(answer, objects):
    assert list(find_json_objects(answer)) == objects


@pytest.mark.parametrize(
    ("answer", "values"),
    [
        ('[1, {"a": 1}]', [[1, {"a": 1}]]), ("```json\n[1]\n```", [[1]]), ('```\n{"a": 1}\n```\n```\n{"b": 2}\n```', [{"a": 1}, {"b": 2}]),
        ('first [1] then {"a": [2]} end', [[1], {"a": [2]}]), ("3", []), ('"[1]"', [[1]]), ("", []),
    ],
)  # fmt: skip
def test_values_come_as_written(answer, values):
    assert values_in(answer) == values


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("", "the answer is empty"), ("  \n", "the answer is empty"), ("yes", "the answer holds no JSON object"),
        ('so {"a": 1', "the JSON ends before it is complete"), ('{"a": [1, 2', "the JSON ends before it is complete"),
        ('so {"a" 1}', "the JSON is not valid: Expecting ':' delimiter at character 6 of it"),
        ('{"a": NaN}', "the JSON cannot be used: NaN is no JSON number"), ('{"a": 1}', "the answer holds no JSON object"),
        (f'{{"a": {2**63}}}', "the JSON cannot be used: a whole number has more than 64 bits"),
    ],
)  # fmt: skip
def test_answer_without_an_object_says_why(answer, why):
    assert explain_no_json(answer) == why


@pytest.mark.parametrize(
    ("number", "is_read"),
    [
        (2**63 - 1, True),
        (2**63, False),
        (-(2**63), True),
        (-(2**63) - 1, False),
        (10**24, False),
        (10**400, False),
        (0, True),
    ],
)
def test_whole_numbers_have_64_bits(number, is_read):
    assert values_in(f"[{number}]") == ([[number]] if is_read else [])


def test_answer_full_of_braces_is_given_up():
    assert list(find_json_objects("{" * 999 + ' {"a": 1}')) == [{"a": 1}]
    assert list(find_json_objects("{" * 1001 + ' {"a": 1}')) == []
    assert values_in("[" * 100_000) == []


@pytest.mark.parametrize(
    ("answer", "values"),
    [
        ("3", [3, 3]), ("true", [True]), ("True", [True]), (" 'a' ", ["a"]), ("(1, 2)", [[1, 2]]), ("{'a': None}", [{"a": None}]), ("None", [None]), ("word", []),
        ('so: [1] or {"a": 2}', [{"a": 2}, [1]]), ("```json\n1\n```\n```\n2\n```", [2, 1]), ("{1, 2}", []), ("1e999", []), ("[1e999]", []), ("-1e999", []),
        ("1.5", [1.5, 1.5]), ("", []),
    ],
)  # fmt: skip
def test_values_of_any_type_come_last_written_first_and_literals_of_python_at_the_end(answer, values):
    assert list(find_json_values(answer)) == values


@pytest.mark.parametrize(("chars", "is_read"), [(20_000, True), (20_001, False)])
def test_literal_of_python_may_have_twenty_thousand_characters(chars, is_read):
    assert list(find_json_values("'" + "x" * (chars - 2) + "'")) == (["x" * (chars - 2)] if is_read else [])


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("yes", "the answer holds no JSON array"), ("[1, 2", "the JSON ends before it is complete"), ("so [1 2]", "the JSON is not valid: Expecting ',' delimiter at character 4 of it"),
        ('{"a": 1}', "the answer holds no JSON array"), ("[1e999]", "the JSON cannot be used: a number is larger than any that can be written down"),
    ],
)  # fmt: skip
def test_answer_without_an_array_says_why(answer, why):
    assert explain_no_json(answer, "array") == why
