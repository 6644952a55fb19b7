"""The names in the REPL: sub-calls, answers, variables, output."""

from __future__ import annotations

import pytest
from sandbox_fakes import Cells, Served

from rlm_ray.core.context import ByteRange, DocumentRange, make_context
from rlm_ray.core.repl_types import (
    CitationRequest,
    Failed,
    SubCallAnswer,
    SubCallOutcome,
    SubCallRequest,
    ToolRequest,
    Variable,
)
from rlm_ray.core.tools import check_name
from rlm_ray.errors import ConfigError
from rlm_ray.sandbox.guest.cell_language import CellLanguage
from rlm_ray.sandbox.guest.clock import CellTimer
from rlm_ray.sandbox.guest.context_parts import DocumentReferences, TextReferences
from rlm_ray.sandbox.guest.interpreter import Interpreter, InterpreterConfig
from rlm_ray.sandbox.guest.output import Output
from rlm_ray.sandbox.host.sandbox import SandboxManager

pytestmark = pytest.mark.slow


def failing(query: str) -> SubCallOutcome:
    return Failed("ModelError", "the model is down") if "bad" in query else SubCallAnswer(query)


async def test_recursive_llm_sends_its_query_and_context(cells: Cells) -> None:
    assert await cells.prints("print(recursive_llm('why', 'because'), recursive_llm(query='x'))") == "WHY X\n"
    assert cells.on_success.calls == [
        SubCallRequest("recursive", ("why",), ("because",), True),
        SubCallRequest("recursive", ("x",), ("",), True),
    ]


async def test_recursive_map_takes_one_query_or_as_many_as_contexts(cells: Cells) -> None:
    assert (
        await cells.prints(
            "print(recursive_map('q', ['a', 'b']), recursive_map(['x', 'y'], (c for c in 'ab')))"
        )
        == "['Q', 'Q'] ['X', 'Y']\n"
    )
    assert await cells.prints("print(recursive_map('q', []))") == "[]\n"
    assert [call.queries for call in cells.on_success.calls] == [("q", "q"), ("x", "y")]


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("recursive_map('q', 'text')", "contexts must be a list, not str"),
        ("recursive_map(['a'], ['b', 'c'])", "1 queries for 2 contexts"),
        ("recursive_map([1], ['b'])", "the query must be a str, not int"),
        ("recursive_map('q', 5)", "contexts must be a list, not int"),
        ("recursive_llm(None, 'x')", "the query must be a str, not NoneType"),
        ("recursive_map('q', ['a'], on_error='ignore')", "on_error must be 'raise' or 'return'"),
        ("recursive_map('q', ['x' * 40_000_000, 'y' * 40_000_000])", "more than 67,108,864"),
    ],
)
async def test_wrong_arguments_are_named_clearly(cells: Cells, code: str, why: str) -> None:
    result = await cells(code)
    assert why in (result.error or "")
    assert cells.on_success.calls == []


async def test_other_dialects_say_which_kind_they_mean(cells: Cells) -> None:
    await cells.prints(
        "llm_query('a'); llm_query_batched(['b', 'c']); rlm_query('d'); rlm_query('e', 'f'); rlm_query_batched(['g'])"
    )
    assert cells.on_success.calls == [
        SubCallRequest("llm", ("a",), ("",), True),
        SubCallRequest("llm", ("b", "c"), ("", ""), True),
        SubCallRequest("rlm", ("d",), ("",), True),
        SubCallRequest("rlm", ("e",), ("f",), True),
        SubCallRequest("rlm", ("g",), ("",), True),
    ]


async def test_a_failed_sub_call_is_an_exception_in_the_repl(cells: Cells) -> None:
    cells.on_success = Served(failing)
    result = await cells("recursive_map('bad', ['x', 'y'])")
    assert (result.error or "").endswith("SubCallError: ModelError: the model is down")
    assert await cells.prints("try: recursive_llm('bad')\nexcept SubCallError as e: print('caught', e)") == (
        "caught ModelError: the model is down\n"
    )


async def test_a_failed_slot_is_a_false_value_that_says_why(cells: Cells) -> None:
    cells.on_success = Served(failing)
    code = "r = recursive_map(['bad', 'ok'], ['', ''], on_error='return')\nprint(r, bool(r[0]), r[0].kind, r[0].why, isinstance(r[0], CallError))"
    assert (
        await cells.prints(code)
        == "[CallError(ModelError: the model is down), 'ok'] False ModelError the model is down True\n"
    )
    assert not cells.on_success.calls[0].stop_on_error


async def test_serve_that_raises_propagates_and_costs_the_child(host: SandboxManager) -> None:
    async def broken(calls: SubCallRequest) -> list[SubCallOutcome]:
        raise LookupError("no gateway")

    repl = await host.open(make_context("x"), "q")
    with pytest.raises(LookupError):
        await repl.run(["x = 1; recursive_llm('q')"], broken)
    assert host.live_children == 0
    result = await repl.run(["print('again')"], broken)
    assert result.output == "again\n"
    assert "variables of earlier cells are lost" in result.notes[0]


# Answers


@pytest.mark.parametrize(
    ("code", "answer"),
    [
        ("FINAL('Paris (the \"city\")')", 'Paris (the "city")'),
        ("FINAL({'a': ['é', 1]})", '{"a": ["é", 1]}'),
        ("FINAL([1, {2}])", "[1, [2]]"),
        ("FINAL(None)", "None"),
        ("FINAL(42)", "42"),
        ("x = 'v'; FINAL_VAR('x')", "v"),
        ("x = 'v'; FINAL_VAR(x + '!') if False else FINAL_VAR('x')", "v"),
        ("SUBMIT('s')", "s"),
        ("SUBMIT(a=1, b='é')", '{"a": 1, "b": "é"}'),
        ("answer['content'] = 'c'; answer['ready'] = True", "c"),
        ("answer = {'content': 'own', 'ready': True}", "own"),
        ("try:\n    FINAL('first')\nexcept BaseException:\n    pass\nFINAL('second')", "first"),
        ("try:\n    FINAL('kept')\nfinally:\n    1 / 0", "kept"),
        ("def f():\n    for x in [1]:\n        FINAL('deep')\nf()", "deep"),
        ("FINAL('\\ud800x')", "?x"),
    ],
)
async def test_an_answer_ends_the_session(cells: Cells, code: str, answer: str) -> None:
    result = await cells(code)
    assert result.final_answer == answer


async def test_final_stops_the_cell_and_the_blocks_after_it(cells: Cells) -> None:
    result = await cells("print(1)\nFINAL('x')\nprint(2)", "print(3)")
    assert (result.output, result.error, result.final_answer) == ("1\n", None, "x")


async def test_final_var_of_a_missing_name_lists_the_variables(cells: Cells) -> None:
    result = await cells("a = 1; b = 2; FINAL_VAR('c')")
    assert "no variable 'c'; variables: a, b" in (result.error or "")
    assert result.final_answer is None


async def test_an_answer_over_ten_million_characters_is_refused(cells: Cells) -> None:
    result = await cells("FINAL('x' * 10_000_001)")
    assert "the most is 10,000,000" in (result.error or "")
    assert result.final_answer is None


async def test_final_in_printed_text_ends_nothing(cells: Cells) -> None:
    result = await cells("print('FINAL(1)')\n# FINAL(2)\nanswer['content'] = 'draft'")
    assert (result.final_answer, result.error) == (None, None)


async def test_an_answer_of_the_models_own_is_left_alone(cells: Cells) -> None:
    await cells("answer = 'draft'")
    assert await cells.prints("print(answer)") == "draft\n"


async def test_answer_keeps_over_cells(cells: Cells) -> None:
    await cells("answer['content'] = 'slowly'")
    assert (await cells("answer['ready'] = True")).final_answer == "slowly"


@pytest.mark.parametrize(
    "first", ["FINAL('too soon')", "answer['content'] = 'too soon'; answer['ready'] = True"]
)
async def test_an_answer_that_was_not_accepted_does_not_stand_in_the_way_of_a_later_one(
    cells: Cells, first: str
) -> None:
    assert (await cells(first)).final_answer == "too soon"
    seen = await cells("print(len(context))", "print(query)")
    assert (seen.output, seen.final_answer) == ("1000\nwhat jumps?\n", None)
    assert (await cells("FINAL('seen')")).final_answer == "seen"


async def test_the_question_may_be_another_one_in_a_later_cell(cells: Cells) -> None:
    await cells("def asked():\n    return query")
    result = await cells.repl.run(["FINAL(asked())"], cells.on_success, query="who jumps?")
    assert result.final_answer == "who jumps?"


# Hijacks, variables, output


async def test_reserved_names_are_put_back_with_a_note(cells: Cells) -> None:
    result = await cells("context = 'mine'; recursive_llm = lambda q, c='': 'hijacked'; FINAL = print")
    assert result.notes == (
        "`context` was reassigned; it is put back before each cell, use another name; the whole input is in it already",
        "`recursive_llm` was reassigned; it is put back before each cell, use another name",
        "`FINAL` was reassigned; it is put back before each cell, use another name",
    )
    result = await cells("print(len(context), recursive_llm('q'))")
    assert (result.output, result.notes) == ("1000 Q\n", ())


async def test_a_changed_list_of_documents_is_put_back(host: SandboxManager, served: Served) -> None:
    cells = Cells(await host.open(make_context(["a", "b"]), "q"), served)
    result = await cells("context.clear(); context.append('poisoned')")
    assert "`context` was changed in place" in result.notes[0]
    assert await cells.prints("print(context)") == "['a', 'b']\n"


async def test_variables_are_all_that_persists(cells: Cells) -> None:
    code = "import re\nm = re.search('q', context)\ns = {1, 2}\ndef f(): pass\nclass C: pass\n_h = 'ab'\nx = C()\ng = len"
    result = await cells(code)
    assert result.variables == (
        Variable("re", "module", None),
        Variable("m", "Match", None),
        Variable("s", "set", 2),
        Variable("f", "function", None),
        Variable("C", "class", None),
        Variable("_h", "str", 2),
        Variable("x", "C", None),
        Variable("g", "function", None),
    )


async def test_show_vars_prints_and_returns_them(cells: Cells) -> None:
    assert await cells.prints("a = [1, 2]\nprint(SHOW_VARS())") == "a: list (2)\n{'a': 'list'}\n"


async def test_looked_tells_whether_code_read_the_context(cells: Cells) -> None:
    assert not (await cells("x = 1; context2 = 'context'")).context_was_read
    assert (await cells("n = len(context)")).context_was_read
    assert (await cells("x = 2")).context_was_read


async def test_output_is_bounded_to_head_and_tail(cells: Cells) -> None:
    result = await cells("for i in range(60_000): print('x' * 1000)\nprint('the end')")
    assert result.output_chars == 60_000 * 1001 + 8
    assert result.output.startswith("xxx")
    assert result.output.endswith("the end\n")
    assert "\n… 60,040,008 characters left out …\n" in result.output
    assert len(result.output) < 20_100


async def test_output_within_the_limit_is_whole(cells: Cells) -> None:
    result = await cells("for i in range(2000): print(i, end=' ')")
    assert result.output == "".join(f"{i} " for i in range(2000))


async def test_print_takes_what_print_takes(cells: Cells) -> None:
    code = "import io\nf = io.StringIO()\nprint('a', 1, sep='-', end='!', flush=True)\nprint('to f', file=f)\nprint(f.getvalue(), end='')\nprint()"
    assert await cells.prints(code) == "a-1!to f\n\n"


# Parts by reference


async def parts_of(host: SandboxManager, source: object, code: str) -> list[object]:
    served = Served()
    repl = await host.open(make_context(source), "q")
    result = await repl.run([code], served)
    assert result.error is None
    await repl.aclose()
    return [part for call in served.calls for part in call.contexts]


@pytest.mark.parametrize("letter", ["a", "é", "😀"])
async def test_slices_of_a_text_travel_as_byte_ranges(host: SandboxManager, letter: str) -> None:
    text = "".join(f"{n:06d}{letter * 14}" for n in range(10_000))
    code = "recursive_map('q', [context[i:i + 70_000] for i in range(0, len(context), 70_000)])\nrecursive_llm('q', context)\nrecursive_llm('q', context[100_000:180_000])\nrecursive_llm('q', context[5:50])\nn = 70_000\nrecursive_map('q', [context[i:i + n] for i in range(0, 140_001, n - 500)])"
    parts = await parts_of(host, text, code)
    at = lambda chars: len(text[:chars].encode())  # noqa: E731
    assert parts[:2] == [ByteRange(0, at(70_000)), ByteRange(at(70_000), at(140_000))]
    assert parts[2] in (ByteRange(at(140_000), at(200_000)), text[140_000:])
    assert parts[3:6] == [ByteRange(0, at(200_000)), ByteRange(at(100_000), at(180_000)), text[5:50]]
    assert parts[6:8] == [ByteRange(0, at(70_000)), ByteRange(at(69_500), at(139_500))]


async def test_documents_travel_by_number(host: SandboxManager) -> None:
    documents = [{"id": f"d{n}", "text": f"{n}" * 5_000} for n in range(4)] + [{"id": "s", "text": "short"}]
    code = "recursive_map('q', [context, context[1], context[2]['text'], context[4], context[1:3], [context[0], context[3]], ['own'], context[:]])"
    assert await parts_of(host, documents, code) == [
        DocumentRange(0, 5),
        ByteRange(5_000, 10_000),
        ByteRange(10_000, 15_000),
        "short",
        DocumentRange(1, 3),
        [documents[0], documents[3]],
        ["own"],
        DocumentRange(0, 5),
    ]


async def test_a_changed_document_travels_as_it_is_now(host: SandboxManager) -> None:
    documents = [{"id": "a", "text": "x" * 5_000}, {"id": "b", "text": "y" * 5_000}]
    code = "context[0]['text'] = 'new'\nrecursive_map('q', [context[0], context])"
    assert await parts_of(host, documents, code) == ["new", [{"id": "a", "text": "new"}, documents[1]]]


async def test_other_values_travel_as_text(host: SandboxManager) -> None:
    code = "recursive_map('q', [{'a': 1}, [1, 'x'], 5, None, {1}, ('a', 'b')])"
    assert await parts_of(host, "text", code) == ['{"a": 1}', '[1, "x"]', "5", "None", "{1}", ["a", "b"]]


TIMER = CellTimer(1.0, 1.0, 1.0)


def test_every_name_of_ours_is_refused_to_a_tool() -> None:
    for parts in (DocumentReferences([{"id": "a", "text": "b"}]), TextReferences("text")):
        repl = Interpreter(
            parts, InterpreterConfig(), None, Output(1_000, lambda *_: None), TIMER, CellLanguage()
        )  # type: ignore[arg-type]
        for name in repl._builtins:
            with pytest.raises(ConfigError):
                check_name(name)


async def test_a_tool_is_called_by_its_name_with_json_both_ways(host: SandboxManager) -> None:
    asked = []

    async def serve(request: object) -> list[SubCallOutcome]:
        asked.append(request)
        failed = isinstance(request, ToolRequest) and "fail" in request.arguments
        return [
            Failed("ValueError", "it raised ValueError: no") if failed else SubCallAnswer('{"a": [1, null]}')
        ]

    repl = await host.open(make_context("text"), "q", tools=("weather",), argument_bytes=200)
    code = """
import datetime
print(weather("Rome", days=2, when=datetime.date(2026, 1, 2), of={3, 1}))
for arguments in ("fail", "x" * 200, lambda: 1):
    try:
        weather(arguments)
    except ToolError as error:
        print(error)
"""
    result = await repl.run([code], serve)
    assert result.error is None, result.error
    assert result.output.splitlines() == [
        "{'a': [1, None]}",
        "weather: it raised ValueError: no",
        "weather: the arguments are 210 bytes, more than 200; pass less at a time",
        "weather: its arguments cannot be sent (a value of type function); pass str, numbers, lists and dicts",
    ]
    assert asked[0] == ToolRequest("weather", '[["Rome"], {"days": 2, "when": "2026-01-02", "of": [1, 3]}]')


async def test_cite_sends_words_and_where_they_shall_stand(host: SandboxManager) -> None:
    asked = []

    async def serve(request: object) -> list[SubCallOutcome]:
        asked.append(request)
        return [SubCallAnswer("{}")]

    documents = [{"id": "a", "text": "first line\nthe second"}, {"id": "b", "text": "third"}]
    repl = await host.open(make_context(documents), "q")
    code = """
import re
cite("words")
cite("words", "b")
cite("words", 1)
cite("words", context[0])
cite(search("second")[0])
cite(bm25("third")[0])
cite(["one", "two"], document="a")
cite(re.search("sec...", documents[0]["text"]))
for wrong in (lambda: cite(3), lambda: cite("x", "nowhere"), lambda: cite("x", 2), lambda: cite("x" * 20_001)):
    try:
        wrong()
    except (TypeError, CitationError) as error:
        print(type(error).__name__)
"""
    result = await repl.run([code], serve)
    assert result.error is None, result.error
    assert result.output.split() == ["TypeError", *["CitationError"] * 3]
    assert asked == [
        CitationRequest("words"), CitationRequest("words", 1), CitationRequest("words", 1), CitationRequest("words", 0),
        CitationRequest("the second", 0), CitationRequest("third", 1), CitationRequest("one", 0),
        CitationRequest("two", 0), CitationRequest("second"),
    ]  # fmt: skip
