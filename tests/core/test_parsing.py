"""What a model's message asks for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_ray.core.parsing import Parsed, parse

CODE = [
    ("```python\nprint(1)\n```", ("print(1)\n",)),
    ("```repl\nprint(1)\n```", ("print(1)\n",)),
    ("```py\nprint(1)\n```", ("print(1)\n",)),
    ("```Python\nprint(1)\n```", ("print(1)\n",)),
    ("```\nprint(1)\n```", ("print(1)\n",)),
    ("~~~python\nprint(1)\n~~~", ("print(1)\n",)),
    ("````python\nx = '```'\n````", ("x = '```'\n",)),
    ("plan\n```python\na = 1\n```\nthen\n```repl\nb = 2\n```", ("a = 1\n", "b = 2\n")),
    ("```json\n{}\n```", ()),
    ("```bash\nls\n```\n```python\nx = 1\n```", ("x = 1\n",)),
    ("```\nnot python at all !\n```\n```python\nx = 1\n```", ("x = 1\n",)),
    ("```\nnot python at all !\n```", ("not python at all !\n",)),
    ("```python\n\n```", ()),
    ('```python\nx = """\n```\ninner\n```\n"""\n```', ('x = """\n```\ninner\n```\n"""\n',)),
    ("  ```python\n  x = 1\n  ```", ("  x = 1\n",)),
    ("<think>```python\nx = 1\n```</think>no code", ()),
    ("", ()),
]


@pytest.mark.parametrize(("message", "blocks"), CODE)
def test_code_is_taken_from_the_fences_that_hold_code(message, blocks):
    assert parse(message).blocks == blocks


FINAL = [
    ("FINAL(42)", "42"),
    ('FINAL("the answer")', "the answer"),
    ("FINAL('''two\nlines''')", "two\nlines"),
    ('FINAL(He said "no" (twice).)', 'He said "no" (twice).'),
    ("I know it now.\nFINAL(Paris (France))\n", "Paris (France)"),
    ("  FINAL(indented)", "indented"),
    ("FINAL(one\ntwo (three)\nfour)", "one\ntwo (three)\nfour"),
    ("FINAL(a smiley :) and on)", "a smiley :) and on"),
    ("FINAL(never closed", "never closed"),
    ("FINAL()", ""),
    ('FINAL("a" and "b")', '"a" and "b"'),
    ("I will call FINAL(answer) later.", None),
    ("# FINAL(no)", None),
    ("> FINAL(no)", None),
    ("```json\nFINAL(no)\n```", None),
    ("FINALLY(no)", None),
    ("FINAL answer: 3", None),
]


@pytest.mark.parametrize(("message", "answer"), FINAL)
def test_a_message_without_code_ends_only_with_a_line_that_starts_with_final(message, answer):
    assert parse(message).answer == answer


def test_final_in_a_message_with_code_is_left_to_the_code():
    message = "```python\n# FINAL(comment)\nx = 'FINAL(string)'\n```\nFINAL(prose)"
    assert parse(message) == Parsed(("# FINAL(comment)\nx = 'FINAL(string)'\n",))


@pytest.mark.parametrize("message", ["FINAL_VAR(result)", 'FINAL_VAR("result")', "FINAL_VAR('result')"])
def test_final_var_in_prose_becomes_code(message):
    assert parse(message).blocks == ("FINAL_VAR('result')",)


def test_final_of_a_known_variable_means_its_value():
    assert parse("FINAL(result)", frozenset({"result"})).blocks == ("FINAL(result)",)
    assert parse("FINAL(result)").answer == "result"


def test_final_of_an_f_string_is_code():
    assert parse('FINAL(f"{total} items")').blocks == ('FINAL(f"{total} items")',)


def test_a_block_that_was_not_closed_is_marked_as_cut():
    assert parse("```python\nx = 1\ny = ") == Parsed(("x = 1\ny = ",), cut=True)


@given(st.text(alphabet=st.sampled_from("`~ \nabcFINAL_VR()\"'python#<think>/")))
def test_no_message_breaks_the_parser(message):
    parsed = parse(message)
    assert not (parsed.blocks and parsed.answer is not None)


@given(st.text().filter(lambda text: "`" not in text and "~" not in text and "\r" not in text))
def test_any_answer_given_as_a_string_literal_comes_back_whole(answer):
    if "<think" not in answer:
        assert parse(f"FINAL({answer!r})").answer == answer
