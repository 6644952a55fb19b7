"""How long a provider that refused a request asks to wait."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_ray.core.retry_after import MAX_WAIT_S, retry_after_s

NOON = 1_800_000_000.0  # Fri, 15 Jan 2027 08:00:00 GMT


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"Retry-After": "600"}, 600.0),
        ({"retry-after": "2m"}, 120.0),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after-ms": "nan", "retry-after": "4"}, 4.0),
        ({"llm_provider-retry-after": "3"}, 3.0),
        ({"retry-after": "Fri, 15 Jan 2027 08:00:30 GMT"}, 30.0),
        ({"retry-after": "1800000030"}, 30.0),
        ({"retry-after": "1800000030000"}, 30.0),
        ({"retry-after": "1e300"}, MAX_WAIT_S),
        ({"retry-after": "86401"}, 86_400.0),
        ({"retry-after": "999999999"}, 86_400.0),
        ({"retry-after": "1000000000"}, None),
        ({"retry-after": "999999999999"}, 86_400.0),
        ({"retry-after": "1000000000000"}, None),
        ({"retry-after": "1 day"}, 86_400.0),
        ({"retry-after": "0.5 days, 1 hr and 2 mins"}, 46_920.0),
        ({"retry-after": "3 secs 5 msecs"}, 3.005),
        *(
            ({"retry-after": text}, None)
            for text in ("0", "-1", "nan", "inf", "-inf", "soon", "1" * 400, "Thu, 14 Jan 2027 08:00:00 GMT", "Fri, 32 Jan 9")
        ),
        ({"x-ratelimit-reset-requests": "1s", "x-ratelimit-reset-tokens": "6m0s"}, 1.0),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s", "x-ratelimit-reset-requests": "1s"}, 360.0),
        ({"anthropic-ratelimit-tokens-reset": "2027-01-15T08:00:09Z"}, 9.0),
        ({"x-ratelimit-reset": "1800000005000"}, 5.0),
        ({"ratelimit-reset": "12"}, 12.0),
        ({}, None),
    ],
)  # fmt: skip
def test_the_wait_is_read_from_headers(headers, seconds):
    assert retry_after_s(headers, "", NOON) == seconds


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        ('{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "38.6s"}', 38.6),
        (r"{\"retryDelay\": \"38s\"}", 38.0),
        ("{'retryDelay': {'seconds': 38}}", 38.0),
        ('{"retry_after": 12}', 12.0),
        ('{"retry_after_ms": 850}', 0.85),
        ("Please retry in 38.6 s", 38.6),
        ("Please retry in 38.634s.", 38.634),
        ("Rate limit reached. Please try again in 7m30s.", 450.0),
        ("try again in 1h2m", 3720.0),
        ("try again in 850ms.", 0.85),
        ("Please try again in 6m0s. Visit our site", 360.0),
        ("Try again in 1 minute and 5 seconds", 65.0),
        ("Try again in about 5 min", 300.0),
        ("Please retry after 26 seconds.", 26.0),
        ("Please wait 20 seconds before the next request", 20.0),
        ("The limit resets in 2 hours", 7200.0),
        ("try again in 999999999999 days", MAX_WAIT_S),
        ("please try again later", None),
        ("the limit is 38.6 s of audio a minute", None),
        ("retryDelay: nan", None),
    ],
)
def test_the_wait_is_read_from_the_body_of_a_refusal(body, seconds):
    assert retry_after_s({}, body, NOON) == seconds


def test_a_header_is_surer_than_the_body():
    assert retry_after_s({"retry-after": "2"}, "try again in 9s", NOON) == 2.0


@given(st.text(max_size=40), st.text(max_size=200))
def test_whatever_is_sent_the_wait_is_finite_and_above_zero(header, body):
    seconds = retry_after_s(
        {"retry-after": header, "x-ratelimit-reset": body[:20]}, f"try again in {body}", NOON
    )
    assert seconds is None or (math.isfinite(seconds) and 0 < seconds <= MAX_WAIT_S)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"anthropic-ratelimit-tokens-reset": "2027-01-15T08:00:09"}, 9.0),  # without a zone it is UTC
        ({"anthropic-ratelimit-tokens-reset": "2027-01-15T09:00:09+01:00"}, 9.0),
        ({"anthropic-ratelimit-tokens-reset": "2027-01-15T08:00:09-00:30"}, 1809.0),
        ({"retry-after": "Fri, 15 Jan 2027 09:00:30 +0100"}, 30.0),
    ],
)
def test_moment_is_read_in_its_zone(headers, seconds):
    assert retry_after_s(headers, "", NOON) == seconds


@pytest.mark.parametrize(("chars", "seconds"), [(20_000, 5.0), (20_001, None)])
def test_twenty_thousand_characters_of_a_body_are_read(chars, seconds):
    assert retry_after_s({}, "try again in 5s".rjust(chars), NOON) == seconds
