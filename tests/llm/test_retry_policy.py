"""Which failed attempt is made again, after how long, and with which error a call ends."""

from __future__ import annotations

import pytest

from rlm_ray.admission.protocol import AttemptOutcome
from rlm_ray.errors import (
    AuthenticationError,
    ConfigError,
    JournalError,
    ModelError,
    ModelUnavailableError,
    QuotaError,
    ReplyError,
    TransientModelError,
)
from rlm_ray.llm.retry_policy import RetryPolicy, outcome_of


def failed(kind="server_error", status=None, retry_after_s=None):
    return TransientModelError("m", "it is down", status, kind, retry_after_s)


def waits(error, attempts=6, *, has_answered=False, jitter=1.0):
    """Return the waits before further attempts, and the error that ends them."""
    policy = RetryPolicy(lambda: jitter)
    if has_answered:
        policy.on_answer("account")
    retries, found = policy.start("account", attempts), []
    while len(found) < 1_000:
        try:
            found.append(retries.wait_s(error))
        except (ModelUnavailableError, ConfigError) as end:
            assert retries.attempt == len(found) + 1
            return found, end
    raise AssertionError("it never ends")


@pytest.mark.parametrize(
    ("error", "attempts", "has_answered", "tries"),
    [
        (failed(), 6, False, 6), (failed(), 6, True, 6), (failed(), 1, False, 1), (failed("timeout"), 3, True, 3), (failed("rate_limited", 429), 6, False, 60),
        (failed("rate_limited", 429), 1, True, 10), (failed("connection"), 6, False, 6), (failed("connection"), 6, True, 18), (failed(status=503), 6, False, 6),
        (failed(status=502), 2, True, 6), (failed(status=503), 6, True, 18), (failed(status=529), 1, True, 3), (failed(status=504), 2, True, 2),
        (failed("loading"), 2, False, 6), (failed("no_model_yet"), 6, True, 4), (failed("no_model_yet"), 8, True, 4), (failed("no_model_yet"), 2, True, 2),
        (failed("no_model_yet"), 5, True, 4),
    ],
)  # fmt: skip
def test_attempts_of_a_call_depend_on_what_failed(error, attempts, has_answered, tries):
    found, end = waits(error, attempts, has_answered=has_answered)
    assert len(found) + 1 == tries
    word = "1 attempt" if tries == 1 else f"{tries} attempts"
    assert (end.why, end.model, end.status) == (f"it is down; gave up after {word}", "m", error.status)


def test_failures_of_several_kinds_use_up_one_patience():
    """Of one attempt a provider that is down takes a third, and a 429 a tenth."""
    retries = RetryPolicy(lambda: 0.0).start("account", 1)
    for kind in ("loading", "loading", *["rate_limited"] * 3):
        retries.wait_s(failed(kind))
    with pytest.raises(ModelUnavailableError, match="gave up after 6 attempts"):
        retries.wait_s(failed("rate_limited"))


def test_wait_doubles_from_half_a_second_to_half_a_minute():
    found, _ = waits(failed(), 9)
    assert found == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert waits(failed(), 4, jitter=0.5)[0] == [0.25, 0.5, 1.0]
    assert waits(failed(), 3, jitter=0.0)[0] == [0.0, 0.0]


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (failed(retry_after_s=2.0), [2.2, 2.2]), (failed(retry_after_s=0.0), [0.0, 0.0]), (failed(retry_after_s=600.0), [660.0, 660.0]),
        (failed("rate_limited", 429, 7200.0), [0.0] * 29), (failed("rate_limited", 429, 1.0), [0.0] * 29),
    ],
)  # fmt: skip
def test_wait_that_a_provider_asks_for_is_kept_a_little_longer(error, found):
    assert waits(error, 3)[0] == pytest.approx(found)


def test_provider_that_asks_to_wait_for_more_than_ten_minutes_ends_the_call():
    found, end = waits(failed(retry_after_s=660.0), 6)
    assert found == []
    assert end.why == "it is down; gave up after 1 attempt, for the provider asks to wait 11 minutes"


def test_model_that_no_call_was_answered_by_is_a_wrong_setting():
    _, end = waits(failed("no_model_yet"), 2)
    assert isinstance(end, ConfigError)
    assert (end.what, end.why) == ("model", "it is down")
    _, end = waits(failed("no_model_yet"), 2, has_answered=True)
    assert isinstance(end, ModelUnavailableError)


def test_reply_that_is_no_answer_is_asked_for_once_more():
    retries = RetryPolicy(lambda: 0.0).start("account", 3)
    assert retries.may_ask_again(ReplyError("m", "empty", may_pass=False)) is False
    assert retries.attempt == 1
    assert retries.may_ask_again(ReplyError("m", "empty", may_pass=True)) is True
    assert retries.attempt == 2
    assert retries.may_ask_again(ReplyError("m", "empty", may_pass=True)) is False


@pytest.mark.parametrize(
    ("error", "has_answered", "is_of_one_call"),
    [
        (AuthenticationError("m", "no access", 403), True, True),
        (AuthenticationError("m", "no access", 403), False, False),
        (AuthenticationError("m", "wrong key", 401), True, False),
        (ConfigError("model", "no such model"), True, True),
        (ConfigError("model", "no such model"), False, False),
        (ModelError("m", "odd", 403), True, False),
    ],
)
def test_refusal_of_one_call_fails_that_call_only(error, has_answered, is_of_one_call):
    policy = RetryPolicy(lambda: 0.0)
    if has_answered:
        policy.on_answer("account")
    found = policy.error_of_attempt(error, "m", "account")
    assert (found is error) is not is_of_one_call
    if is_of_one_call:
        assert (type(found), found.why, found.status) == (
            ModelError,
            error.why,
            getattr(error, "status", None),
        )


def test_eighth_refusal_in_a_row_is_about_all_calls():
    policy, error = RetryPolicy(lambda: 0.0), AuthenticationError("m", "no access", 403)
    policy.on_answer("account")
    kinds = [policy.error_of_attempt(error, "m", "account") is error for _ in range(8)]
    assert kinds == [False] * 7 + [True]
    assert policy.error_of_attempt(error, "m", "another") is error


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (failed("rate_limited", 429), AttemptOutcome.RATE_LIMITED), (failed(), AttemptOutcome.SERVER_ERROR), (failed("timeout"), AttemptOutcome.TIMEOUT),
        (failed("connection"), AttemptOutcome.UNKNOWN), (failed("loading"), AttemptOutcome.SERVER_ERROR), (failed("no_model_yet"), AttemptOutcome.REJECTED),
        (QuotaError("m", "empty"), AttemptOutcome.QUOTA_EXHAUSTED), (JournalError("run", "full"), AttemptOutcome.NOT_SENT), (ModelError("m", "x"), AttemptOutcome.REJECTED),
        (ConfigError("model", "x"), AttemptOutcome.REJECTED),
    ],
)  # fmt: skip
def test_attempt_is_settled_by_its_error(error, outcome):
    assert outcome_of(error) is outcome
