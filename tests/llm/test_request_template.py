"""Which requests have a template, and what is sent by one."""

from __future__ import annotations

import json
from dataclasses import replace

import httpx
import pytest

from rlm_ray.core.llm import Message, ModelRequest
from rlm_ray.llm.request_template import (
    PARAMS,
    RequestTemplate,
    kind_of_request,
    may_have_template,
    read_template,
)

SYSTEM, USER = {"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}
MESSAGES = [SYSTEM, USER]
KEY = {"authorization": "Bearer k"}
ARGUMENTS = {"messages": MESSAGES, "max_tokens": 100, "api_key": "k"}


def read(
    *,
    body=None,
    headers=None,
    method="POST",
    arguments=None,
    environment=None,
    sent=MESSAGES,
    extensions=None,
):
    """Return the template of what was sent: by default the messages, a bound and a field."""
    if not isinstance(body, list):
        body = {"model": "m", "max_tokens": 100, "messages": sent} if body is None else body
    request = httpx.Request(
        method,
        "http://h/v1/chat/completions",
        json=body,
        headers=KEY if headers is None else headers,
        extensions=extensions or {},
    )
    return read_template(request, "transport", "http://proxy", arguments or ARGUMENTS, environment or {})


def test_template_says_where_and_how_requests_are_sent():
    timeout = {"connect": 1.0, "read": 2.0, "write": 4.0, "pool": 3.0}
    headers = {**KEY, "X-Tenant": "t", "cookie": "c", "connection": "close", "accept-encoding": "br"}
    template = read(headers=headers, extensions={"timeout": timeout})
    assert template.target.url == "http://h/v1/chat/completions"
    assert template.target.headers == (
        ("authorization", "Bearer k"), ("X-Tenant", "t"), ("Content-Type", "application/json"), ("accept-encoding", "gzip, deflate"),
    )  # fmt: skip
    assert template.target.timeouts_s == (1.0, 2.0, 3.0)
    assert (template.target.proxy, template.target.transport) == ("http://proxy", "transport")
    assert (template.bound_name, template.roles) == ("max_tokens", ())
    assert read().target.timeouts_s == (None, None, None)


@pytest.mark.parametrize(
    ("sent", "given", "bound", "body"),
    [
        ({"model": "m", "max_tokens": 100}, 100, 7, {"model": "m", "max_tokens": 7}), ({"max_completion_tokens": 100, "stream": False}, 100, 7, {"stream": False, "max_completion_tokens": 7}), ({"max_tokens": 100}, 100, 7, {"max_tokens": 7}),
        ({"model": "m"}, None, None, {"model": "m"}), ({}, None, None, {}), ({"max_tokens": 100, "max_completion_tokens": 50}, 100, 7, {"max_completion_tokens": 50, "max_tokens": 7}), ({"max_tokens": 100}, None, None, {"max_tokens": 100}),
    ],
)  # fmt: skip
def test_body_of_a_template_has_other_messages_and_another_bound(sent, given, bound, body):
    template = read(body={**sent, "messages": MESSAGES}, arguments={**ARGUMENTS, "max_tokens": given})
    another = [{"role": "user", "content": "\u00e9\n"}]
    made = template.body(another, bound)
    assert json.loads(made) == {**body, "messages": another}
    assert list(json.loads(made)) == [*body, "messages"]


def test_role_that_goes_by_another_name_has_it_in_every_request():
    sent = [{**SYSTEM, "role": "developer"}, USER, {**SYSTEM, "role": "developer"}]
    template = read(sent=sent, arguments={**ARGUMENTS, "messages": [SYSTEM, USER, SYSTEM]})
    assert template.roles == (("system", "developer"),)
    assert json.loads(template.body(MESSAGES, 5))["messages"] == sent[:2]
    assert read(sent=[USER], arguments={**ARGUMENTS, "messages": [USER]}).roles == ()


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "PUT"}, {"headers": {**KEY, "content-encoding": "gzip"}}, {"body": [1]}, {"body": {"max_tokens": 100}}, {"body": {"max_tokens": 100, "messages": MESSAGES, "stream": True}}, {"body": {"messages": MESSAGES}}, {"body": {"max_tokens": 99, "messages": MESSAGES}},
        {"body": {"max_tokens": 100, "max_completion_tokens": 100, "messages": MESSAGES}}, {"sent": [SYSTEM]}, {"sent": [USER, SYSTEM]}, {"sent": [*MESSAGES, USER]}, {"sent": "hi"}, {"sent": ["hi", USER]}, {"sent": [SYSTEM, {**USER, "content": "Hi"}]},
        {"sent": [SYSTEM, {**USER, "cache_control": 1}]}, {"sent": [SYSTEM, {"content": "hi"}]}, {"sent": [{**SYSTEM, "role": "developer"}, SYSTEM], "arguments": {**ARGUMENTS, "messages": [SYSTEM, SYSTEM]}},
    ],
)  # fmt: skip
def test_what_was_sent_otherwise_than_it_was_given_is_no_template(changes):
    assert read() is not None
    assert read(**changes) is None


@pytest.mark.parametrize(
    ("headers", "arguments", "environment", "is_lasting"),
    [
        ({}, {}, {}, True), ({"authorization": "Bearer k"}, {"api_key": "k"}, {}, True), ({"Api-Key": "k"}, {"api_key": "k"}, {}, True), ({"X-API-Key": "k"}, {"api_key": "k"}, {}, True), ({"authorization": "Bearer k"}, {}, {"A_KEY": "k"}, True),
        ({"authorization": "Bearer fake-api-key"}, {}, {}, True), ({"authorization": "Basic x"}, {"extra_headers": {"authorization": "Basic x"}}, {}, True), ({"authorization": "Bearer k", "x-other": "token"}, {"api_key": "k"}, {}, True),
        ({"authorization": "Bearer token"}, {"api_key": "k"}, {"A_KEY": "j"}, False), ({"api-key": "token"}, {"api_key": "k"}, {}, False), ({"X-Api-Key": "token"}, {"extra_headers": None}, {}, False),
        ({"authorization": "Bearer k", "api-key": "token"}, {"api_key": "k"}, {}, False), ({"authorization": "Bearer token"}, {"extra_headers": {"x": "y"}}, {}, False),
    ],
)  # fmt: skip
def test_key_that_was_not_given_may_expire(headers, arguments, environment, is_lasting):
    template = read(
        headers=headers,
        environment=environment,
        arguments={"messages": MESSAGES, "max_tokens": 100, **arguments},
    )
    assert (template is not None) is is_lasting


TURN = (Message("assistant", "and?"), Message("user", "go on"))
REQUEST = ModelRequest("m", (Message("system", "Be brief."), Message("user", "hi")), 100, {"seed": 1})
LONGER = replace(REQUEST, messages=REQUEST.messages + TURN)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (REQUEST, replace(REQUEST, max_tokens=7)), (REQUEST, replace(REQUEST, messages=(Message("system", "x"), Message("user", "y")))), (LONGER, replace(LONGER, messages=LONGER.messages + TURN)), (REQUEST, replace(REQUEST, grows=True)),
    ],
)  # fmt: skip
def test_requests_of_other_texts_and_lengths_are_of_one_kind(one, other):
    assert kind_of_request(one) == kind_of_request(other)
    assert hash(kind_of_request(one)) == hash(kind_of_request(other))


def test_requests_of_other_models_parameters_and_orders_are_of_other_kinds():
    system, user = REQUEST.messages
    others = [
        REQUEST, LONGER, replace(REQUEST, model="n"), replace(REQUEST, params={"seed": 2}), replace(REQUEST, max_tokens=None), replace(REQUEST, messages=(user,)), replace(REQUEST, messages=(system,)), replace(REQUEST, messages=(user, system)),
        replace(REQUEST, messages=(system, user, user)), replace(REQUEST, messages=(system, user, TURN[0])), replace(REQUEST, messages=(user, user)), replace(REQUEST, messages=(user, system, user)), replace(REQUEST, messages=(system, user, system)),
    ]  # fmt: skip
    kinds = {kind_of_request(each) for each in others}
    assert len(kinds) == len(others)
    assert None not in kinds


@pytest.mark.parametrize(
    "messages", [(), (Message("user", ""),), (Message("user", "hi"), Message("user", " \n"))]
)
def test_request_without_text_has_no_kind(messages):
    assert kind_of_request(replace(REQUEST, messages=messages)) is None


@pytest.mark.parametrize(
    ("params", "may"),
    [
        ({}, True), ({**dict.fromkeys(PARAMS), "timeout": 1}, True), ({"temperature": 0, "top_p": 0.5, "stop": ["a", ("b",)], "user": "u", "seed": None, "store": True}, True), ({"timeout": 7}, True), ({"timeout": 7.5}, True), ({"timeout": None}, False), ({"timeout": "7"}, False), ({"n": 1}, False),
        ({"seed": 1, "mock_response": "x"}, False), ({"extra_body": {"min_p": 0.1, "a": {"b": [1, {"c": None}]}}}, True), ({"extra_body": {"stream": True}}, False), ({"extra_body": None}, True), ({"extra_body": {"a": {"b": [object()]}}}, False), ({"extra_body": {1: "a"}}, False),
        ({"extra_body": {"a": {"b": {2: "c"}}}}, False), ({"user": object()}, False), ({"stop": {"a"}}, False), ({"logit_bias": {"5": 1}}, True), ({"user": b"u"}, False), ({"stop": ["a", b"b"]}, False),
    ],
)  # fmt: skip
def test_parameters_that_litellm_only_passes_on_may_have_a_template(params, may):
    assert may_have_template(params) is may


def test_template_without_fields_and_bound_is_only_its_messages():
    template = RequestTemplate(read().target, b"{")
    assert template.body([USER], 5) == b'{"messages":[{"role":"user","content":"hi"}]}'
