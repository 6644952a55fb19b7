"""What providers say in their headers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_ray.core.retry_after import RateLimitHeaders, parse_rate_limit_headers

NOON = 1_800_000_000.0  # Fri, 15 Jan 2027 08:00:00 GMT


@pytest.mark.parametrize(
    ("headers", "facts"),
    [
        ({}, None),
        ({"content-type": "application/json"}, None),
        ({"retry-after": "7"}, RateLimitHeaders({}, None, 7.0)),
        ({"Retry-After": "0.5"}, RateLimitHeaders({}, None, 0.5)),
        ({"retry-after-ms": "250", "retry-after": "1"}, RateLimitHeaders({}, None, 0.25)),
        ({"retry-after": "Fri, 15 Jan 2027 08:00:30 GMT"}, RateLimitHeaders({}, None, 30.0)),
        ({"retry-after": "Fri, 15 Jan 2027 07:00:30 GMT"}, RateLimitHeaders({}, None, 0.0)),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "-3"}, None),
        ({"llm_provider-x-ratelimit-limit-requests": "500"}, RateLimitHeaders({"requests": 500.0})),
        (
            {
                "x-ratelimit-limit-requests": "500",
                "x-ratelimit-limit-tokens": "200000",
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-requests": "120ms",
                "x-ratelimit-reset-tokens": "6m0s",
            },
            RateLimitHeaders({"requests": 500.0, "tokens": 200000.0}, "tokens"),
        ),
        (
            {
                "anthropic-ratelimit-input-tokens-limit": "50000",
                "anthropic-ratelimit-output-tokens-limit": "10000",
                "anthropic-ratelimit-output-tokens-remaining": "0",
                "anthropic-ratelimit-output-tokens-reset": "2027-01-15T08:00:09Z",
                "retry-after": "9",
            },
            RateLimitHeaders({"input_tokens": 50000.0, "output_tokens": 10000.0}, "output_tokens", 9.0),
        ),
        ({"x-ratelimit-limit-requests": "unlimited"}, None),
        ({"x-ratelimit-limit-requests": "0"}, None),
    ],
)
def test_headers_are_read(headers, facts):
    assert parse_rate_limit_headers(headers, NOON) == facts


@given(st.dictionaries(st.sampled_from(
    ["retry-after", "retry-after-ms", "x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens",
     "x-ratelimit-reset-tokens", "anthropic-ratelimit-requests-reset"]), st.text(max_size=30)))  # fmt: skip
def test_no_header_breaks_the_reader(headers):
    facts = parse_rate_limit_headers(headers, NOON)
    assert facts is None or facts.retry_after_s is None or facts.retry_after_s >= 0
