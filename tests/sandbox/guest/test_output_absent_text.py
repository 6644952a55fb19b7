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
