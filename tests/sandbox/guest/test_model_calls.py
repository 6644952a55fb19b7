"""The names through which a cell asks models and ends its session, in this process."""

from __future__ import annotations

import pytest
from guest_interpreter import Guest

from rlm_ray.core.context import ByteRange
from rlm_ray.core.repl_types import Failed, SubCallAnswer, SubCallRequest
from rlm_ray.sandbox.wire.frames import MAX_FRAME_BYTES
from rlm_ray.sandbox.wire.messages import MAX_ANSWER_CHARS, MAX_CALLS, MAX_NAME_CHARS, MAX_SCHEMA_CHARS


def fail_odd(query):
    return Failed("TimeoutError", "too slow") if query.startswith("odd") else SubCallAnswer(query.upper())


@pytest.mark.parametrize(
    ("code", "request_", "shown"),
    [
        ("recursive_llm('q')", SubCallRequest("recursive", ("q",), ("",), True), "'Q'"),
        ("recursive_llm('q', 'text')", SubCallRequest("recursive", ("q",), ("text",), True), "'Q'"),
        ("recursive_llm('q', context)", SubCallRequest("recursive", ("q",), (ByteRange(0, 1000),), True), "'Q'"),
        ("recursive_map('q', ['a', 'b'])", SubCallRequest("recursive", ("q", "q"), ("a", "b"), True), "['Q', 'Q']"),
        ("recursive_map(['p', 'q'], ('a', 'b'), on_error='return')", SubCallRequest("recursive", ("p", "q"), ("a", "b"), False), "['P', 'Q']"),
        ("llm_query('q')", SubCallRequest("llm", ("q",), ("",), True), "'Q'"),
        ("llm_query_batched(['p', 'q'])", SubCallRequest("llm", ("p", "q"), ("", ""), True), "['P', 'Q']"),
        ("rlm_query('q')", SubCallRequest("rlm", ("q",), ("",), True), "'Q'"),
        ("rlm_query('q', 'c')", SubCallRequest("rlm", ("q",), ("c",), True), "'Q'"),
        ("rlm_query_batched(['p', 'q'])", SubCallRequest("rlm", ("p", "q"), ("", ""), True), "['P', 'Q']"),
        ("rlm_query_batched(['p', 'q'], ['a', 'b'])", SubCallRequest("rlm", ("p", "q"), ("a", "b"), True), "['P', 'Q']"),
    ],
)  # fmt: skip
def test_each_name_asks_for_its_kind(code, request_, shown):
    guest = Guest()
    assert guest.prints(f"print(repr({code}))") == f"{shown}\n"
    assert guest.host.requests == [request_]


@pytest.mark.parametrize(
    "code",
    ["recursive_map('q', [])", "recursive_map([], [])", "llm_query_batched([])", "rlm_query_batched([])"],
)
def test_nothing_to_ask_asks_nobody(code):
    guest = Guest()
    assert guest.prints(f"print({code})") == "[]\n"
    assert guest.host.requests == []


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("recursive_llm(7)", "TypeError: recursive_llm(query, context): the query must be a str, not int"),
        ("recursive_map(['q', 7], ['a', 'b'])", "TypeError: recursive_map: the query must be a str, not int"),
        ("recursive_map(['q'], ['a', 'b'])", "TypeError: recursive_map: 1 queries for 2 contexts; give as many of each"),
        ("recursive_map('q', 'text')", "TypeError: recursive_map(query, contexts): contexts must be a list, not str; to ask several"),
        ("recursive_map('q', {'a': 1})", "contexts must be a list, not dict"),
        ("recursive_map('q', 3)", "contexts must be a list, not int"),
        ("recursive_map(3, ['a'])", "query must be a list, not int"),
        ("recursive_map('q', ['a'], on_error='skip')", "ValueError: on_error must be 'raise' or 'return', not 'skip'"),
        ("llm_query_batched('q')", "llm_query_batched(prompts): prompts must be a list, not str"),
        ("rlm_query_batched(['q'], 'c')", "rlm_query_batched(prompts, contexts): contexts must be a list, not str"),
        (f"recursive_map('q', ['a'] * {MAX_CALLS + 1})", f"{MAX_CALLS + 1:,} sub-calls at once; the most is {MAX_CALLS:,}"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused_before_anything_is_asked(code, error):
    guest = Guest()
    assert error in guest(code).error
    assert guest.host.requests == []


def test_as_many_calls_as_the_most_go():
    guest = Guest()
    assert guest.prints(f"print(len(recursive_map('q', ['a'] * {MAX_CALLS})))") == f"{MAX_CALLS}\n"


@pytest.mark.parametrize(
    "parts",
    ["['a' * n]", "['a' * (n // 2), 'a' * (n // 2)]", "[['a' * n]]", "[[{'id': 1, 'text': 'a' * n}]]"],
)
def test_more_text_than_a_message_holds_is_refused(parts):
    guest = Guest()
    assert guest(f"n = {MAX_FRAME_BYTES}\nrecursive_map('q', {parts})").error is None
    error = guest(f"n = {MAX_FRAME_BYTES + 2}\nrecursive_map('q', {parts})").error
    assert f"characters, more than {MAX_FRAME_BYTES:,}" in error
    assert len(guest.host.requests) == 1


SCHEMA = '{"type": "object", "title": "ä"}'


@pytest.mark.parametrize(
    ("code", "request_", "shown"),
    [
        ("recursive_llm('q', 'c', {'type': 'object', 'title': 'ä'})", SubCallRequest("recursive", ("q",), ("c",), True, SCHEMA), "{'a': [1]}"),
        ("recursive_llm('q', schema={'type': 'object', 'title': 'ä'}, model='m')", SubCallRequest("recursive", ("q",), ("",), True, SCHEMA, "m"), "{'a': [1]}"),
        ("recursive_llm('q', model='m')", SubCallRequest("recursive", ("q",), ("",), True, "", "m"), "'{\"a\": [1]}'"),
        ("recursive_map('q', ['c'], 'return', {'type': 'object', 'title': 'ä'}, 'm' * 200)",
         SubCallRequest("recursive", ("q",), ("c",), False, SCHEMA, "m" * MAX_NAME_CHARS), "[{'a': [1]}]"),
    ],
)  # fmt: skip
def test_schema_goes_as_json_and_its_answer_comes_back_as_values(code, request_, shown):
    guest = Guest(answer=lambda _: SubCallAnswer('{"a": [1]}'))
    assert guest.prints(f"print(repr({code}))") == f"{shown}\n"
    assert guest.host.requests == [request_]


@pytest.mark.parametrize(
    ("option", "error"),
    [
        ("schema='object'", "schema must be a JSON Schema as a dict"), ("schema={}", "got dict"), ("schema=[]", "got list"),
        ("schema={'a': {1}}", "TypeError: schema is no JSON"), ("schema={'a': 'x' * 199_992}", "schema has 200,001 characters; the most is 200,000"),
        ("model=''", "model must be the name of a model as a str; got str"), ("model='m' * 201", "model must be the name"), ("model=5", "got int"),
    ],
)  # fmt: skip
def test_schema_or_model_that_is_none_is_refused_before_anything_is_asked(option, error):
    guest = Guest()
    assert error in guest(f"recursive_llm('q', {option})").error
    assert error in guest(f"recursive_map('q', ['c'], {option})").error
    assert guest.host.requests == []


def test_longest_schema_goes():
    guest = Guest(answer=lambda _: SubCallAnswer("1"))
    assert guest.prints("print(recursive_llm('q', schema={'a': 'x' * 199_991}))") == "1\n"
    assert len(guest.host.requests[0].schema) == MAX_SCHEMA_CHARS


def test_failed_call_is_raised_or_a_false_value():
    guest = Guest(answer=fail_odd)
    assert guest("recursive_llm('odd')").error.endswith("SubCallError: TimeoutError: too slow")
    assert guest("recursive_map(['a', 'odd'], ['', ''])").error is not None
    shown = guest.prints(
        "a, b = recursive_map(['a', 'odd'], ['', ''], on_error='return')\nprint(a, bool(b), b, b.kind, b.why, isinstance(b, CallError))"
    )
    assert shown == "A False CallError(TimeoutError: too slow) TimeoutError too slow True\n"


@pytest.mark.parametrize(
    ("code", "answer"),
    [
        ("FINAL('done')", "done"), ("FINAL(3)", "3"), ("FINAL(['ä', 1])", '["ä", 1]'), ("FINAL({'a': None})", '{"a": null}'),
        ("FINAL((1, 2))", "(1, 2)"), ("FINAL({1: {2}})", '{"1": [2]}'), ("x = 'v'; FINAL_VAR('x')", "v"), ("x = 'v'; FINAL_VAR(x)", None),
        ("FINAL_VAR(5)", "5"), ("SUBMIT('v')", "v"), ("SUBMIT(a=1, b='x')", '{"a": 1, "b": "x"}'),
        ("answer['content'] = 'v'; answer['ready'] = True", "v"), ("answer = {'content': [1], 'ready': 1}", "[1]"),
        ("answer['content'] = 'v'; answer['ready'] = True; 1/0", "v"), ("answer = {'ready': True}", ""), ("FINAL_VAR('query')", "what jumps?"),
    ],
)  # fmt: skip
def test_answer_is_given_to_the_host(code, answer):
    guest = Guest()
    guest(code)
    assert guest.host.finals == ([] if answer is None else [answer])


@pytest.mark.parametrize(
    "code",
    [
        "answer['content'] = 'v'",
        "answer = {'content': 'v', 'ready': False}",
        "answer = 5",
        "answer = 'ready'",
    ],
)
def test_answer_that_is_not_ready_is_none(code):
    guest = Guest()
    guest(code)
    assert guest.host.finals == []


def test_first_answer_of_a_cell_counts_and_the_next_cell_may_answer_anew():
    guest = Guest()
    guest("try:\n    FINAL('a')\nexcept BaseException:\n    pass\nFINAL('b')")
    guest("answer['content'], answer['ready'] = 'x', True\nFINAL('c')", "FINAL('never')")
    guest("FINAL('d')")
    assert guest.host.finals == ["a", "c", "d"]


def test_final_ends_the_cell_and_what_follows():
    guest = Guest()
    assert guest.prints("print(1)\nFINAL('x')\nprint(2)", "print(3)") == "1\n"
    assert guest("1/0", "print(4)").output == ""


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("SUBMIT()", "SUBMIT(value) takes one value, or fields by keyword"),
        ("SUBMIT(1, 2)", "SUBMIT(value) takes one value"),
        ("SUBMIT(1, a=2)", "SUBMIT(value) takes one value"),
        ("FINAL_VAR('nothing')", "NameError: FINAL_VAR: there is no variable 'nothing'; variables: none yet"),
        ("y = 1\nFINAL_VAR('z')", "variables: y"),
        ("FINAL_VAR('__name__')", "there is no variable '__name__'"),
        (f"FINAL('a' * {MAX_ANSWER_CHARS + 1})", f"the answer has {MAX_ANSWER_CHARS + 1:,} characters; the most is"),
    ],
)  # fmt: skip
def test_answer_that_is_none_is_an_error_of_the_cell(code, error):
    guest = Guest()
    assert error in guest(code).error
    assert guest.host.finals == []


def test_longest_answer_is_taken():
    guest = Guest()
    guest(f"FINAL('a' * {MAX_ANSWER_CHARS})")
    assert guest.host.finals == ["a" * MAX_ANSWER_CHARS]
