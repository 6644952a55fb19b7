"""Typed answers on a cluster: of runs, rows, conversations and sub-calls; with a pydantic model of the user's module."""

from __future__ import annotations

import json

import pytest
from pydantic import BaseModel, field_validator

from rlm_ray import RLM, SchemaError
from rlm_ray.testing import ModelServer
from rlm_ray.testing.responses import is_session

pytestmark = pytest.mark.ray

TEXT = "Ada Lovelace was born in 1815. " * 300
TABLE = {"type": "object", "properties": {"year": {"type": "integer"}}, "required": ["year"]}


class Born(BaseModel):
    name: str
    year: int

    @field_validator("year")
    @classmethod
    def is_old(cls, year):
        if year > 1900:
            raise ValueError("born too late")
        return year


def code(text):
    return f"```python\n{text}\n```"


def turns(*programs):
    """A model whose sessions run these programs, the last one again and again."""
    return lambda request: code(programs[min(request.turn, len(programs)) - 1])


WRONG_TWICE = turns(
    "print(len(context)); FINAL({'name': 'Ada'})",
    "FINAL({'name': 'Ada', 'year': 1915})",
    "FINAL({'name': 'Ada', 'year': 1815})",
)


def test_answer_that_is_wrong_twice_is_an_instance_the_third_time(ask):
    with ModelServer(WRONG_TWICE) as server:
        result = ask(server).run("Who?", TEXT, schema=Born)
        told = [request.last for request in server.requests]
    assert result.value == Born(name="Ada", year=1815)
    assert json.loads(result.answer) == {"name": "Ada", "year": 1815}
    assert (result.stop_reason, result.turns) == ("answered", 3)
    assert "`year`: Field required" in told[1]
    assert "born too late; found 1915" in told[2]
    assert json.loads(json.dumps(result.as_dict()))["value"] == {"name": "Ada", "year": 1815}


def test_finished_typed_run_gives_its_value_again_for_nothing(ask):
    with ModelServer(WRONG_TWICE) as server:
        run_id = ask(server).run("Who?", TEXT, schema=Born).run_id
        calls = server.calls
        assert RLM.resume(run_id).value == {"name": "Ada", "year": 1815}
        assert RLM.resume(run_id, schema=Born).value == Born(name="Ada", year=1815)
        assert server.calls == calls


def test_stopped_typed_run_goes_on_without_paying_twice(ask):
    """Also without the pydantic model: that it refused an answer is on record."""
    with ModelServer(WRONG_TWICE) as server:
        rlm = ask(server, limits={"calls": 3})
        stopped = rlm.run("Who?", TEXT, schema=Born)
        assert (stopped.stop_reason, stopped.turns) == ("calls", 2)
        calls = server.calls
        options = {"api_key": "k", "api_base": server.url, "cluster": rlm.settings.cluster}
        result = RLM.resume(stopped.run_id, limits={"calls": None}, **options)
        assert (result.value, result.turns) == ({"name": "Ada", "year": 1815}, 3)
        assert server.calls == calls + 1


def test_answer_that_never_matches_is_an_error_with_what_it_was(ask):
    with ModelServer(lambda _: "no idea") as server:
        result = ask(server, max_depth=0).run("Who?", TEXT, schema=TABLE)
        assert (result.stop_reason, result.answer, result.value) == ("schema", "no idea", None)
        with pytest.raises(SchemaError, match="no JSON object") as caught:
            ask(server, max_depth=0).completion("Who?", TEXT, schema=TABLE)
        assert caught.value.partial == "no idea"


def test_completion_returns_the_value_and_a_text_without_a_schema(ask):
    with ModelServer(turns("print(len(context))", "FINAL([1815, 1852])")) as server:
        assert ask(server).completion("When?", TEXT, schema=list[int]) == [1815, 1852]
        assert ask(server).completion("When?", TEXT) == "[1815, 1852]"


def test_rows_of_a_map_have_values(ask):
    def answer(request):
        year = request.messages[1]["content"].split()[-1]
        return f'{{"year": {year}}}' if year != "0" else "none"

    with ModelServer(answer) as server:
        results = ask(server, max_depth=0).map("When?", ["1815", "0", "1852"], schema=TABLE)
    assert [result.value for result in results] == [{"year": 1815}, None, {"year": 1852}]
    assert [result.stop_reason for result in results] == ["answered", "schema", "answered"]


def test_each_question_of_a_conversation_has_its_own_schema(ask):
    programs = (
        "print(len(context))",
        "FINAL('long ago')",
        "FINAL(1815)",
        "FINAL(1852)",
        "FINAL({'name': 'Ada', 'year': 1952})",
        "FINAL({'name': 'Ada', 'year': 1852})",
        "FINAL('in London')",
    )
    with ModelServer(turns(*programs)) as server, ask(server).conversation(TEXT) as conversation:
        assert conversation.ask("When was she born?", schema=int) == 1815
        assert conversation.ask("When did she die?", schema=Born) == Born(name="Ada", year=1852)
        assert conversation.ask("Where?") == "in London"
        assert server.calls == len(programs)


def typed_children(request):
    if is_session(request):
        return code(
            f"print(len(context))\nschema = {TABLE!r}\n"
            "parts = ['good', 'wrong once', 'never']\n"
            "rows = recursive_map('When?', parts, on_error='return', schema=schema)\n"
            "print([type(row).__name__ for row in rows], rows[2])\n"
            "one = recursive_llm('When?', 'good', schema=schema)['year']\n"
            "FINAL([rows[0], rows[1], rows[2].kind, one])"
        )
    asked = request.messages[1]["content"]
    if "good" in asked or ("wrong once" in asked and len(request.messages) > 2):
        return '{"year": 1815}'
    return '{"year": "long ago"}'


def test_sub_calls_with_a_schema_give_parsed_objects(ask):
    with ModelServer(typed_children) as server:
        result = ask(server).run("When?", TEXT)
    assert json.loads(result.answer) == [{"year": 1815}, {"year": 1815}, "SchemaError", 1815]
    assert server.calls == 1 + 1 + 2 + 2 + 1


def test_child_session_with_a_schema_puts_its_answer_right(ask):
    def answer(request):
        question = request.messages[1]["content"]
        if "ROOT" in question:
            return code(
                f"print(len(context))\nFINAL(recursive_llm('CHILD', context, schema={TABLE!r})['year'])"
            )
        return code(f"print(len(context)); FINAL({{'year': {'None' if request.turn == 1 else 1815}}})")

    with ModelServer(answer) as server:
        result = ask(server, max_depth=2, max_leaf_chars=100).run("ROOT", TEXT)
    assert result.answer == "1815"
    assert server.calls == 3
