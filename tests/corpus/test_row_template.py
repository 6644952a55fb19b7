"""The question of a row, made of a template or taken from a column."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlm_ray.corpus.template import Column, Template
from rlm_ray.errors import InputError

NAMES = st.from_regex(r"[a-zA-Z_äß][a-zA-Z0-9_ü]{0,8}", fullmatch=True).filter(str.isidentifier)
PARTS = st.lists(
    st.one_of(st.tuples(st.just(True), NAMES), st.tuples(st.just(False), st.text(min_size=1))), min_size=1
)


def written(parts):
    """How a user writes these parts down."""
    return "".join(
        f"{{{text}}}" if is_name else text.replace("{", "{{").replace("}", "}}") for is_name, text in parts
    )


@settings(deadline=None, max_examples=50)
@given(PARTS, st.data())
def test_names_are_replaced_and_everything_else_is_what_it_was(parts, data):
    source = written(parts)
    if not source.strip():
        return
    template = Template.parse(source)
    values = {name: data.draw(st.text()) for is_name, name in parts if is_name}
    assert set(template.names) == set(values)
    assert template.of(values) == "".join(values[text] if is_name else text for is_name, text in parts)


@settings(deadline=None, max_examples=50)
@given(st.text(alphabet="{}ab .!0", min_size=1))
def test_any_text_is_either_refused_or_filled_without_surprises(source):
    try:
        template = Template.parse(source)
    except InputError:
        return
    filled = template.of(dict.fromkeys(template.names, "V"))
    rest = source.replace("{{", "").replace("}}", "")
    assert rest.count("{") == rest.count("}")
    assert len(filled) <= len(source)


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(NAMES, st.text(), min_size=1))
def test_a_value_is_never_taken_for_a_template(values):
    name = next(iter(values))
    assert Template.parse(f"{{{name}}}").of(dict.fromkeys(values, "{other} {{x}}")) == "{other} {{x}}"


@pytest.mark.parametrize(
    "source", ["{", "}", "{}", "{a.b}", "{a!r}", "{a[0]}", "{a:>9}", "{0}", "{a b}", '{"a": 1}']
)
def test_a_brace_that_is_no_name_is_refused(source):
    with pytest.raises(InputError, match=r"write \{\{ and \}\} for braces"):
        Template.parse(source)


@pytest.mark.parametrize("source", ["", "  \n"])
def test_an_empty_question_is_refused(source):
    with pytest.raises(InputError, match="is empty"):
        Template.parse(source)


def test_values_that_are_no_text_are_shown_as_json():
    values = {"n": 3, "tags": ["ä"], "flag": True}
    assert Template.parse("{n} {tags} {flag}").of(values) == '3 ["ä"] true'


@pytest.mark.parametrize("question", [Template.parse("{a}"), Column("a")])
@pytest.mark.parametrize("values", [{}, {"a": None}])
def test_a_row_without_the_value_is_refused(question, values):
    with pytest.raises(InputError, match="the column 'a': is missing"):
        question.of(values)


def test_unknown_columns_are_refused_with_those_there_are():
    with pytest.raises(InputError, match=r"\{b\} is no column; there are a, c"):
        Template.parse("{a} {b}").check(["a", "c"])
    with pytest.raises(InputError, match="'b' is no column; there are a, c"):
        Column("b").check(["a", "c"])
    Template.parse("{a}").check([])


def test_a_row_may_bring_its_own_question():
    assert Column("q").of({"q": "What of {title}?"}) == "What of {title}?"
    assert json.loads(Column("q").of({"q": [1]})) == [1]
    with pytest.raises(InputError, match="is empty, and it is the question"):
        Column("q").of({"q": " "})
