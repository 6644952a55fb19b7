"""What a cell is told that looked for words which the context does not hold."""

from __future__ import annotations

import time

import pytest

from rlm_ray.sandbox.guest.output import absent_text_notes

TABLE = "order,product,quantity\nA1,notebook,5\nA2,lamp,7\n"
LOG = "2026-03-02 WARN  checkout[1002] req=0199 user=ann\n2026-03-02 INFO  billing[7] req=02 user=bob\n"
TASKS = "- [ ] @hana water the plants\n- [x] @omar close the door\n"

TOLD = [
    (
        'lines = [x for x in context.splitlines() if "product=lamp" in x]',
        TABLE,
        "'product=lamp' stands nowhere in `context`; a line that holds 'lamp' is 'A2,lamp,7'",
    ),
    ('n = sum(row["product"] == "Lamps" for row in rows)', TABLE, "'Lamps' stands nowhere in `context`"),
    (
        're.findall(r"owner: @hana", context)',
        TASKS,
        "stands nowhere in `context`; a line that holds 'hana' is '- [ ] @hana water the plants'",
    ),
    ('re.findall(r"checkout (\\d+) req=(\\d+)", context)', LOG, "check the pattern"),
    (
        'context.count("level=WARN")',
        LOG,
        "a line that holds 'WARN' is '2026-03-02 WARN  checkout[1002] req=0199 user=ann'",
    ),
    (
        'context.find("service")',
        LOG,
        "'service' stands nowhere in `context`; a line that holds 'checkout' is",
    ),
    ('[x for x in context.split() if x.startswith("zzzz")]', TABLE, "'zzzz' stands nowhere in `context`"),
    ('re.compile(r"user=(?P<n>carl)")', LOG, "stands nowhere"),
]
"""Code that found nothing, its context, and what is told."""


@pytest.mark.parametrize(("code", "text", "told"), TOLD)
def test_words_that_the_context_does_not_hold_are_told_with_a_line_that_holds_some(code, text, told):
    (note,) = absent_text_notes([code], "0\n", None, "How often does checkout warn?", [text])
    assert told in note


SILENT = [
    ('context.count("lamp")', "0\n", None),  # it is there
    ('print("Total of the rows:", 0)', "Total of the rows: 0\n", None),  # a label is not looked for
    ('context.count("zzzz")', "17\n", None),  # something was found
    ('context.count("zz")', "0\n", None),  # too short to mean anything
    ("context.count(", "0\n", None),  # no Python
    ('context.count("zzzz")', "0 " + "x" * 1_000, None),
    ('context.count("a" "\\x00")', "0\n", None),
]


@pytest.mark.parametrize(("code", "output", "error"), SILENT)
def test_nothing_is_told_where_nothing_was_looked_for_in_vain(code, output, error):
    assert absent_text_notes([code], output, error, "How many?", [TABLE]) == ()


def test_code_that_failed_is_told_whatever_it_printed():
    error = "cell 1, line 1: m.group()\nAttributeError: 'NoneType' object has no attribute 'group'"
    (note,) = absent_text_notes(['m = re.search("price=(.*)", context)'], "17 rows\n", error, "", [TABLE])
    assert note.startswith("'price=(.*)' stands nowhere")


def test_two_notes_at_most_and_each_literal_once():
    code = "\n".join(f'context.count("missing{n % 4}")' for n in range(12))
    assert len(absent_text_notes([code], "0\n", None, "", [TABLE])) == 2


def test_all_documents_are_looked_through():
    code = ['[d for d in documents if "needle" in d["text"]]']
    assert absent_text_notes(code, "[]\n", None, "", ["hay"] * 500 + ["a needle"]) == ()
    assert absent_text_notes(code, "[]\n", None, "", ["hay"] * 500) != ()


@pytest.mark.parametrize("text", ["x" * 3_000_000, "word " * 600_000, "\n" * 3_000_000])
def test_a_large_context_is_looked_through_in_little_time(text):
    began = time.process_time()
    absent_text_notes(['context.count("word not there")'], "0\n", None, "Which word is it?", [text])
    assert time.process_time() - began < 5


def test_a_long_line_is_shown_in_part():
    text = "a" * 100_000 + " lamp " + "b" * 100_000
    (note,) = absent_text_notes(['context.count("lamps lamp")'], "0\n", None, "", [text])
    assert "lamp" in note
    assert len(note) < 400


NEVER = "'never' stands nowhere in `context`"


@pytest.mark.parametrize(
    ("output", "is_told"),
    [
        ("0", True), ("0.00", True), ("None", True), ("False", True), ("[]", True), ("{}", True), ("()", True), ("set()", True), ("Counter()", True),
        ("nan", True), ("n = 0", True), ("10", False), ("0.5", False), ("x0", False), ("'0'", False), ("1.0", False), ("None of", True), ("Nonesuch", False),
        ("", False), ("0" + " " * 399, True), ("0" + " " * 400, False),
    ],
)  # fmt: skip
def test_only_a_short_output_that_says_nothing_was_found_is_told_of(output, is_told):
    assert absent_text_notes(["'never' in context"], output, None, "", [TABLE]) == (
        (NEVER,) if is_told else ()
    )


@pytest.mark.parametrize(
    ("code", "is_told"),
    [
        ("x == 'never'", True), ("'never' != x", True), ("a < b < 'never'", True), ("re.search('never', x)", True), ("x.endswith('never')", True),
        ("x.replace('never', '')", False), ("x.find('a', 'never')", False), ("find('never')", False), ("print('never')", False), ("x.index(y, 'never')", False),
        ("x == b'never'", False), ("x == 12345", False),
    ],
)  # fmt: skip
def test_texts_that_are_looked_for_are_compared_or_given_to_a_method_that_searches(code, is_told):
    assert absent_text_notes([code], "0", None, "", [TABLE]) == ((NEVER,) if is_told else ())


@pytest.mark.parametrize(("length", "is_told"), [(2, False), (3, True), (199, True), (200, False)])
def test_texts_of_a_sensible_length_are_told_of(length, is_told):
    assert bool(absent_text_notes([f"{'z' * length!r} in context"], "0", None, "", [TABLE])) is is_told


@pytest.mark.parametrize(
    ("literal", "query", "said"),
    [
        ("never", "the lamp", "; a line that holds 'lamp' is 'A2,lamp,7'"),
        ("never", "in A2", ""),  # words of three letters are seldom what a question is about
        (
            "product=lamp",
            "the notebook",
            "; a line that holds 'lamp' is 'A2,lamp,7'",
        ),  # its own words go first
        (
            "lamp,quantity",
            "",
            "; a line that holds 'quantity' is 'order,product,quantity'",
        ),  # the last word of them
    ],
)
def test_line_that_is_shown_holds_a_word_of_the_text_or_else_of_the_question(literal, query, said):
    told = absent_text_notes([f"{literal!r} in context"], "0", None, query, [TABLE])
    assert told == (f"{literal!r} stands nowhere in `context`{said}",)


def test_line_that_is_shown_is_the_one_with_most_of_the_words():
    text = "lamp\nlamp white\nlamp white heavy\n" + "lamp\n" * 300 + "lamp white heavy wooden\n"
    (note,) = absent_text_notes(["'a lamp' in context"], "0", None, "Which white heavy wooden ones?", [text])
    assert note.endswith("is 'lamp white heavy'")  # the last line is beyond those that are compared


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        (
            r"lamp,\d{5}",
            "check the pattern 'lamp,\\\\d{5}' against the text; a line that holds 'lamp' is 'A2,lamp,7'",
        ),
        (r"\d{5}", None),
        (r"zebra\d", "'zebra\\\\d' stands nowhere in `context`"),
        (
            r"lamp \d zebra",
            "'lamp \\\\d zebra' stands nowhere in `context`; a line that holds 'lamp' is 'A2,lamp,7'",
        ),
    ],
)
def test_pattern_whose_words_are_all_there_is_to_be_checked(pattern, said):
    told = absent_text_notes([f"re.findall({pattern!r}, context)"], "0", None, "", [TABLE])
    assert told == (() if said is None else (said,))


@pytest.mark.parametrize(
    ("before", "after", "shown"),
    [
        ("", "", "lamp"), ("x" * 159, "", "x" * 79 + " lamp"), ("x" * 50 + "\n", "\nx", "lamp"), ("x" * 300, "", "x" * 79 + " lamp"),
        ("", "y" * 300, "lamp " + "y" * 155), ("x" * 10, "y" * 10, "x" * 10 + " lamp " + "y" * 10),
    ],
)  # fmt: skip
def test_long_line_is_shown_around_the_word(before, after, shown):
    text = f"{before} lamp {after}"
    (note,) = absent_text_notes(["'a lamp' in context"], "0", None, "", [text])
    assert note == f"'a lamp' stands nowhere in `context`; a line that holds 'lamp' is {shown!r}"
