"""Typed answers of a session: what does not match the schema is told to the model, which puts it right in its next turns."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from pydantic import BaseModel, field_validator
from test_session import CONTEXT, Gateway, Repl

from rlm_ray.config import Settings
from rlm_ray.core.repl_types import CellResult, Failed, SubCallRequest
from rlm_ray.llm.run_context import RunContext
from rlm_ray.session.session import Session
from rlm_ray.structured.schema import AnswerSchema

CODE = "```python\nprint(1)\n```"
TABLE = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
RIGHT = '{"name": "Ada", "age": 36}'


class Person(BaseModel):
    name: str
    age: int

    @field_validator("age")
    @classmethod
    def grown_up(cls, age):
        if age < 18:
            raise ValueError("only grown-ups are asked for")
        return age


def session(gateway, repl, schema, **settings):
    async def open_repl(context, query):
        return repl

    async def no_spawn(*_, **__):
        raise AssertionError("no sub-calls here")

    return Session(
        path=(),
        run_context=RunContext("run", Settings(model="root", **settings)),
        query="Who?",
        context=CONTEXT,
        gateway=gateway,
        open_repl=open_repl,
        spawn=no_spawn,
        schemas=(AnswerSchema.parse(schema),),
    )


def final(answer):
    return CellResult(final_answer=answer, context_was_read=True)


def last_messages(gateway):
    return [request.messages[-1].content for request, _ in gateway.asked]


async def test_answer_that_is_wrong_twice_is_taken_the_third_time():
    wrong = ['{"name": "Ada", "age": "old"}', '{"name": "Ada"}']
    gateway, repl = Gateway(CODE, CODE, CODE), Repl(*map(final, [*wrong, RIGHT]))
    result = await session(gateway, repl, TABLE).run()
    assert (json.loads(result.answer), result.stop_reason) == ({"name": "Ada", "age": 36}, "answered")
    first, second, third = last_messages(gateway)
    assert '"required":["name","age"]' in first
    assert '`age`: found "old", wanted an integer' in second
    assert "'age' is a required property and is missing" in third


@pytest.mark.parametrize("wrongs", [1, 3, 5])
async def test_answers_in_words_are_refused_until_one_fits(wrongs):
    gateway = Gateway(CODE, *["FINAL(Ada, who is old)"] * wrongs, f"FINAL({RIGHT})")
    result = await session(gateway, Repl(CellResult("1", 1, context_was_read=True)), TABLE).run()
    assert (result.answer, result.stop_reason) == (RIGHT, "answered")
    assert all("not accepted" in said for said in last_messages(gateway)[2:])


async def test_validator_of_a_pydantic_model_counts():
    gateway = Gateway(CODE, CODE)
    repl = Repl(final('{"name": "Ada", "age": 3}'), final(RIGHT))
    result = await session(gateway, repl, Person).run()
    assert result.answer == RIGHT
    assert "only grown-ups are asked for; found 3" in last_messages(gateway)[-1]


async def test_last_call_is_checked_and_put_right_once():
    gateway = Gateway(CODE, "She is Ada.", f"```json\n{RIGHT}\n```")
    result = await session(gateway, Repl(final("{}")), TABLE, max_iterations=1).run()
    assert (result.answer, result.stop_reason) == (RIGHT, "max_iterations")
    assert "JSON Schema" in last_messages(gateway)[1]
    assert "no JSON object" in last_messages(gateway)[2]


async def test_session_whose_answers_never_fit_says_so():
    gateway = Gateway(CODE, "She is Ada.", "Ada!")
    result = await session(gateway, Repl(final("{}")), TABLE, max_iterations=1).run()
    assert (result.answer, result.stop_reason) == ("Ada!", "schema")
    assert "did not finish within 1 turn" in result.why
    assert "does not match the schema: the answer holds no JSON object" in result.why


async def test_direct_answer_that_is_wrong_twice_is_taken_the_third_time():
    gateway = Gateway("Ada", '{"name": "Ada"}', RIGHT)
    result = await session(gateway, Repl(), TABLE, max_depth=0).run()
    assert (result.answer, result.stop_reason) == (RIGHT, "answered")
    roles = [message.role for message in gateway.asked[-1][0].messages]
    assert roles == ["system", "user", "assistant", "user", "assistant", "user"]


async def test_direct_answer_that_never_fits_says_so():
    result = await session(Gateway("a", "b", "c"), Repl(), TABLE, max_depth=0).run()
    assert (result.answer, result.stop_reason) == ("c", "schema")


async def test_history_stays_the_same_after_a_refusal():
    gateway = Gateway(CODE, CODE, CODE, CODE)
    repl = Repl(final("{}"), CellResult("2", 1, context_was_read=True), final("{}"), final(RIGHT))
    await session(gateway, repl, TABLE).run()
    asked = [request.messages for request, _ in gateway.asked]
    for before, after in pairwise(asked):
        assert after[: len(before)] == before


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ('{"type": "objekt"}', "no valid JSON Schema"),
        ('{"$ref": "https://example.com/a"}', "does not hold"),
        ('{"type": "string", "pattern": "(a+)+(?=b)"}', "not supported"),
        ('{"patternProperties": {"(a+)+$": {}}}', "not supported"),
        ("{" + '"items": {' * 200 + "}" * 200 + "}", "nested deeper"),
        ('{"type": "object", "description": "' + "x" * 150_000 + '"}', "the most is"),
        ("[1]", "must be"),
    ],
)
async def test_schema_of_a_model_that_cannot_be_used_fails_its_sub_calls(schema, why):
    work = session(Gateway(), Repl(), TABLE)
    calls = SubCallRequest("recursive", ("a", "b"), ("x", "y"), stop_on_error=True, schema=schema)
    outcomes = await work._requests.serve(None, calls)
    assert [type(outcome) for outcome in outcomes] == [Failed, Failed]
    assert outcomes[0].kind == "InputError"
    assert why in outcomes[0].why
