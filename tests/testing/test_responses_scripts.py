"""The ready-made scripts."""

import re

from rlm_ray.testing import Request
from rlm_ray.testing.responses import LEAF_ANSWER, echo, recursion, run_query

REPL = "You work in a Python REPL."


def test_echo_answers_with_the_last_message(ask):
    """Echo is the last message."""
    assert echo(ask("what?")) == "what?"


def test_a_plain_call_gets_a_short_text(ask):
    """Without a REPL in the system message there is an answer and no code."""
    assert recursion(ask(run_query("FINAL(1)"))).startswith(LEAF_ANSWER)


def test_a_session_runs_the_programs_of_its_question(ask):
    """One program for each turn, and then FINAL."""
    text = f"Question: {run_query('a = 1', 'FINAL(a)')}\n\n`context` is a str."
    said = [recursion(ask(text, REPL, replies=["..."] * turn)) for turn in range(3)]
    assert said == [
        "```python\na = 1\n```",
        "```python\nFINAL(a)\n```",
        "```python\nFINAL('session done')\n```",
    ]


def test_a_session_without_a_program_looks_and_ends(ask):
    """A child session takes two turns."""
    assert recursion(ask("Question: how?", REPL)) == "```python\nprint(len(context))\n```"
    assert "FINAL(" in recursion(ask("Question: how?", REPL, replies=["..."]))


def test_program_may_hold_the_question_of_its_child(ask):
    """A program can hold the question of its children."""
    child = run_query("FINAL('ü')")
    code = recursion(ask(run_query(f"recursive_llm({child!r}, context)"), REPL))
    inner = re.search(r"'(RUN:[^']*)'", code)[1]
    assert recursion(ask(inner, REPL)) == "```python\nFINAL('ü')\n```"


def test_request_reads_content_in_parts():
    """Content may be a list of parts, or None."""
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    request = Request({"messages": [{"role": "user", "content": None}, {"role": "user", "content": parts}]})
    assert (request.last, request.system, request.turn, request.api_key) == ("ab", "", 1, "")
    assert Request({}).last == ""
