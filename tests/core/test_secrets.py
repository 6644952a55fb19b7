"""What must never be written down."""

from __future__ import annotations

import json

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rlm_ray.core.secrets import LEAST_CHARS, REDACTED, Scrubber, is_secret, redact, secret_values

KEY = "sk-0123456789"


@pytest.mark.parametrize(
    "name",
    [
        "api_key", "apikey", "API-KEY", "OPENAI_API_KEY", "aws_secret_access_key", "aws_session_token", "Authorization",
        "x-api-key", "password", "db_passwd", "vertex_credentials", "Cookie", "bearer", "hf_token", "signature",
    ],
)  # fmt: skip
def test_names_of_keys(name):
    assert is_secret(name)


@pytest.mark.parametrize(
    "name",
    [
        "max_tokens", "max_completion_tokens", "max_token", "input_tokens", "tokens", "token_limit", "logit_bias",
        "stop_token_ids", "eos_token_id", "model", "temperature", "api_base", "timeout", "",
    ],
)  # fmt: skip
def test_names_of_harmless_things(name):
    assert not is_secret(name)


PARAMS = {
    "api_key": KEY,
    "temperature": 0.5,
    "max_tokens": 100,
    "extra_headers": {"Authorization": f"Bearer {KEY}-2", "X-Title": "mine"},
    "fallbacks": [{"model": "m", "api_key": f"{KEY}-3"}, "plain"],
    "tokens": ["harmless text"],
    "secrets": [f"{KEY}-4", {"inner": "shown"}],
    "password": None,
    "use_password": True,
}


def test_secrets_are_hidden_however_deep_and_nothing_else_is():
    assert redact(PARAMS) == {
        **PARAMS,
        "api_key": REDACTED,
        "extra_headers": {"Authorization": REDACTED, "X-Title": REDACTED},
        "fallbacks": [{"model": "m", "api_key": REDACTED}, "plain"],
        "secrets": [REDACTED, {"inner": "shown"}],
    }


@pytest.mark.parametrize("secret", [b"bytes of a key", ("a tuple",), {"a set"}])
def test_a_secret_of_any_shape_is_hidden(secret):
    assert KEY not in repr(redact({"api_key": secret}))
    assert redact({"api_key": secret}) == {"api_key": REDACTED}


def test_the_values_of_secrets_however_deep_and_without_their_scheme():
    assert secret_values(PARAMS) == {KEY, f"Bearer {KEY}-2", f"{KEY}-2", f"{KEY}-3", f"{KEY}-4"}
    assert "0123456789==" in secret_values({"headers": "x-key=0123456789=="})


@pytest.mark.parametrize("value", ["", "short", "x" * 7, REDACTED, None, 12345678, True])
def test_short_values_and_what_is_no_text_are_no_secrets(value):
    assert secret_values({"api_key": value}) == set()


def line_of(**values):
    return json.dumps({"kind": "call", **values}, ensure_ascii=False).encode() + b"\n"


def test_a_line_without_secrets_is_left_as_it_is():
    line = line_of(text="nothing here", at=1.50)
    assert Scrubber([KEY])(line) is line


def test_a_key_inside_another_key_leaves_nothing_of_either():
    scrub = Scrubber([KEY, KEY + "-and-more"])
    assert json.loads(scrub(line_of(text=f"{KEY}-and-more {KEY}")))["text"] == f"{REDACTED} {REDACTED}"


@pytest.mark.parametrize(
    "secret", ['with"quote-marks', "back\\slash\\key", "new\nline\tkey", "schlüssel-ключ"]
)
def test_a_key_that_json_spells_differently_is_found(secret):
    line = Scrubber([secret])(line_of(text=f"before {secret} after", deep=[{"inner": secret}]))
    assert json.loads(line) == {"kind": "call", "text": "before *** after", "deep": [{"inner": REDACTED}]}


@pytest.mark.parametrize(
    ("secret", "values"),
    [
        ("npm_abcdefgh", {"text": "line\npm_abcdefgh"}),  # the n of the escape is the first letter of the key
        ("00000000", {"at": 1700000000.0, "count": 100000000}),
        ("kind_text", {"kind_text": "a name is no text"}),
    ],
)
def test_what_only_looks_like_a_key_in_the_line_is_left_alone(secret, values):
    assert json.loads(Scrubber([secret])(line_of(**values))) == {"kind": "call", **values}


def test_a_key_with_bytes_that_are_no_text_does_no_harm():
    broken = b"key-\xff-of-the-environment".decode("utf-8", "surrogateescape")
    line = Scrubber([broken, KEY])(line_of(text=KEY))
    assert json.loads(line)["text"] == REDACTED


JSON = st.recursive(
    st.text(max_size=12) | st.integers() | st.none() | st.booleans(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)
SECRET = st.text('ab"\\\nn0é', min_size=LEAST_CHARS, max_size=12)


@settings(deadline=None, max_examples=60)
@given(st.lists(SECRET, min_size=1, max_size=3), JSON, st.data())
def test_scrubbed_lines_are_json_without_any_secret(secrets, value, data):
    told = data.draw(st.sampled_from(secrets))
    assume(all(secret not in REDACTED for secret in secrets))
    line = Scrubber(secrets)(line_of(text=f"x{told}y", value=value))
    assert line.endswith(b"\n")
    plain = json.loads(line)
    assert not any(secret in text for text in texts_of(plain) for secret in secrets)


def texts_of(value):
    if isinstance(value, dict):
        return [text for inner in value.values() for text in texts_of(inner)]
    if isinstance(value, list):
        return [text for inner in value for text in texts_of(inner)]
    return [value] if isinstance(value, str) else []


def test_a_password_in_a_url_is_a_secret():
    params = {"api_base": "https://me:pass:word-9@host:8080/v1", "plain": "https://host:8080/v1@2"}
    assert redact(params) == {"api_base": REDACTED, "plain": params["plain"]}
    assert secret_values(params) == {"pass:word-9"}


SENT = {
    "extra_headers": {"X-Auth": KEY, "X-Title": "a title", "Content-Type": "application/json", "helicone-auth": f"Bearer {KEY}-1"},
    "default_headers": '{"X-Team": "team-0123456789"}',
    "headers": "x-honeycomb-team=comb-0123456789,other=1",
    "default_headers.helicone-auth": f"Bearer {KEY}-2",
    "extra_query": {"sig": ["query-0123456789"], "api-version": "2024-10-21", "n": 1234567890},
    "default_query": {"code": b"bytes-0123456789"},
    "api_base": "https://host/v1?code=url%2D0123456789&api-version=2024-10-21",
    "proxy": "http://token-of-user@host:8080",
    "temperature": 0.5,
    "seed": 7,
}  # fmt: skip


def test_every_header_and_query_parameter_is_hidden_whatever_its_name():
    shown = redact({"params": SENT})["params"]
    assert shown["extra_headers"] == dict.fromkeys(SENT["extra_headers"], REDACTED)
    assert shown["extra_query"] == {"sig": [REDACTED], "api-version": REDACTED, "n": REDACTED}
    assert {name: value for name, value in shown.items() if value != REDACTED} == {
        "extra_headers": shown["extra_headers"],
        "extra_query": shown["extra_query"],
        "default_query": {"code": REDACTED},
        "temperature": 0.5,
        "seed": 7,
    }


def test_their_values_are_secrets_in_any_text_but_for_those_that_everybody_knows():
    found = secret_values({"params": SENT})
    assert {
        KEY, f"{KEY}-1", f"{KEY}-2", "team-0123456789", "comb-0123456789", "query-0123456789", "1234567890",
        "bytes-0123456789", "url-0123456789", "url%2D0123456789", "token-of-user",
    } <= found  # fmt: skip
    assert not {"application/json", "2024-10-21", "other", "1"} & found


@pytest.mark.parametrize(
    "url", ["http://[half", "://", "http://", "a question: is http://x/?q=1 a URL?", "s3://bucket/runs"]
)
def test_what_is_hardly_a_url_does_no_harm(url):
    assert redact({"api_base": url}) == {"api_base": url}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=0123456789"),
        ("HTTPS_PROXY", "http://me:0123456789@proxy:3128"),
    ],
)
def test_variables_that_hold_headers_or_addresses_give_up_theirs(name, value):
    assert "0123456789" in secret_values({name: value})


def test_eight_characters_are_enough_for_a_secret():
    assert secret_values({"api_key": "x" * 8, "extra_query": {"a": "y" * 8}, "url": f"http://h/?a={'z' * 8}"}) == {
        "x" * 8, "y" * 8, "z" * 8,
    }  # fmt: skip
