"""What a model's message asks for."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_ray.core.code_extraction import Syntax
from rlm_ray.core.final_value import MAX_CHARS, Value, read_value
from rlm_ray.core.markdown_fences import split_message
from rlm_ray.core.parsing import Parsed, parse
from rlm_ray.core.repl_types import ENDINGS, FUNCTIONS

F = "```"
LINES = "x = 'ri' + 'ght'\nprint(len(context))\nFINAL(x)"
CALL = {"name": "python", "arguments": {"code": LINES}}

FORMS = {
    **{tag: f"{F}{tag}\n{LINES}\n{F}" for tag in (
        "python", "Python", " python", "PYTHON", "python3", "python3.11", "py", "py3", "repl", "ipython", "ipython3", "jupyter",
        "tool_code", "execute", "code_interpreter", "{python}", "{.python .numberLines}", "python title='x.py'", "python copy",
        "python:main.py", "language-python", "python-repl", "", "pycon",
    )},
    "tildes": f"~~~python\n{LINES}\n~~~",
    "four ticks": f"{F}`python\n{LINES}\n{F}`",
    "indented": "    " + f"{F}python\n{LINES}\n{F}".replace("\n", "\n    "),
    "in a list": "1. Look:\n     " + f"{F}python\n{LINES}\n{F}".replace("\n", "\n     "),
    "with tabs": "- Look:\n\t" + f"{F}python\n{LINES}\n{F}".replace("\n", "\n\t"),
    "on the line of its list": "1. " + f"{F}python\n{LINES}\n{F}".replace("\n", "\n   "),
    "quoted": "> " + f"{F}python\n{LINES}\n{F}".replace("\n", "\n> "),
    "quoted twice": "> > " + f"{F}python\n{LINES}\n{F}".replace("\n", "\n> > "),
    "behind words": f"Code: {F}python\n{LINES}\n{F}",
    "closed on the last line": f"{F}python\n{LINES}{F}",
    "CRLF": f"{F}python\n{LINES}\n{F}\n".replace("\n", "\r\n"),
    "not closed": f"{F}python\n{LINES}",
    "prompts": f"{F}pycon\n>>> x = 'ri' + 'ght'\n>>> print(len(context))\n900\n>>> FINAL(x)\n{F}",
    "<code>": f"I run this:\n<code>\n{LINES}\n</code>",
    "<execute>": f"<execute>\n{LINES}\n</execute>",
    "<execute> that stops there": f"<execute>\n{LINES}\n",
    "<tool_code>": f"<tool_code>\n{LINES}\n</tool_code>",
    "<execute_ipython>": f"<execute_ipython>\n{LINES}\n</execute_ipython>",
    "<|python_tag|>": f"<|python_tag|>{LINES}<|eom_id|>",
    "tool call": json.dumps(CALL),
    "tool call with a string": json.dumps({**CALL, "arguments": json.dumps(CALL["arguments"])}),
    "tool call with parameters": json.dumps({"name": "python", "parameters": {"code": LINES}}),
    "tool call with bare code": json.dumps({"name": "python", "arguments": {"input": LINES}}),
    "tool calls of an API": json.dumps({"tool_calls": [{"type": "function", "function": {**CALL}}]}),
    "a list of tool calls": json.dumps([CALL]),
    "<tool_call>": f"Let me see.\n<tool_call>\n{json.dumps(CALL)}\n</tool_call>",
    "<|python_tag|> with a call": f"<|python_tag|>{json.dumps(CALL)}",
    "the code alone": LINES,
    "the code in blank lines": f"\n\n{LINES}\n\n",
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_code_is_taken_from_every_form_models_write_it_in(form):
    parsed = parse(FORMS[form])
    assert [block.strip() for block in parsed.blocks] == [LINES]
    assert parsed.truncated == (form == "not closed")


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
    ('```python\nx = """\n```\n"""\nprint(x)\n```', ('x = """\n```\n"""\nprint(x)\n',)),
    ('```python\nx = """\n```\ninner\n```\n"""\n```', ('x = """\n```\ninner\n```\n"""\n',)),
    ("  ```python\n  x = 1\n  ```", ("x = 1\n",)),
    ("```python\nif 1:\n    x = 1\n```", ("if 1:\n    x = 1\n",)),
    ("```python\na = 1\n```python\nb = 2\n```", ("a = 1\n", "b = 2\n")),
    ("```pycon\n>>> for i in x:\n...     print(i)\n...\n1\n```", ("for i in x:\n    print(i)\n\n",)),
    ("```text\nprint(1)\n```", ()),
    ("```output\n1\n```", ()),
    ('{"name": "bash", "arguments": {"command": "ls"}}', ()),
    ('{"name": "search", "arguments": {"query": "x"}}', ()),
    ('{"count": 3}', ()),
    ("use <code>x</code> here", ()),
    ("<code>x</code>", ()),
    ("answer", ()),
    ("x", ()),
    ("a, b", ()),
    ("yes or no", ()),
    ("total: 5", ()),
    ("a = b", ()),
    ("Paris (France)", ()),
    ("print the head", ()),
    ("print(len(context))", ("print(len(context))\n",)),
    ("r = recursive_llm(query, context)", ("r = recursive_llm(query, context)\n",)),
    ("import re", ("import re\n",)),
    ("see ```js\n```python\nprint(1)\n```", ("print(1)\n",)),
    ("~~~`\n```python\nprint(1)\n```", ("print(1)\n",)),
    ("x = 1\ny = 2", ("x = 1\ny = 2\n",)),
    ("x: int", ()),
    ("```\nIn [1]: x = 1\nIn [12]: print(x)\n1\n```", ("x = 1\nprint(x)\n",)),
    ("if x:\n    y()", ("if x:\n    y()\n",)),
    ('await recursive_llm("these words")', ('await recursive_llm("these words")\n',)),
    ("<code>\nif x (\n  y\n</code>", ("if x (\n  y",)),
    ("<code>if x (</code>", ()),
    ("<code>\nif x\nthen y\n</code>", ()),
    ("<code>\nx\n</code>\n<code>\nf()\n</code>", ("f()",)),
    ('{"name": "python", "input": "{\\"code\\": \\"x = 1\\"}"}', ("x = 1",)),
    ('{"name": "python_search", "arguments": {"code": "x = 1"}}', ()),
    ('{"name": "python", "code": " ", "script": "x = 1"}', ("x = 1",)),
    ('[{"code": "x = 1"}, {"code": "y = 2"}]', ("x = 1", "y = 2")),
    ('<tool_call>{"code": "x = 1"}</tool_call> <tool_call>{"code": "y = 2"}</tool_call>', ("x = 1", "y = 2")),
    ("", ()),
]


@pytest.mark.parametrize(("message", "blocks"), CODE)
def test_code_is_taken_from_the_fences_that_hold_code(message, blocks):
    assert parse(message).blocks == blocks


FINAL = [
    ("FINAL(42)", "42"),
    ("FINAL(-3.5)", "-3.5"),
    ("FINAL([1, 2])", "[1, 2]"),
    ("FINAL([])", "[]"),
    ("FINAL(None)", "None"),
    ("FINAL(2024-01-05)", "2024-01-05"),
    ("FINAL(10%)", "10%"),
    ("FINAL(yes)", "yes"),
    ("FINAL(Größe)", "Größe"),
    ("FINAL(größe)", "größe"),
    ("FINAL(not found)", "not found"),
    ("FINAL(gold in water)", "gold in water"),
    ("FINAL(a < b)", "a < b"),
    (f"FINAL({'-' * 200} so it is)", f"{'-' * 200} so it is"),
    (f'FINAL("{"." * 200} so it is")', f"{'.' * 200} so it is"),
    ('FINAL("two\nlines \\\\")', "two\nlines \\"),
    ('FINAL("two\nlines \\")', '"two\nlines \\"'),
    ('FINAL("two\nlines \\xZZ")', '"two\nlines \\xZZ"'),
    ("FINAL(Paris)", "Paris"),
    ("FINAL(red, green, blue)", "red, green, blue"),
    ("FINAL(cats and dogs)", "cats and dogs"),
    ("FINAL(answer=42)", "42"),
    ('FINAL(answer="it is (so)")', "it is (so)"),
    ('FINAL("the answer")', None),
    ('FINAL("the answer is 3")', "the answer is 3"),
    ('FINAL("answer")', "answer"),
    ("FINAL('''two\nlines''')", "two\nlines"),
    ('FINAL(He said "no" (twice).)', 'He said "no" (twice).'),
    ("I know it now.\nFINAL(Paris (France))\n", "Paris (France)"),
    ("  FINAL('indented')", "indented"),
    ("FINAL(one\ntwo (three)\nfour)", "one\ntwo (three)\nfour"),
    ("FINAL(a smiley :) and on)", "a smiley :) and on"),
    ("FINAL(never closed", "never closed"),
    ("FINAL(Paris) it is", "Paris"),
    ("FINAL(Paris (France)) it is\nand on", "Paris (France)"),
    ('FINAL("a" and "b")', None),
    ('FINAL ("spaced")', "spaced"),
    ('**FINAL("bold")**', "bold"),
    ('`FINAL("code")`', "code"),
    ('Final answer: FINAL("behind words")', "behind words"),
    ("**Final Answer:** FINAL(Lyon)", "Lyon"),
    ('FINAL("with a stop").', "with a stop"),
    ("FINAL: Lyon", "Lyon"),
    ("FINAL: Lyon\nand more", None),
    ("FINAL: Lyon\n\n", "Lyon"),
    ("FINAL(Lyon)\n```json\n{}\n```", "Lyon"),
    ("```json\n{}\n```\nFINAL(Lyon)", "Lyon"),
    ("```json\n{}\n```\n```text\nFINAL(no)\n```\nFINAL(Lyon)\n~~~text\nx\n~~~", "Lyon"),
    ("FINAL_VAR: Lyon", None),
    ("FINAL(answer)\n" * 4 + "FINAL(Lyon)", "Lyon"),
    ("FINAL(answer)\n" * 5 + "FINAL(Lyon)", None),
    ("FINAL(answer)\nFINAL(Lyon)", "Lyon"),
    ("I will call FINAL(answer) later.", None),
    ("I will call FINAL(42) later.", None),
    ("# FINAL(no)", None),
    ("> FINAL(no)", None),
    ("```json\nFINAL(no)\n```", None),
    ("FINALLY(no)", None),
    ("FINAL answer: 3", None),
    ("final(3)", None),
]


@pytest.mark.parametrize(("message", "answer"), FINAL)
def test_a_message_without_code_ends_only_with_a_line_that_starts_with_final(message, answer):
    assert parse(message).answer == answer


NO_ANSWERS = [
    "answer", "...", "…", "<your answer>", "<answer>", "your answer", "your_answer", "your_answer_here", "[your answer]",
    "{answer}", "the answer", "final_answer", "final answer", "result", "results", "output", "my_result", "response", "",
    "???", '"..."', '"<your answer>"', "'your answer here'", "answer here", "value", "insert answer here", "the_final_result",
]  # fmt: skip


@pytest.mark.parametrize("inside", NO_ANSWERS)
def test_a_placeholder_is_no_answer(inside):
    parsed = parse(f"I look first, then call\nFINAL({inside})\nwhen I am done.")
    assert (parsed.blocks, parsed.answer, parsed.unresolved, parsed.is_word) == ((), None, inside, False)


@pytest.mark.parametrize(
    "inside", ["names", "total_count", "a + b", "example.com", "x.y", "My_names", "not a + b", "a, b.c"]
)
def test_a_name_nobody_knows_is_no_answer_yet(inside):
    parsed = parse(f"FINAL({inside})", frozenset({"other"}))
    assert (parsed.blocks, parsed.answer, parsed.unresolved, parsed.is_word) == ((), None, inside, True)


@pytest.mark.parametrize(
    "inside",
    ["', '.join(names)", "len(context)", "names", "names[0]", "sum(n for n in names)", "str(3)", "names + ['a']", "f'{names}'",
     "'a' + 'b'", "query", "{n: 1 for n in names}", "names.upper()", "missing[0]", "compute(names)", "answer=len(names)",
     "compute (a) + b", "[n for n in names]", "(lambda n: n + 1)(names)"],
)  # fmt: skip
def test_an_expression_is_evaluated_in_the_repl(inside):
    assert parse(f"Done.\nFINAL({inside})", frozenset({"names"})).blocks == (
        f"FINAL({inside.removeprefix('answer=')})",
    )


@pytest.mark.parametrize("name", ["answer", "result", "output"])
def test_a_variable_of_a_placeholder_s_name_is_a_variable(name):
    assert parse(f"FINAL({name})", frozenset({name})).blocks == (f"FINAL({name})",)


def test_final_in_a_message_with_code_is_left_to_the_code():
    message = "```python\n# FINAL(comment)\nx = 'FINAL(string)'\n```\nFINAL(prose)"
    assert parse(message) == Parsed(("# FINAL(comment)\nx = 'FINAL(string)'\n",))


@pytest.mark.parametrize("message", ["FINAL_VAR(result)", 'FINAL_VAR("result")', "FINAL_VAR('result')"])
def test_final_var_in_prose_becomes_code(message):
    assert parse(message, frozenset({"result"})).blocks == ("FINAL_VAR('result')",)
    assert parse(message) == Parsed(unresolved="result")


def test_final_of_an_f_string_is_code():
    assert parse('FINAL(f"{total} items")').blocks == ('FINAL(f"{total} items")',)


def test_a_block_that_was_not_closed_is_marked_as_cut():
    assert parse("```python\nx = 1\ny = ") == Parsed(("x = 1\ny = ",), truncated=True)


REPEATED = [
    "`", "~", "<", ">", "(", ")", "()", "FINAL(", "FINAL(\n", "FINAL(answer)\n", "a word ", "\n", " ", "\r\n", "<code>\n", "<tool_call>",
    "<|python_tag|>", "{", "[", "``` x`", "`````", "- ", "*", "'", "x = 1\n", "print(1)\n", ">>> x\n", "FINAL:", "final answer ",
]  # fmt: skip


def seconds(message: str) -> float:
    """The CPU time of parsing; the best of three, should it seem slow."""
    best = 10.0
    for _ in range(3):
        started = time.process_time()
        parse(message)
        best = min(best, time.process_time() - started)
        if best < 0.1:
            break
    return best


@pytest.mark.parametrize("unit", REPEATED)
def test_a_megabyte_of_anything_is_parsed_at_once(unit):
    assert seconds(unit * (1_000_000 // len(unit))) < 0.2
    assert seconds("FINAL(" + unit * (1_000_000 // len(unit))) < 0.2


@pytest.mark.parametrize(
    "unit", ["```python\nx = 1\n```\n", "```python\nx = 1\n", "```\nx = 1\n```\n", "```\n", "```\n~~~\n", '"""\n```\n',
             '```python\n"""\n', "1. ```python\n", "<code>x()</code>\n"]
)  # fmt: skip
def test_thousands_of_fences_are_parsed_at_once(unit):
    assert seconds(unit * 8_000) < 0.5


def test_thousands_of_fences_in_a_string_that_does_not_end_are_parsed_at_once():
    assert seconds('```python\nx = """\n' + "```python\n" * 20_000) < 0.5


@pytest.mark.parametrize(("fences", "is_whole"), [(1, True), (4, True), (5, False)])
def test_end_of_a_string_is_looked_for_behind_four_fences(fences, is_whole):
    code = 'x = """\n' + "```\n" * fences + '"""\nprint(x)\n'
    blocks = parse(f"```python\n{code}```").blocks
    assert (blocks[0] == code) is is_whole


def test_new_block_is_looked_for_in_four_fences_behind_one_that_is_not_closed():
    for fences, blocks in ((3, 2), (4, 1)):
        message = "```python\nx = 1\n" + "```text\n" * fences + "```python\ny = 2\n```"
        assert len(parse(message).blocks) == blocks


@pytest.mark.parametrize(("levels", "blocks"), [(3, ("x = 1",)), (4, ("x = 1",)), (5, ())])
def test_code_of_a_call_is_looked_for_in_four_levels_of_arguments(levels, blocks):
    call: object = {"code": "x = 1"}
    for _ in range(levels):
        call = {"arguments": call}
    assert parse(json.dumps(call)).blocks == blocks
    for _ in range(levels):
        call = call["arguments"]
    for _ in range(levels):
        call = [call]
    assert parse(json.dumps(call)).blocks == blocks


@pytest.mark.parametrize("count", [64, 65])
def test_code_is_taken_from_sixty_four_calls_at_most(count):
    calls = [f'{{"code": "x = {number}"}}' for number in range(count)]
    expected = tuple(f"x = {number}" for number in range(64))
    assert parse(f"[{', '.join(calls)}]").blocks == expected
    assert parse("".join(f"<tool_call>{call}</tool_call>" for call in calls)).blocks == expected


@pytest.mark.parametrize(("parentheses", "answer"), [(20_000, "x"), (20_001, None)])
def test_parenthesis_that_closes_is_looked_for_among_twenty_thousand(parentheses, answer):
    inside = "x " + "()" * (parentheses // 2) + "y" * (parentheses % 2)
    assert parse(f"FINAL({inside}) it is (").answer is not None


@pytest.mark.parametrize(
    "inside", ["(" * 100_000, "-" * 19_000 + "1", "[" * 5_000, "a" + ".a" * 9_000, "1" + "+1" * 9_000, "\0", "\ud800", "'\ud800'",
               "9" * 19_000, "'" + "a" * 1_000_000 + "'"]
)  # fmt: skip
def test_deep_and_broken_code_breaks_nothing(inside):
    for message in (
        f"FINAL({inside})",
        f"```\n{inside}\n```",
        f"```python\n{inside}\n```",
        inside,
        f"<code>{inside}</code>",
    ):
        assert seconds(message) < 0.5


@given(st.text(alphabet=st.sampled_from("`~ \nabcFINAL_VR()\"'python#<think>/")))
def test_no_message_breaks_the_parser(message):
    parsed = parse(message)
    assert not (parsed.blocks and parsed.answer is not None)


@given(st.text().filter(lambda text: "`" not in text and "~" not in text and "\r" not in text))
def test_any_answer_given_as_a_string_literal_comes_back_whole(answer):
    parsed = parse(f"FINAL({answer!r})")
    assert parsed.answer == answer or parsed.unresolved is not None


@pytest.mark.parametrize(
    ("inside", "text"),
    [
        ("{}", "{}"), ('"{}"', "{}"), ("'{}'", "{}"), ('"""{}"""', "{}"), ("'''{}'''", "{}"), ('"{}" and "more"', '"{}" and "more"'),
        ('"{}", "more"', '"{}", "more"'), ('"{}', '"{}'), ('{}"', '{}"'), ('"a" {} b"', '"a" {} b"'), ("'''{}'", "'''{}'"),
    ],
)  # fmt: skip
def test_long_answer_loses_the_quotation_marks_around_it_where_it_is_one_text(inside, text):
    long = "it is so, " * (MAX_CHARS // 10) + "it is"
    assert read_value(inside.replace("{}", long), frozenset(), Syntax()) == Value(
        "text", text.replace("{}", long)
    )


def test_code_is_parsed_until_forty_thousand_characters_of_a_message_are_used_up():
    syntax = Syntax()
    code = "x = 1\n" * 3_000
    assert len(code) == 18_000
    assert [syntax.is_python(code) for _ in range(3)] == [True, True, False]
    assert not syntax.is_python("x" * 4_001)
    syntax = Syntax()
    assert syntax.is_python("x" * 40_000)
    assert not syntax.is_python("x")
    assert not Syntax().is_python("x" * 40_001)


@pytest.mark.parametrize("name", sorted((FUNCTIONS | ENDINGS) - {"FINAL", "FINAL_VAR"}))
def test_a_message_that_is_one_call_of_a_function_of_the_repl_is_code(name):
    assert parse(f'{name}("these words")').blocks == (f'{name}("these words")\n',)


def test_a_message_that_is_one_call_of_another_function_is_prose():
    assert parse('consider("these words")').blocks == ()


@pytest.mark.parametrize("lines", [1, 20, 40, 500])
@pytest.mark.parametrize("end", ["", "<|eot_id|>", "<|eom_id|>\n"])
def test_code_behind_a_python_tag_is_whole_at_any_length(lines, end):
    code = "x = 10000\n" * lines
    assert parse(f"<|python_tag|>{code}{end}").blocks == (code,)


@pytest.mark.parametrize("length", [200, 201])
def test_name_that_nobody_has_bound_is_shown_by_its_beginning(length):
    name = "n" * length
    assert parse(f'FINAL_VAR("{name}")').unresolved == parse(f"FINAL({name})").unresolved == "n" * 200
    assert parse(f'FINAL_VAR("{name}")', frozenset({name})).blocks == (f"FINAL_VAR({name!r})",)


def test_first_final_that_is_no_answer_is_named():
    assert parse("FINAL(answer)\nFINAL(result)").unresolved == "answer"


@pytest.mark.parametrize(("chars", "is_code"), [(20_000, True), (20_001, False)])
def test_message_without_a_fence_is_code_up_to_twenty_thousand_characters(chars, is_code):
    code = "print(1)".ljust(chars - 1, "#") + "#"
    assert bool(parse(code).blocks) is is_code


@pytest.mark.parametrize(("chars", "kind"), [(20_000, "code"), (20_001, "text")])
def test_what_stands_in_a_final_is_read_up_to_twenty_thousand_characters(chars, kind):
    inside = ("names + [" + "1, " * (chars // 3)).ljust(chars)[: chars - 1] + "]"
    assert read_value(inside, frozenset({"names"}), Syntax()).kind == kind


@pytest.mark.parametrize(
    ("message", "codes", "prose"),
    [
        ("one", [], ["one"]), (f"one\n{F}json\n1\n{F}\ntwo", ["1\n"], ["one", "two"]), (f"{F}json\n1\n{F} \ntwo\n{F}x\n2\n{F}\nthree", ["1\n", "2\n"], ["two", "three"]),
        (f"one {F}python\n1\n{F}", ["1\n"], ["one"]), (f"{F}python\n1\n{F}python\n2\n{F}\nthree", ["1\n", "2\n"], ["three"]), (f"{F}json\n1", ["1"], []),
        (f"a {F}x{F} b", [], ["a", f"{F}x{F}", "b"]),
    ],
)  # fmt: skip
def test_message_is_blocks_and_the_prose_around_them(message, codes, prose):
    blocks, rest = split_message(message, Syntax().is_python)
    assert [block.code for block in blocks] == codes
    assert rest.split() == prose
