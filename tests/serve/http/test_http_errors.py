"""Errors of runs and of ours as HTTP statuses."""

from __future__ import annotations

import json

import pytest

from rlm_ray.errors import ClusterError, ConfigError, InputError
from rlm_ray.events.records import RunFinished
from rlm_ray.serve.file_store import PayloadTooLargeError
from rlm_ray.serve.http.errors import error_from_exception, error_from_run_end

END = RunFinished(2.0, "answered", answer="x")


@pytest.mark.parametrize(
    ("end", "status", "code"),
    [
        (END, None, None),
        (RunFinished(1.0, "calls", answer="partial"), None, None),
        (RunFinished(1.0, "tokens", "the limit is reached"), 400, "tokens"),
        (RunFinished(1.0, "error", "x", error_kind="ContextWindowError"), 400, "context_length_exceeded"),
        (RunFinished(1.0, "error", "x", error_kind="AuthenticationError"), 502, "model_error"),
        (RunFinished(1.0, "error", "x", error_kind="ActorLostError"), 503, "unavailable"),
        (RunFinished(1.0, "error", "", error_kind="cancelled"), 400, "cancelled"),
        (RunFinished(1.0, "error", "x", error_kind="ZeroDivisionError"), 500, "ZeroDivisionError"),
    ],
)
def test_a_run_without_an_answer_is_an_error_with_a_status(end, status, code):
    refusal = error_from_run_end(end)
    assert (refusal and refusal.status) == status
    assert (refusal and refusal.error.code) == code


@pytest.mark.parametrize(
    ("error", "status", "retry"),
    [
        (InputError("query", "is empty"), 400, None),
        (ConfigError("model", "is none"), 400, None),
        (PayloadTooLargeError("file", "is too large"), 413, None),
        (ClusterError("no run registry"), 503, "5"),
    ],
)
def test_our_errors_have_a_status_and_say_when_to_come_again(error, status, retry):
    reply = error_from_exception(error).reply()
    assert reply.status_code == status
    assert reply.headers.get("retry-after") == retry
    assert set(json.loads(reply.body)["error"]) == {"message", "type", "param", "code"}
