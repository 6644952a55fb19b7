"""The table of failures at its edges: statuses alone, limits in sentences, what is quoted."""

from __future__ import annotations

import pytest

from rlm_ray.llm.provider_error import ProviderError
from rlm_ray.llm.provider_rules import Rule, kind_of


def kind(status=None, message="", codes=()):
    return kind_of(ProviderError(status=status, message=message, codes=frozenset(codes)))


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (None, "rejected"), (200, "rejected"), (399, "rejected"), (400, "rejected"), (401, "auth"), (402, "quota"), (403, "auth"), (404, "no_model_yet"),
        (405, "rejected"), (408, "timeout"), (409, "rejected"), (413, "window"), (422, "rejected"), (424, "rejected"), (425, "server_error"), (429, "rate_limited"),
        (499, "rejected"), (500, "server_error"), (503, "server_error"), (529, "server_error"), (599, "server_error"), (600, "rejected"),
    ],
)  # fmt: skip
def test_kind_of_a_status_that_says_nothing_else(status, expected):
    assert kind(status) == kind(status, "Something went wrong.") == expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("Limit: 1,000, Used: 5, Requested: 1,001 tokens per minute", "rate_window"), ("Limit 1000, Used 990, Requested 1000 tokens per minute", "rate_limited"),
        ("Limit 1000, Requested 2000 tokens per day", "rate_window"), ("Limit 1000, Used 990, Requested 1000 tokens per day", "quota"),
        ("limit: 0 requests", "quota"), ("limit: 05 requests", "rate_limited"), ("slow down, retry in 5s", "rate_limited"),
    ],
)  # fmt: skip
def test_waiting_helps_against_a_limit_per_minute_only(said, expected):
    assert kind(429, said) == expected


@pytest.mark.parametrize("status", [None, 400, 422, 424, 500])
@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("99 + 50 > 100", "output_limit"), ("100 + 50 > 100", "window"), ("150 + 1 > 100", "window"),
        ("maximum context length is 1,000 tokens; 999 in the messages, 50 in the completion", "output_limit"),
        ("maximum context length is 1,000 tokens; 1,000 in the messages, 50 in the completion", "window"), ("maximum context length is 1000 tokens", "window"),
    ],
)  # fmt: skip
def test_input_that_fits_leaves_the_reply_to_be_shortened(status, said, expected):
    assert kind(status, said) == expected


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("The prompt is too long for it.", "window"), ("bad value 'the prompt is too long for it' given", "rejected"), ("bad value `the prompt is too long` here", "rejected"),
        ("x" * 3_900 + " prompt is too long", "window"), ("x" * 4_000 + " prompt is too long", "rejected"),
        ("prompt is too long".rjust(4_000), "window"), ("prompt is too long".rjust(4_001), "rejected"), ('"the prompt is too long', "window"), ("it's too long a prompt, and prompt is too long; isn't it", "window"),
    ],
)  # fmt: skip
def test_what_an_error_quotes_and_what_stands_far_behind_says_nothing(message, expected):
    assert kind(400, message) == expected


@pytest.mark.parametrize(
    ("status", "codes", "expected"),
    [
        (400, ["context_length_exceeded"], "window"), (500, ["x", "context_length_exceeded"], "window"), (400, ["not_context_length_exceeded"], "rejected"),
        (400, ["content_filter"], "content_filter"), (500, ["content_filter"], "server_error"), (500, ["insufficient_quota"], "quota"),
        (429, ["tokens_per_day"], "quota"), (429, ["tokens_per_minute"], "rate_limited"), (400, ["throttlingexception"], "rate_limited"), (500, ["throttlingexception"], "server_error"),
        (None, ["overloaded_error"], "rate_limited"), (200, ["overloaded_error"], "server_error"), (400, ["model_not_found"], "unknown_model"), (500, ["model_not_found"], "server_error"),
        (400, ["invalid_api_key"], "auth"), (500, ["invalid_api_key"], "server_error"), (None, ["api_error"], "server_error"), (400, ["api_error"], "rejected"),
    ],
)  # fmt: skip
def test_codes_decide_as_a_whole_and_with_their_statuses(status, codes, expected):
    assert kind(status, "", codes) == expected


@pytest.mark.parametrize(
    ("status", "said", "expected"),
    [
        (503, "Model is loading", "loading"), (400, "model is loading", "loading"), (429, "model is loading", "rate_limited"), (401, "out of credits", "quota"),
        (404, "out of credits", "no_model_yet"), (400, "flagged by our safety system", "content_filter"), (500, "flagged by our safety system", "server_error"),
        (400, "Invalid API key", "auth"), (500, "Invalid API key", "auth"), (503, "Invalid API key", "server_error"), (None, "Missing credentials", "auth"),
        (400, "max_tokens is too large", "output_limit"), (503, "max_tokens is too large", "server_error"), (400, "Too many requests, please wait", "rate_limited"),
    ],
)  # fmt: skip
def test_words_decide_where_the_status_leaves_it_open(status, said, expected):
    assert kind(status, said) == expected


CLIENT, SERVER, OPEN = {*range(400, 500)}, {*range(500, 600)}, {None, 400, 422, 424, 500}


@pytest.mark.parametrize(
    ("expected", "said", "codes", "statuses"),
    [
        ("loading", "model is loading", "", {*SERVER, 400, 404, 409, 424, 425}), ("quota", "out of credits", "", {400, 401, 402, 403, 412, 429}),
        ("content_filter", "flagged by our safety system", "", {400, 403, 422}), ("auth", "missing credentials", "", {None, 400, 401, 403, 500}),
        ("output_limit", "max_tokens is too large", "", OPEN), ("output_limit", "99 + 50 > 100", "", OPEN), ("window", "100 + 50 > 100", "", OPEN | {413}),
        ("window", "the prompt is too long", "", OPEN | {413}), ("rate_limited", "too many tokens, please wait", "", OPEN | {429}),
        ("quota", "limit: 0, per minute", "", {402, 429}), ("rate_limited", "100 per minute and 1000 per day", "", {429}), ("quota", "1000 per day; please wait", "", {402, 429}),
        ("rate_limited", "out of credits; please wait", "", {429}), ("rate_limited", "out of credits; retry in 5 s", "", {429}), ("rate_limited", "out of credits: 5 per second", "", {429}),
        ("quota", "5 per second", "tokens_per_day", {402, 429}), ("rate_limited", "5 per day", "tokens_per_minute", {429}), ("quota", "limit: 0", "tokens_per_minute", {402, 429}),
        ("quota", "", "insufficient_quota", {None, 200, *range(399, 601)}), ("window", "", "context_length_exceeded", {None, 200, *range(399, 601)}),
        ("content_filter", "", "content_filter", CLIENT), ("quota", "5 per day", "throttling", CLIENT), ("rate_limited", "", "throttlingexception", CLIENT - {402}), ("auth", "", "invalid_api_key", CLIENT - {402, 413, 429}),
        ("unknown_model", "", "model_not_found", CLIENT - {401, 402, 403, 413, 429}), ("rate_limited", "", "engine_overloaded_error", {None, 429}),
        ("server_error", "", "api_error", {None, 200, 425, *SERVER}), ("rate_window", "limit: 5, requested: 6 per minute", "", {None, 200, *range(399, 601)}),
    ],
)  # fmt: skip
def test_statuses_at_which_words_and_codes_are_of_a_kind(expected, said, codes, statuses):
    found = {
        status for status in (None, 200, *range(399, 601)) if kind(status, said, {codes} - {""}) == expected
    }
    assert found == statuses


@pytest.mark.parametrize(
    ("statuses", "codes", "words", "test", "holds"),
    [
        (None, "", "", None, True), ({400}, "a|bc", "w", lambda *_: True, True), ({None, 401}, "", "", None, False), (set(), "", "", None, False), (None, "b", "", None, False), (None, "bc", "", None, True),
        (None, "x|y", "", None, True), (None, "", "no", None, False), (None, "", "WOR", None, True), (None, "", "", lambda *_: False, False), (None, "", "", lambda error, said: (error.status, said) == (400, "words"), True),
        ({400}, "bc", "no", None, False), ({400}, "no", "words", lambda *_: True, False),
    ],
)  # fmt: skip
def test_rule_holds_where_all_that_it_names_does(statuses, codes, words, test, holds):
    rule = Rule("quota", None if statuses is None else frozenset(statuses), codes, words, test)
    assert rule.holds(ProviderError(400, "other", frozenset({"bc", "y"})), "words") is holds


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("per minute: limit 1000, requested 1001", "rate_window"), ("per minute: Limit: 1,000, used 5, Requested: 1,000", "rejected"), ("per minute: limit 1000, " + "x" * 79 + "requested 2000", "rate_window"),
        ("per minute: limit 1000, " + "x" * 80 + "requested 2000", "rejected"), ("limit 1000, requested 2000", "rejected"), ("per minute: limit 9, requested 10", "rate_window"),
        ("maximum context length is 1,000; 1,001 input tokens", "window"), ("must be <= 1000 tokens; 999 `inputs` tokens", "output_limit"), ("must be <= 1000; 1000 prompt tokens", "window"),
        ("maximum context length is 9; 10 tokens of text input", "window"), ("maximum context length is 10; 9 of text input", "output_limit"), ("9 input tokens", "rejected"),
    ],
)  # fmt: skip
def test_numbers_of_a_sentence_are_compared(said, expected):
    assert kind(400, said) == expected
