"""Bodies: counted while they come in, and refused before anything is decoded."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rlm_ray.serve.api_keys import KeyStore
from rlm_ray.serve.http.auth import BearerAuth
from rlm_ray.serve.http.errors import register_error_handlers
from rlm_ray.serve.http.middleware import (
    MAX_DEPTH,
    MAX_NUMBER_BYTES,
    MAX_VALUES,
    AuthAndBodyLimitMiddleware,
    JsonBounds,
    OutOfBoundsError,
)
from rlm_ray.serve.http.routers.chat import ChatRequest
from rlm_ray.serve.http.routers.responses import ResponseRequest
from rlm_ray.serve.http.routers.runs import RunRequest
from rlm_ray.serve.http.schemas import MAX_MESSAGES

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
def test_what_is_no_json_is_counted_in_any_pieces_and_left_to_its_reader(data, piece):
    assert counted(data, piece).values == counted(data).values


@pytest.mark.parametrize(
    "body",
    [
        b"[" * (MAX_DEPTH + 1),
        b'{"a":' * (MAX_DEPTH + 1),
        b"[" + b"0," * MAX_VALUES + b"0]",
        b"[" + b"[]," * MAX_VALUES,
        b"[" + b'{"role":"user","content":"x"},' * (MAX_VALUES // 2),
        b'{"messages": "\\\\", "x": [' + b"{}," * MAX_VALUES,
        b"[" + b"-%d.5e9," % 10**4000 * (MAX_NUMBER_BYTES // 4000),
        b"1" * (MAX_NUMBER_BYTES + 1),
    ],
)
def test_too_many_values_too_deep_ones_and_too_long_numbers_are_refused(body):
    with pytest.raises(OutOfBoundsError):
        counted(body)


def test_a_long_text_is_one_value_whatever_stands_in_it():
    text = '[{"a": 1}, \\ "x"] ' * 100_000
    assert counted(json.dumps({"messages": [{"role": "user", "content": text}]}).encode()).values == 4


TEXTS = {
    "a text of quotes that goes on": b'["' + b'\\"' * 500_000,
    "a text of backslashes that goes on": b'["' + b"\\" * 1_000_000,
    "quotes and backslashes": b'"\\' * 400_000,
    "texts that begin at the end of each piece": (b'""' * 16_383 + b'"\\"' + b'\\"' * 16_000 + b'"') * 12,
    "texts that begin with each piece": (b'"' + b'\\"' * 32_750 + b'"' + b" " * 34) * 15,
    "texts of quotes, one after the other": b'"\\"\\"",' * 100_000,
    "texts of nothing": b'""' * 500_000,
    "a text of lines": json.dumps("a\n" * 300_000).encode(),
    "a text of JSON": json.dumps(json.dumps(json.dumps(["a"] * 20_000))).encode(),
}


@pytest.mark.parametrize("body", TEXTS.values(), ids=TEXTS)
def test_a_megabyte_of_texts_takes_milliseconds_whatever_stands_in_them(body):
    started = time.process_time()
    counted(body, max_values=1 << 20)
    assert (
        time.process_time() - started < 1.0
    )  # a look at each byte from each quote takes more for every piece


def test_digits_in_texts_are_not_counted():
    assert counted(json.dumps(["12345" * MAX_NUMBER_BYTES, 123]).encode()).number_bytes == 3


MANY = range(MAX_VALUES // 2)
ONE = [{"role": "user", "content": "x"}]
FAULTY = [
    (ChatRequest, {"messages": [{"role": "user", "content": [0] * len(MANY)}]}),
    (ChatRequest, {"messages": [{"role": "user", "content": [{}] * len(MANY)}]}),
    (ChatRequest, {"messages": [{"role": "user", "content": [{"type": 1, "text": 2, "file": 3}] * len(MANY)}]}),
    (ChatRequest, {"messages": [{"role": "x", "content": 1}] * MAX_MESSAGES}),
    (ChatRequest, {"messages": [None] * MAX_MESSAGES}),
    (ChatRequest, {"messages": ONE, "metadata": {str(number): number for number in MANY}}),
    (ChatRequest, {"messages": ONE, "rlm": {str(number): 1 for number in MANY}}),
    (ChatRequest, {"messages": ONE, "rlm": {"limits": {str(number): 1 for number in MANY}}}),
    (ChatRequest, {"messages": ONE, "rlm": {"context": [1] * len(MANY)}}),
    (ChatRequest, {"messages": ONE, "tools": [0] * len(MANY)}),
    (ResponseRequest, {"input": [{"type": "x", "role": 1}] * MAX_MESSAGES}),
    (ResponseRequest, {"input": [0] * MAX_MESSAGES}),
    (ResponseRequest, {"input": [{"role": "user", "content": [{"text": 1}] * len(MANY)}]}),
    (ResponseRequest, {"input": "x", "metadata": {str(number): [] for number in MANY}}),
    (RunRequest, {"query": "x", "file_ids": [1] * MAX_MESSAGES}),
    (RunRequest, {"query": "x"} | {str(number): 1 for number in MANY}),
    (RunRequest, {"query": "x", "metadata": {str(number): None for number in MANY}}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "body"), FAULTY, ids=[f"{kind.__name__}-{next(reversed(body))}" for kind, body in FAULTY]
)
def test_a_body_of_many_faults_is_refused_at_the_first(kind, body):
    with pytest.raises(ValidationError) as caught:
        kind.model_validate({"model": "m"} | body)
    assert caught.value.error_count() <= 10


def test_the_longest_conversations_are_taken():
    part = {"type": "input_text", "text": "x"}
    items = [{"role": "user", "content": [part]}] * (MAX_MESSAGES - 1) + [
        {"type": "reasoning", "summary": []}
    ]
    body = {"model": "m", "input": items}
    assert counted(json.dumps(body).encode()).depth == 0
    kinds = [type(item).__name__ for item in ResponseRequest.model_validate(body).input]
    assert (kinds[0], kinds[-1]) == ("InputMessage", "OtherItem")


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
        auth=BearerAuth(KeyStore()),
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


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"])
async def test_a_body_in_another_encoding_is_refused_before_it_is_decoded(encoding):
    body = f'["\\"", {", ".join(["[]"] * 100_000)}]'.encode(encoding)
    reply = await asking().post("/v1/chat/completions", content=body)
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "invalid_json")
    assert "UTF-8" in reply.json()["error"]["message"]


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
