"""The question of a row, made of a template or taken from a column."""

from __future__ import annotations

import datetime as dt
import decimal
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlm_ray.batch.template import QueryColumn, Template
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
    filled = "".join(values[text] if is_name else text for is_name, text in parts)
    if any(map(str.isalnum, filled)):
        assert template.render(values) == filled


@settings(deadline=None, max_examples=50)
@given(st.text(alphabet="{}ab .!0", min_size=1).filter(lambda source: any(map(str.isalnum, source))))
def test_any_text_is_filled_without_surprises(source):
    template = Template.parse(source)
    filled = template.render(dict.fromkeys(template.names, "V"))
    assert len(filled) <= len(source)


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(NAMES, st.text(), min_size=1))
def test_a_value_is_never_taken_for_a_template(values):
    name = next(iter(values))
    assert Template.parse(f"{{{name}}}").render(dict.fromkeys(values, "{other} {{x}}")) == "{other} {{x}}"


COLUMNS = {
    "First Name": "Ann", "e-mail": "a@b", "2024": "5", "Name (short)": "A", "title": "Mr", "a.b": "dot", "ü/ö": "x",
    "price ($)": "9", "a:b": "colon", "x}": "brace",
}  # fmt: skip


@pytest.mark.parametrize(
    ("source", "filled"),
    [
        ("Is {First Name} a person?", "Is Ann a person?"),
        ("Is {e-mail} valid?", "Is a@b valid?"),
        ("Is {2024} odd?", "Is 5 odd?"),
        ("{Name (short)} {a.b} {ü/ö} {price ($)} {a:b}", "A dot x 9 colon"),
        ("Is { title } a title?", "Is Mr a title?"),
        ('Return {"name": "...", "ok": true} for {title}', 'Return {"name": "...", "ok": true} for Mr'),
        ('{"a": {"b": [{}]}} {title}', '{"a": {"b": [{}]}} Mr'),
        ('{"title": 1}', '{"title": 1}'),
        ('{"title": "{title}"}', '{"title": "Mr"}'),
        ("f(x) = {x | x > 0}?", "f(x) = {x | x > 0}?"),
        ("{1, 2, 3} and {} and a{2,3} and {", "{1, 2, 3} and {} and a{2,3} and {"),
        ("{{title}} {{{title}}}", "{title} {Mr}"),
        ("{title!r} {title[0]} {title:>9}", "{title!r} {title[0]} {title:>9}"),
        ("What?", "What?"),
    ],
)
def test_only_columns_in_braces_are_replaced(source, filled):
    template = Template.parse(source)
    template.check(COLUMNS)
    assert template.render(COLUMNS) == filled


@pytest.mark.parametrize(
    ("source", "close"),
    [
        ("{titel}", "title"),
        ("{Title}", "title"),
        ("{First  Nam}", "First Name"),
        ("{e_mail}", "e-mail"),
        ("{first name}", "First Name"),
        ("{nothing}", ""),
    ],
)
def test_a_slip_in_a_name_is_refused_with_the_column_that_is_meant(source, close):
    with pytest.raises(InputError, match="is no column") as refused:
        Template.parse(source).check(COLUMNS)
    assert (f"did you mean {close!r}?" in str(refused.value)) == bool(close)


@pytest.mark.parametrize("source", ["", "  \n"])
def test_an_empty_question_is_refused(source):
    with pytest.raises(InputError, match="is empty"):
        Template.parse(source)


def test_values_that_are_no_text_are_shown_as_json():
    values = {"n": 3, "tags": ["ä"], "flag": True}
    assert Template.parse("{n} {tags} {flag}").render(values) == '3 ["ä"] true'


@pytest.mark.parametrize("values", [{}, {"a": None}, {"a": ""}])
def test_a_row_without_the_value_has_nothing_in_its_place(values):
    assert Template.parse("Is {a} nice?").render(values) == "Is  nice?"
    for question in (Template.parse("{a}?"), QueryColumn("a")):
        with pytest.raises(InputError, match="empty"):
            question.render(values)


def test_unknown_columns_are_refused_with_those_there_are():
    with pytest.raises(InputError, match=r"\{b\} is no column; there are a, c"):
        Template.parse("{a} {b}").check(["a", "c"])
    with pytest.raises(InputError, match="'b' is no column; there are a, c"):
        QueryColumn("b").check(["a", "c"])
    Template.parse("{a}").check([])


def test_a_row_may_bring_its_own_question():
    assert QueryColumn("q").render({"q": "What of {title}?"}) == "What of {title}?"
    assert json.loads(QueryColumn("q").render({"q": [1]})) == [1]
    with pytest.raises(InputError, match="is missing or empty, and it is the question"):
        QueryColumn("q").render({"q": " "})


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("{a} {b} {a}", ("a", "b")), ("{ a }", ("a",)), ("{{a}}", ()), ("{{{a}}}", ("a",)), ("{", ()), ("{}", ()), ("}", ()), ("{a", ()), ("a}", ()),
        ('{"k": {"n": 1}, "m": {a}}', ('"n": 1', "a")), ("{a}}} {b}", ("a", "b")), ("{ {a} } {b}}", ("a", "b")),
    ],
)  # fmt: skip
def test_names_are_what_stands_in_single_braces(source, names):
    template = Template.parse(source)
    assert (template.names, template.columns) == (names, names)


@pytest.mark.parametrize(
    ("source", "filled"),
    [
        ("{{ {a} }}", "{ V }"), ("{{{{a}}}}", "{{a}}"), ('{"k": {"n": {a}}}', '{"k": {"n": V}}'), ("x } y {a}", "x } y V"), ("{ x {a}", "{ x V"),
        ("{a}}}", "V}"), ("}} {a} {{", "} V {"), ("{b} {a}", " V"), ("{b c} {a}", "{b c} V"), ("{b-c} {a}", " V"), ("{1b} {a}", "{1b} V"),
    ],
)  # fmt: skip
def test_braces_that_hold_no_column_stay_and_doubled_ones_are_single(source, filled):
    assert Template.parse(source).render({"a": "V"}) == filled


@pytest.mark.parametrize(
    ("source", "columns", "fits"),
    [
        ("{a}", ["a"], True), ("{b}", ["a"], False), ("{b}", [], True), ("{e-mail}", ["mail"], False), ("{2024}", ["2025"], False), ("{2024}", ["year"], True),
        ("{First Nam}", ["First Name"], False), ("{any words}", ["First Name"], True), ('{"title": 1}', ["title"], True), ("{title!r}", ["title"], True),
        ("{x | y}", ["x"], True),
    ],
)  # fmt: skip
def test_braces_are_a_slip_where_they_hold_a_word_or_nearly_the_name_of_a_column(source, columns, fits):
    if fits:
        Template.parse(source).check(columns)
    else:
        with pytest.raises(InputError, match="is no column"):
            Template.parse(source).check(columns)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, ""), ("a", "a"), (0, "0"), (1.5, "1.5"), (False, "false"), ([1, "ä"], '[1, "ä"]'), ({"k": None}, '{"k": null}'), ((1, 2), "[1, 2]"),
        (dt.date(2024, 1, 2), "2024-01-02"), (decimal.Decimal("1.10"), "1.10"), ([dt.date(2024, 1, 2)], '["2024-01-02"]'),
    ],
)  # fmt: skip
def test_values_are_shown_as_people_write_them(value, shown):
    assert Template.parse("x{a}").render({"a": value}) == f"x{shown}"
    if shown:
        assert QueryColumn("a").render({"a": value}) == shown


def test_a_row_without_its_question_says_which_columns_have_no_value():
    with pytest.raises(InputError, match="query: is empty for this row: a, b has no value"):
        Template.parse("{a} - {b}?").render({"a": "", "b": None})
    with pytest.raises(InputError, match="query: is empty for this row: it has no value"):
        Template.parse("?!").render({})
    with pytest.raises(InputError, match="the column 'q': is missing or empty, and it is the question"):
        QueryColumn("q").render({})


def test_a_column_of_questions_that_is_not_there_is_refused_with_the_one_meant():
    with pytest.raises(InputError) as refused:
        QueryColumn("qestion").check(["text", "question"])
    assert (
        str(refused.value)
        == "query column: 'qestion' is no column (did you mean 'question'?); there are text, question"
    )
    QueryColumn("any").check([])
    assert QueryColumn("q").columns == ("q",)
