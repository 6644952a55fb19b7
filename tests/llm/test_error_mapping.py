"""What litellm raises, and which error of ours it is: by the provider's answer first, by litellm's class last."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace

import aiohttp
import httpx
import pytest

from rlm_ray.errors import (
    AuthenticationError,
    ConfigError,
    ContextWindowError,
    ModelError,
    QuotaError,
    TransientModelError,
)
from rlm_ray.llm.litellm_errors import Called, map_error, missing_keys, to_error
from rlm_ray.llm.provider_error import ProviderError


class OddError(Exception):
    """An exception with the attributes that it is given."""

    def __init__(self, said="odd", /, **facts):
        super().__init__(said)
        vars(self).update(facts)


CLASSES = ("Timeout", "APIConnectionError", "ContextWindowExceededError", "ContentPolicyViolationError", "AuthenticationError")  # fmt: skip
LITELLM = SimpleNamespace(
    **{name: type(name, (OddError,), {}) for name in CLASSES},
    exceptions=SimpleNamespace(LiteLLMUnknownProvider=type("LiteLLMUnknownProvider", (OddError,), {})),
    validate_environment=lambda model: {"missing_keys": [f"{model.upper()}_KEY"]},
)
KEY = {"api_key": "k"}


def chain(*errors):
    """Return the first error, caused by the second, caused by the third ..."""
    for error, cause in pairwise(errors):
        error.__cause__ = cause
    return errors[0]


def response(status=400, text="", headers=None, *, is_closed=True):
    return SimpleNamespace(status_code=status, text=text, headers=headers or {}, is_closed=is_closed)


def facts(error, model="m", params=KEY):
    found = map_error(LITELLM, error, model, params)
    return type(found), getattr(found, "kind", None), getattr(found, "status", None)


@pytest.mark.parametrize(
    ("error", "model", "text"),
    [
        (OddError("LLM Provider NOT provided. Pass it"), "m", "model: litellm knows no provider for 'm'; write it as provider/name, such as openai/m"),
        (LITELLM.exceptions.LiteLLMUnknownProvider(), "a/m", "model: litellm knows no provider for 'a/m'; write it as provider/name"),
    ],
)  # fmt: skip
def test_name_without_a_known_provider_is_a_wrong_setting(error, model, text):
    found = map_error(LITELLM, error, model, KEY)
    assert (type(found), str(found)) == (ConfigError, text)


LOST = [
    ConnectionError(), ConnectionResetError(), BrokenPipeError(), httpx.ConnectError(""), httpx.ReadError(""), httpx.WriteError(""), httpx.CloseError(""), httpx.NetworkError(""), httpx.RemoteProtocolError(""), httpx.LocalProtocolError(""),
    aiohttp.ClientConnectionError(), aiohttp.ClientOSError(), aiohttp.ServerDisconnectedError(), aiohttp.ClientPayloadError(), type("ReadError", (Exception,), {"__module__": "httpcore._x"})(),
]  # fmt: skip
NOT_LOST = [
    httpx.DecodingError(""), httpx.InvalidURL(""), aiohttp.InvalidURL("x"), ValueError(), OSError(), type("ReadError", (Exception,), {"__module__": "another.httpx"})(),
    type("ClientOSError", (Exception,), {"__module__": "httpx"})(), type("ReadError", (Exception,), {"__module__": "aiohttp"})(),
]  # fmt: skip
LATE = [TimeoutError(), httpx.ReadTimeout(""), aiohttp.ServerTimeoutError(), type("APITimeoutError", (Exception,), {})(), LITELLM.Timeout()]  # fmt: skip


@pytest.mark.parametrize(("causes", "kind"), [(LOST, "connection"), (NOT_LOST, None), (LATE, "timeout")])
def test_what_happened_on_the_way_decides_where_nothing_was_answered(causes, kind):
    expected = (ModelError if kind is None else TransientModelError, kind, None)
    for cause in causes:
        assert facts(cause) == facts(chain(OddError(), OddError(), cause)) == expected, cause


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (LITELLM.APIConnectionError, (TransientModelError, "connection", None)), (lambda: chain(OddError(), LITELLM.APIConnectionError()), (ModelError, None, None)),
        (lambda: LITELLM.APIConnectionError(response=response(429, "{}")), (TransientModelError, "rate_limited", 429)),
        (lambda: chain(LITELLM.APIConnectionError(), OddError(response=response(404, "no"))), (TransientModelError, "no_model_yet", 404)),
        (lambda: chain(OddError(response=response(503, "busy")), ConnectionError()), (TransientModelError, "server_error", 503)),
        (lambda: chain(LITELLM.APIConnectionError(), OddError(response=response(503, "", {"a": "b"}))), (TransientModelError, "server_error", 503)),
        (lambda: chain(LITELLM.APIConnectionError(), OddError(response=response(503, "", {"a": "b"}, is_closed=False))), (TransientModelError, "connection", None)),
        (lambda: chain(LITELLM.APIConnectionError(), OddError(response=response(503))), (TransientModelError, "connection", None)),
        (lambda: LITELLM.Timeout(response=response(429, "{}")), (TransientModelError, "timeout", 429)),
        (LITELLM.ContextWindowExceededError, (ContextWindowError, None, None)), (lambda: LITELLM.ContextWindowExceededError(response=response(500, "odd")), (ContextWindowError, None, 500)),
        (lambda: LITELLM.ContextWindowExceededError(response=response(429, "slow")), (TransientModelError, "rate_limited", 429)), (lambda: LITELLM.ContentPolicyViolationError(status_code=400), (ModelError, None, 400)),
        (lambda: LITELLM.AuthenticationError(status_code=400), (AuthenticationError, None, 400)), (lambda: LITELLM.AuthenticationError(response=response(400, "odd")), (ModelError, None, 400)),
        (lambda: chain(OddError(), LITELLM.AuthenticationError()), (ModelError, None, None)), (lambda: LITELLM.AuthenticationError(status_code=402), (QuotaError, None, 402)),
    ],
)  # fmt: skip
def test_answer_of_the_provider_decides_before_the_class(error, expected):
    assert facts(error()) == expected


def test_refusal_by_a_filter_says_so():
    error = map_error(LITELLM, LITELLM.ContentPolicyViolationError("no"), "m", KEY)
    assert str(error) == "m: the provider's content filter refused the request (no)"


@pytest.mark.parametrize(
    ("errors", "status"),
    [
        ([OddError()], None), ([OddError(status_code=500)], 500), ([OddError(status_code=500), OddError(status_code=429)], 429), ([OddError(status_code=500), OddError(status_code=None)], 500), ([OddError(status_code=429), OddError(status_code="500")], 429),
        ([OddError(status_code=429, response=response(503, "x"))], 503), ([OddError(status_code=429, response=response(None, "x"))], 429), ([OddError(status_code=429, response=response(True, "x"))], 429), ([OddError(response=response(503))], None),
        ([OddError(response=response(503, "x")), OddError(response=response(429, "x"))], 429), ([OddError(status_code=100)], 100), ([OddError(status_code=99)], None), ([OddError(status_code=599)], 599), ([OddError(status_code=600)], None), ([OddError(status_code=True)], None),
    ],
)  # fmt: skip
def test_status_is_the_one_that_came_over_the_wire(errors, status):
    assert facts(chain(*errors))[2] == status


class Unread:
    """A response whose text cannot be read."""

    status_code, headers, is_closed = 429, {"retry-after": "7"}, True

    @property
    def text(self):
        raise httpx.ResponseNotRead


@pytest.mark.parametrize(
    ("errors", "said"),
    [
        ([OddError("a")], "a"), ([OddError("a", message="b")], "b"), ([OddError("a", body={"message": "b"})], "b"), ([OddError("a", body={"message": "b"}), OddError(body={"message": "c"})], "c"), ([OddError("a", body={"message": "b"}), OddError(body=None)], "b"),
        ([OddError("a", body={"message": "b"}, response=response(400, '{"message": "d"}'))], "d"), ([OddError("a", response=Unread())], "a"), ([OddError("a", response=None)], "a"),
        ([OddError("litellm.BadRequestError: OpenAIException - a\n  b")], "a b"), ([OddError("litellm.Timeout: a")], "a"), ([OddError("Error: a")], "a"), ([OddError("MyError:a")], "a"), ([OddError("MyErrors: a")], "MyErrors: a"), ([OddError("litellm.MyError: ")], "OddError"), ([OddError("")], "OddError"),
        ([OddError("a: litellm.MyError: b")], "a: litellm.MyError: b"), ([OddError("x" * 400)], "x" * 300),
    ],
)  # fmt: skip
def test_sentence_is_the_providers_own(errors, said):
    assert str(map_error(LITELLM, chain(*errors), "m", KEY)).endswith(f" ({said})")


@pytest.mark.parametrize(
    ("errors", "wait_s"),
    [
        ([OddError(response=response(429, "x", {"Retry-After": "7"}))], 7), ([OddError(litellm_response_headers={"retry-after": "7"})], 7), ([OddError(headers={"retry-after": "7"})], 7), ([OddError(headers="retry-after: 7")], None), ([OddError(headers={})], None),
        ([OddError(headers={"retry-after": "7"}), OddError(headers={"retry-after": "8"})], 8), ([OddError(headers={"retry-after": "7"}), OddError(headers={})], 7), ([OddError(response=response(429, "x", {"retry-after": "7"}), headers={"retry-after": "8"})], 7),
        ([OddError(litellm_response_headers={"retry-after": "7"}, headers={"retry-after": "8"})], 7), ([OddError(response=Unread())], 7), ([OddError(body={"error": {"retryDelay": "9s"}})], 9), ([OddError("try again in 5s")], 5),
        ([OddError(body={"detail": "no"}, message="try again in 5s")], None),
    ],
)  # fmt: skip
def test_headers_are_those_that_came_over_the_wire(errors, wait_s):
    errors[-1].status_code = 429
    assert map_error(LITELLM, chain(*errors), "m", KEY).retry_after_s == wait_s


def test_causes_are_looked_at_ten_errors_deep_and_down_to_an_error_of_ours():
    assert facts(chain(*(OddError() for _ in range(9)), ConnectionError()))[1] == "connection"
    assert facts(chain(*(OddError() for _ in range(10)), ConnectionError()))[1] is None
    assert facts(chain(OddError(), QuotaError("m", "empty", 402), ConnectionError())) == (
        ModelError,
        None,
        None,
    )
    error, cause = OddError(), OddError()
    error.__context__ = ConnectionError()
    assert facts(error)[1] == "connection"
    assert facts(chain(error, cause))[1] is None


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({}, "m: the provider wants a key; set M_KEY or pass api_key (odd)"), ({"api_key": ""}, "m: the provider wants a key; set M_KEY or pass api_key (odd)"), (KEY, "m: the provider refused the key; check it (odd)"),
    ],
)  # fmt: skip
def test_key_that_is_missing_is_named_unless_one_was_given(params, text):
    assert str(map_error(LITELLM, OddError(status_code=401), "m", params)) == text


def test_no_key_is_missing_where_litellm_does_not_know_the_model():
    assert missing_keys(LITELLM, "m") == ["M_KEY"]
    assert missing_keys(SimpleNamespace(), "m") == []


@pytest.mark.parametrize(
    ("params", "place"), [({}, "the provider"), ({"api_base": "http://h"}, "http://h"), ({"api_base": None}, "the provider")]
)  # fmt: skip
def test_address_that_cannot_be_reached_is_named(params, place):
    error = map_error(LITELLM, ConnectionError("refused"), "m", {**KEY, **params})
    assert str(error) == f"m: cannot reach {place}; check api_base and the network (refused)"


@pytest.mark.parametrize(
    ("kind", "of_ours", "text"),
    [
        ("window", ContextWindowError, "m: the prompt is longer than the model's window; pass smaller pieces, or use a model with a larger window (no)"),
        ("rate_window", ContextWindowError, "m: one request is more than the account may send in that time; pass smaller pieces, or raise its rate (no)"),
        ("output_limit", ModelError, "m: max_tokens is more than the model can write here; lower it (no)"), ("quota", QuotaError, "m: the account has nothing left to spend; raise its quota or credit (no)"),
        ("content_filter", ModelError, "m: the provider's content filter refused the request (no)"), ("rejected", ModelError, "m: the provider refused the request (no)"), ("rate_limited", TransientModelError, "m: rate limited (no)"),
        ("timeout", TransientModelError, "m: no answer in time (no)"), ("loading", TransientModelError, "m: the model is still loading (no)"), ("no_model_yet", TransientModelError, "m: the provider does not know 'm' now; check the name and api_base (no)"),
        ("server_error", TransientModelError, "m: the provider failed (no)"), ("connection", TransientModelError, "m: cannot reach http://h; check api_base and the network (no)"),
        ("auth", AuthenticationError, "m: the provider wants a key; set A and B or pass api_key (no)"), ("unknown_model", ConfigError, "model: the provider does not know 'm'; check the name and api_base (no)"), (None, QuotaError, "m: the account has nothing left to spend; raise its quota or credit (no)"),
    ],
)  # fmt: skip
def test_each_kind_has_a_class_and_a_sentence_that_says_what_to_do(kind, of_ours, text):
    error = to_error(ProviderError(402, "no", headers={"a": "b"}), Called("m", "http://h", ("A", "B")), kind)
    assert (type(error), str(error), getattr(error, "status", 402)) == (of_ours, text, 402)
    if of_ours is TransientModelError:
        assert (error.kind, error.headers, error.retry_after_s) == (kind, {"a": "b"}, None)


@pytest.mark.parametrize(
    ("status", "message", "said"),
    [(503, "", "HTTP status 503"), (None, "", "no reason given"), (503, "x" * 301, "x" * 300), (503, "x" * 300, "x" * 300)],
)  # fmt: skip
def test_sentence_of_the_provider_has_300_characters_or_is_its_status(status, message, said):
    assert str(to_error(ProviderError(status, message), Called("m"), "rejected")).endswith(f" ({said})")
