"""Keys, tickets for reports, and who counts as this machine."""

from __future__ import annotations

import pytest
from starlette.requests import Request

from rlm_ray.errors import ConfigError
from rlm_ray.serve.api_keys import (
    LOCAL_KEY,
    VALID_S,
    ApiKey,
    KeyStore,
    generate_key,
    hash_key,
    holder_of,
    make_ticket,
    read_keys,
)
from rlm_ray.serve.http.auth import BearerAuth, is_local
from rlm_ray.serve.http.errors import ApiError

ANN, BOB = ApiKey("ann", hash_key("sk-ann")), ApiKey("bob", hash_key("sk-bob"), models=("quick", "rlm/*"))
KEYS = KeyStore([ANN, BOB])
SECRET = b"s" * 32


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ("Bearer sk-ann", ANN),
        ("bearer  sk-bob ", BOB),
        ("Basic sk-ann", None),
        ("Bearer sk-an", None),
        ("Bearer " + ANN.sha256, None),
        ("sk-ann", None),
        ("Bearer", None),
        ("", None),
        ("Bearer sk-\udcff", None),
    ],
)
def test_a_key_is_known_by_its_hash_alone(header, key):
    assert KEYS.authenticate(header) is key


def test_a_new_key_works_with_its_entry_and_is_not_in_it():
    key, entry = generate_key("team")
    keys = read_keys("keys:\n" + entry, "file")
    assert keys.authenticate(f"Bearer {key}").name == "team"
    assert key not in entry
    assert generate_key("team")[0] != key


@pytest.mark.parametrize(
    "text",
    [
        "",
        "keys: []",
        "keys: {}",
        "key: []",
        "keys: [{name: a}]",
        f"keys: [{{name: a, sha256: {'0' * 64}, rpmm: 5}}]",
        "keys: [{name: a, sha256: sk-secret}]",
        f"keys: [{{name: ../a, sha256: {'0' * 64}}}]",
        f"keys: [{{name: a, sha256: {'0' * 64}, rpm: 0}}]",
        f"keys: [{{name: a, sha256: {'0' * 64}}}, {{name: a, sha256: {'1' * 64}}}]",
        "keys: [",
    ],
)
def test_a_file_of_keys_that_is_wrong_is_refused_without_showing_it(text):
    with pytest.raises(ConfigError) as caught:
        read_keys(text, "file")
    assert "sk-secret" not in str(caught.value)


def test_models_of_a_key_are_patterns():
    assert [BOB.may_use(name) for name in ("quick", "rlm/openai/x", "deep")] == [True, True, False]


def test_a_ticket_opens_one_report_for_a_while():
    ticket = make_ticket(SECRET, ANN, "run-1", now=1000.0)
    assert holder_of(SECRET, KEYS, ticket, "run-1", 1000.0) is ANN
    assert holder_of(SECRET, KEYS, ticket, "run-2", 1000.0) is None
    assert holder_of(SECRET, KEYS, ticket, "run-1", 1001.0 + VALID_S) is None
    assert holder_of(SECRET, KEYS, ticket.replace("ann", "bob"), "run-1", 1000.0) is None
    assert holder_of(SECRET, KEYS, ticket.replace("ann.4", "ann.5"), "run-1", 1000.0) is None


def test_who_has_read_the_file_of_keys_cannot_make_a_ticket():
    forged = make_ticket(ANN.sha256.encode(), ANN, "run-1", now=1000.0)
    assert holder_of(SECRET, KEYS, forged, "run-1", 1000.0) is None
    assert holder_of(b"t" * 32, KEYS, make_ticket(SECRET, ANN, "run-1", 1000.0), "run-1", 1000.0) is None


def test_a_replaced_key_opens_nothing_with_its_old_links():
    renewed = KeyStore([ApiKey("ann", hash_key("sk-new"))])
    assert holder_of(SECRET, renewed, make_ticket(SECRET, ANN, "run-1", 1000.0), "run-1", 1000.0) is None


@pytest.mark.parametrize(
    "ticket", ["", ".", "ann", "ann..", "ann.x.y", "ann.²." + "0" * 64, "ann.9999999999.\udcff"]
)
def test_what_is_no_ticket_opens_nothing(ticket):
    assert holder_of(SECRET, KEYS, ticket, "run-1", 1000.0) is None


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("10.0.0.1", False),
        ("localhost.example.org", False),
        ("", False),
    ],
)
def test_this_machine_is_known_by_its_names(host, local):
    assert is_local(host) is local


def request(client="127.0.0.1", host="localhost:8000", **headers):
    sent = {"host": host} | headers
    return Request(
        {
            "type": "http",
            "method": "GET",
            "path": "/",
            "query_string": b"",
            "client": (client, 5),
            "headers": [(name.encode(), value.encode()) for name, value in sent.items()],
        }
    )


def test_without_keys_only_this_machine_may_ask_and_no_page_of_the_web_through_it():
    auth = BearerAuth(KeyStore())
    assert auth.authenticate(request()) is LOCAL_KEY
    assert auth.authenticate(request(origin="http://localhost:8000")) is LOCAL_KEY
    for stranger in (
        request(client="10.0.0.5"),
        request(host="rebound.example.org"),
        request(origin="https://example.org"),
        request(origin="null"),
    ):
        with pytest.raises(ApiError, match="no keys"):
            auth.authenticate(stranger)


def test_with_keys_the_place_does_not_matter_but_the_key_does():
    auth = BearerAuth(KEYS)
    assert auth.authenticate(request(client="10.0.0.5", authorization="Bearer sk-ann")) is ANN
    with pytest.raises(ApiError, match="API key"):
        auth.authenticate(request())
