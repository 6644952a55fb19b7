"""Errors keep their facts on the way between processes."""

from __future__ import annotations

import pickle

import pytest

from rlm_ray import errors

ERRORS = [
    errors.InputError("query", "is empty; ask a question"),
    errors.ActorLostError("the actor ..."),
    errors.ContextLostError("the object store ..."),
    errors.RemoteCallError("a call of usage failed: ..."),
    errors.VersionMismatchError("the cluster runs ..."),
    errors.JournalError("20260101-000000-abc", "cannot be written: ..."),
    errors.ConfigError("max_depth", "must be ..."),
    errors.ModelError("m", "no", 400),
    errors.AuthenticationError("m", "no key"),
    errors.ContextWindowError("m", "too long", 400),
    errors.QuotaError("m", "empty", 429),
    errors.ReplyError("m", "empty", None, "empty", True),
    errors.TransientModelError("m", "slow down", 429, "rate_limited", 1.5, {"retry-after": "1.5"}),
    errors.ModelUnavailableError("m", "gave up", 503),
    errors.SandboxError("no seccomp"),
    errors.ClusterError("gone"),
    errors.LimitReached("cost_usd", "spent", "partial answer"),
    errors.SchemaError("the answer does not match the schema", "partial answer"),
    errors.SubCallError("ModelError", "no"),
    errors.ToolError("weather", "it raised ValueError"),
    errors.CitationError("'words' does not stand in the context"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_survives_pickling_with_its_attributes_and_its_sentence(error):
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert vars(again) == vars(error)
    assert str(again) == str(error)


def test_every_error_is_listed_here():
    classes = {value for value in vars(errors).values() if isinstance(value, type)}
    public = {c for c in classes if issubclass(c, errors.RLMError) and not c.__name__.startswith("_")}
    assert public == {type(error) for error in ERRORS} | {errors.RLMError}
