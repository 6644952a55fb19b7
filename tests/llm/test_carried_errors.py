"""Errors that come inside a 200 have the status of their code."""

from __future__ import annotations

import pytest

from rlm_ray.llm.litellm_reply import CarriedError, check_body

STATUSES = {
    400: ["invalid_request_error", "invalid_request", "bad_request", "invalid_argument", "context_length_exceeded", 400, "400"],
    401: ["authentication_error", "invalid_api_key"], 403: ["permission_error"], 404: ["not_found_error", "model_not_found"], 408: ["timeout"],
    429: ["rate_limit_exceeded", "rate_limit_error", "rate_limited", "too_many_requests", "insufficient_quota", "resource_exhausted", 429],
    529: ["overloaded_error"], 503: ["service_unavailable", "unavailable", 503], 502: ["bad_gateway"], 500: ["anything", None],
}  # fmt: skip


ERROR = {"message": "busy", "x": 1}


def carried(body):
    with pytest.raises(CarriedError) as caught:
        check_body(body)
    return caught.value.status_code, caught.value.message


@pytest.mark.parametrize(
    ("status", "code"), [(status, code) for status, codes in STATUSES.items() for code in codes]
)
def test_status_is_that_of_the_code(status, code):
    assert carried({"error": {"code": code, "message": "why"}})[0] == status


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "the provider sent a reply without choices"), ({"choices": []}, "the provider sent a reply without choices"), ({"message": "m"}, "m"), ({"detail": "d"}, "d"),
        ({"msg": "g"}, "g"), ({"errors": ["e"]}, "['e']"), ({"choices": [{}]}, "the provider sent a choice without a message"), (None, "the provider sent a reply without choices"),
    ],
)  # fmt: skip
def test_body_without_an_answer_says_what_it_holds(body, said):
    assert carried(body) == (500, said)


def test_message_without_a_role_is_the_models():
    body = {"choices": [{"message": {"content": "x"}}, {"message": {"role": "tool"}}]}
    check_body(body)
    assert [choice["message"]["role"] for choice in body["choices"]] == ["assistant", "tool"]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ({"code": 400}, 400), ({"code": 399}, 500), ({"code": 599}, 599), ({"code": 600}, 500), ({"code": "429"}, 429), ({"code": "42"}, 500), ({"code": 0}, 500), ({"code": "Rate_Limited"}, 429), ({"code": 429.5}, 500), ({"code": "x", "type": "timeout"}, 408),
        ({"code": 1, "status": 503, "type": "timeout"}, 503), ({"message": "m", "status_code": 404}, 404), ({"message": "m", "status": "UNAVAILABLE"}, 503), ({"message": "m"}, 500),
    ],
)  # fmt: skip
def test_status_is_the_first_that_the_error_names(error, status):
    assert carried({"error": error}) == (status, str(error.get("message") or error))
    assert carried({"errors": "m", **error}) == (status, error.get("message") or "m")


@pytest.mark.parametrize(
    "error", [None, "", {}, {"code": None}, {"message": ""}, {"type": "x"}, [], ["x"], 5]
)
def test_what_names_no_error_is_none(error):
    check_body({"error": error, "choices": [{"message": {}}]})


def test_error_beside_an_answer_is_kept_whole():
    for error, body in ((ERROR, {"error": ERROR}), ("busy", {"error": {"message": "busy"}})):
        with pytest.raises(CarriedError) as caught:
            check_body({"error": error, "choices": [{"message": {}}]})
        assert (str(caught.value), caught.value.body) == ("busy", body)
    for choices in ([5], [{"message": None}], [{"message": {}}, {"text": "x"}]):
        assert carried({"choices": choices}) == (500, "the provider sent a choice without a message")
    assert carried({"choices": {"message": {}}}) == (500, "the provider sent a reply without choices")
