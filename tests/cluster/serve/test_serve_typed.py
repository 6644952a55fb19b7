"""Typed answers through the unmodified `openai` client: `parse` with a pydantic model, and what never matches."""

from __future__ import annotations

import openai
import pytest
from pydantic import BaseModel
from serve_waiting import MODEL, asked

from rlm_ray.testing.responses import run_query

pytestmark = pytest.mark.ray


class Book(BaseModel):
    title: str
    year: int


WRONG_TWICE = run_query(
    "print(len(context)); FINAL({'title': 'Frankenstein'})",
    "FINAL({'title': 'Frankenstein', 'year': 'long ago'})",
    "FINAL({'title': 'Frankenstein', 'year': 1818})",
)
NEVER = run_query(*["print(len(context)); FINAL({'title': 1})"] * 30)


def test_chat_parse_gives_an_instance(site):
    reply = site.client().chat.completions.parse(
        model=MODEL, messages=asked(WRONG_TWICE, "word " * 5_000), response_format=Book
    )
    assert reply.choices[0].message.parsed == Book(title="Frankenstein", year=1818)
    assert reply.rlm["turns"] == 3


def test_chat_stream_parses_to_an_instance(site):
    with site.client().chat.completions.stream(
        model=MODEL, messages=asked(WRONG_TWICE), response_format=Book
    ) as stream:
        reply = stream.get_final_completion()
    assert reply.choices[0].message.parsed == Book(title="Frankenstein", year=1818)


def test_responses_parse_gives_an_instance(site):
    reply = site.client().responses.parse(model=MODEL, input=WRONG_TWICE, text_format=Book)
    assert reply.output_parsed == Book(title="Frankenstein", year=1818)


def test_json_object_is_any_object(site):
    question = run_query("print(len(context)); FINAL(['a'])", "FINAL({'a': 1})")
    reply = site.client().chat.completions.create(
        model=MODEL, messages=asked(question), response_format={"type": "json_object"}
    )
    assert reply.choices[0].message.content == '{"a": 1}'


def test_answer_that_never_matches_is_an_error_and_no_object(site):
    with pytest.raises(openai.InternalServerError, match="does not match the schema") as caught:
        site.client().chat.completions.parse(
            model=MODEL,
            messages=asked(NEVER),
            response_format=Book,
            extra_body={"rlm": {"max_iterations": 2}},
        )
    assert caught.value.code == "schema_mismatch"
    response = site.client().responses.create(
        model="shallow", input="Which?", text={"format": {"type": "json_object"}}, background=True
    )
    with pytest.raises(openai.InternalServerError):
        site.client().responses.create(
            model="shallow", input="Which?", text={"format": {"type": "json_object"}}
        )
    assert response.status == "in_progress"


def test_schema_that_cannot_be_used_is_refused(site):
    for schema in ({"type": "objekt"}, {"type": "string", "pattern": "(?=a)"}):
        form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        with pytest.raises(openai.BadRequestError, match="schema"):
            site.client().chat.completions.create(model=MODEL, messages=asked("Which?"), response_format=form)
