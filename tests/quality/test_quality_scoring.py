"""Answers are read the same way for every method: what was said around the value does not count, the value does."""

from __future__ import annotations

import pytest
from quality.scoring import Truth, f1, read_answer, read_list, read_pairs, score

SERVICES = ("auth", "billing", "mailer")


@pytest.mark.parametrize(
    ("answer", "truth", "right"),
    [
        ("17", 17, True),
        ("17.", 17, True),
        ("**17**", 17, True),
        ("`17`", 17, True),
        ('{"answer": 17}', 17, True),
        ('{"count": "17"}', 17, True),
        ("```\n17\n```", 17, True),
        ("\\boxed{17}", 17, True),
        ("The answer is 17.", 17, True),
        ("Answer: 17", 17, True),
        ("There are 17 such lines.", 17, True),
        ("I counted 12 lines and then 5 more. The answer is 17", 17, True),
        ("1,204", 1204, True),
        ("1204 ms", 1204, True),
        ("$1,204.50", 1204.5, True),
        ("4.790", 4.79, True),
        ("-3", -3, True),
        ("17.0", 17, True),
        ("web-3 has 17 errors", 17, True),
        ("from 2026-03-01 on there are 17", 17, True),
        ("17 or 18", 17, False),
        ("between 1 and 17", 17, False),
        ("18", 17, False),
        ("4.8", 4.79, False),
        ("seventeen", 17, False),
        ("not found", 17, False),
        ("", 17, False),
        ("   ", 17, False),
        (None, 17, False),
    ],
)
def test_number_is_read_out_of_what_was_said_around_it(answer, truth, right):
    assert score(answer, Truth("number", truth)).right is right


def test_number_nearby_is_worth_less_the_farther_it_is_off():
    assert [score(str(given), Truth("number", 10)).value for given in (10, 11, 8)] == [1.0, 0.75, 0.75**2]


def test_fraction_nearby_is_worth_nothing():
    assert score("4.7", Truth("number", 4.79)).value == 0.0


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("mailer", True),
        ("Mailer.", True),
        ('"mailer"', True),
        ("The service is mailer", True),
        ("**mailer** has the most errors", True),
        ('{"service": "mailer"}', True),
        ("mailer, not billing", False),
        ("billing", False),
        ("mailer-2", False),
        ("auth billing mailer", False),
        ("word " * 40 + "mailer", False),
    ],
)
def test_text_is_right_where_it_names_the_one_choice(answer, right):
    assert score(answer, Truth("text", "mailer", SERVICES)).right is right


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("KXL-9040", True),
        ("kxl-9040", True),
        ("The access code for Bergen is KXL-9040.", True),
        ("KXL-90401", False),
        ("KXL-904", False),
        ("KXL 9040", False),
        ("It is KXL-9040 or ABC-1234.", False),
        ("ABC-1234", False),
        ("For Bergen, the code is KXL-9040; once more: KXL-9040", True),
    ],
)
def test_text_without_choices_is_right_where_a_short_answer_names_it(answer, right):
    assert score(answer, Truth("text", "KXL-9040")).right is right


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("2026-01-09", True),
        ("9 January 2026", True),
        ("January 9, 2026", True),
        ("09-Jan-2026", True),
        ("09.01.2026", True),
        ("It was on 2026-01-09.", True),
        ("2026-01-09 or 2026-01-10", False),
        ("2026-01-10", False),
        ("2026-13-09", False),
        ("9", False),
    ],
)
def test_date_is_read_in_any_usual_form(answer, right):
    assert score(answer, Truth("date", "2026-01-09")).right is right


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("not found", True),
        ("Not found.", True),
        ("The request is not in the text.", True),
        ("None", True),
        ("N/A", True),
        ("There is no such request in the log.", True),
        ("It was not mentioned anywhere", True),
        ("The text does not mention Cusco.", True),
        ("u0042", False),
        ("The code is KXL-9040", False),
        ("I found none of the others, but it is u0042", False),
        ("", False),
        ("word " * 70 + "not found", False),
    ],
)
def test_absence_is_right_where_it_is_said(answer, right):
    assert score(answer, Truth("absent")).right is right


@pytest.mark.parametrize(
    "answer",
    [
        "u1, u2, u3",
        "u3,u2,u1",
        "u1, u2 and u3",
        "u1; u2; u3",
        '["u1", "u2", "u3"]',
        "['u1', 'u2', 'u3']",
        "{'u1', 'u2', 'u3'}",
        "[u1, u2, u3]",
        "- u1\n- u2\n- u3",
        "1. u1\n2. u2\n3. u3",
        "u1\nu2\nu3",
        "The users are: u1, u2, u3.",
        '{"users": ["u1", "u2", "u3"]}',
        "`u1`, `u2`, `u3`",
        "u1, u1, u2, u3",
    ],
)
def test_list_is_read_in_any_usual_form(answer):
    assert score(answer, Truth("list", ["u1", "u2", "u3"])).value == 1.0


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("u1, u2", 0.8),
        ("u1, u2, u3, u4", pytest.approx(6 / 7)),
        ("u9", 0.0),
        ("none", 0.0),
        ("not found", 0.0),
    ],
)
def test_list_is_worth_its_f1(answer, value):
    assert score(answer, Truth("list", ["u1", "u2", "u3"])).value == value


@pytest.mark.parametrize("answer", ["[]", "none", "None.", "Nothing"])
def test_empty_list_is_right_where_nothing_was_to_be_found(answer):
    assert score(answer, Truth("list", [])).value == 1.0


@pytest.mark.parametrize(
    "answer",
    [
        "(user01, user02), (user03, user01)",
        "(user02, user01), (user01, user03)",
        "[('user01', 'user02'), ('user01', 'user03')]",
        '[["user01", "user02"], ["user01", "user03"]]',
        "user01 - user02\nuser01 - user03",
        "The pairs are (user01, user02) and (user01, user03).",
    ],
)
def test_pairs_are_read_in_any_usual_form_and_order(answer):
    assert score(answer, Truth("pairs", [["user01", "user02"], ["user01", "user03"]])).value == 1.0


def test_pairs_are_worth_their_f1():
    truth = Truth("pairs", [["a", "b"], ["a", "c"], ["b", "c"]])
    assert score("(a, b), (a, d)", truth).value == pytest.approx(0.4)


@pytest.mark.parametrize(
    "given", ["(" * 5000, "[" * 5000 + "1", "{" * 300 + "}" * 300, "\0", "\\boxed{", "```", "[1,"]
)
def test_answer_of_any_shape_is_read_without_an_error(given):
    for truth in (
        Truth("number", 1),
        Truth("text", "x"),
        Truth("date", "2026-01-01"),
        Truth("list", ["x"]),
        Truth("pairs", []),
    ):
        assert 0.0 <= score(given, truth).value <= 1.0
    assert isinstance(read_answer(given), str)
    assert isinstance(read_list(given), list)
    assert isinstance(read_pairs(given), list)


def test_f1_of_nothing_and_nothing_is_one():
    assert (f1(set(), set()), f1({1}, set()), f1(set(), {1}), f1({1}, {1})) == (1.0, 0.0, 0.0, 1.0)
