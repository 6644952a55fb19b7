"""Bodies: counted while they come in, and refused before anything is decoded."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from hypothesis import given
from hypothesis import strategies as st

from rlm_ray.serve.api_keys import KeyStore
from rlm_ray.serve.http.auth import BearerAuth
from rlm_ray.serve.http.bounds import MAX_DEPTH, MAX_VALUES, JsonBounds, OutOfBoundsError
from rlm_ray.serve.http.errors import register_error_handlers
from rlm_ray.serve.http.middleware import AuthAndBodyLimitMiddleware

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.sampled_from('ab"\\{}[],é'), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text('x"\\,{', max_size=3), inner, max_size=4)
    ),
    max_leaves=20,
)


def counted(data: bytes, piece: int = 1 << 16, **bounds) -> JsonBounds:
    found = JsonBounds(**bounds)
    for start in range(0, len(data), piece):
        found.feed(data[start : start + piece])
    return found


def values_of(value) -> int:
    """Commas and openings, as the parser would find them."""
    if isinstance(value, list | dict):
        inner = value.values() if isinstance(value, dict) else value
        return 1 + max(0, len(value) - 1) + sum(map(values_of, inner))
    return 0


@given(JSON, st.integers(1, 20), st.booleans())
def test_values_are_counted_in_whatever_pieces_a_body_comes(value, piece, is_ascii):
    data = json.dumps(value, ensure_ascii=is_ascii).encode()
    found = counted(data, piece)
    assert (found.values, found.depth) == (values_of(value), 0)


@given(st.binary(max_size=100), st.integers(1, 7))
def test_what_is_no_json_is_left_to_its_reader(data, piece):
    counted(data, piece)


@pytest.mark.parametrize(
    "body",
    [
        b"[" * (MAX_DEPTH + 1),
        b'{"a":' * (MAX_DEPTH + 1),
        b"[" + b"0," * MAX_VALUES + b"0]",
        b"[" + b"[]," * MAX_VALUES,
        b"[" + b'{"role":"user","content":"x"},' * (MAX_VALUES // 2),
        b'{"messages": "\\\\", "x": [' + b"{}," * MAX_VALUES,
    ],
)
def test_too_many_values_and_too_deep_ones_are_refused(body):
    with pytest.raises(OutOfBoundsError):
        counted(body)


def test_a_long_text_is_one_value_whatever_stands_in_it():
    text = '[{"a": 1}, \\ "x"] ' * 100_000
    assert counted(json.dumps({"messages": [{"role": "user", "content": text}]}).encode()).values == 4


def asking(**limits):
    api = FastAPI()
    register_error_handlers(api)

    @api.post("/v1/responses")
    async def respond(body: dict[str, Any]) -> int:
        return len(body)

    @api.post("/v1/chat/completions")
    async def chat(request: Request) -> int:
        return len(await request.json())

    @api.post("/v1/files")
    async def upload(request: Request) -> int:
        return len(await request.body())

    api.add_middleware(
        AuthAndBodyLimitMiddleware,
        guard=BearerAuth(KeyStore()),
        **({"body_bytes": 64 << 20, "file_bytes": 64 << 20} | limits),
    )
    transport = httpx.ASGITransport(api, client=("127.0.0.1", 5))
    return httpx.AsyncClient(transport=transport, base_url="http://localhost")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
async def test_twenty_megabytes_of_messages_are_refused_before_they_are_decoded(path):
    body = json.dumps({"messages": [{"role": "user", "content": "x"}] * 600_000}).encode()
    reply = await asking().post(path, content=body, headers={"content-type": "application/json"})
    assert reply.status_code == 413
    assert reply.json()["error"]["code"] == "too_many_values"
    assert "upload them as files" in reply.json()["error"]["message"]


async def test_as_many_megabytes_of_one_text_are_taken_and_an_upload_is_not_counted():
    body = json.dumps({"text": "[{,}] " * 1_000_000}).encode()
    assert (await asking().post("/v1/chat/completions", content=body)).json() == 1
    reply = await asking().post("/v1/files", content=b"[" * 1000)
    assert reply.json() == 1000


async def test_a_body_that_grows_too_large_without_saying_so_is_refused():
    async def pieces():
        for _ in range(3):
            yield b" " * 1000

    reply = await asking(body_bytes=2000).post(
        "/v1/responses", content=pieces(), headers={"content-type": "application/json"}
    )
    assert (reply.status_code, reply.json()["error"]["code"]) == (413, "too_large")
