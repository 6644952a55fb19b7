"""Pages that ask through a browser: preflights, headers, and who is turned away."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import cache
from types import SimpleNamespace

import httpx
import pytest

from rlm_ray.errors import ConfigError
from rlm_ray.serve.api_keys import ApiKey, KeyStore, hash_key
from rlm_ray.serve.config import ServerConfig
from rlm_ray.serve.http.api import create_app
from rlm_ray.serve.http.auth import Origins
from rlm_ray.serve.replica import load_models

CHAT = "/v1/chat/completions"
HEADERS = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type",
}


@cache
def application(origins, keys):
    """One for all tests that want the same: its routes take long to make, and it keeps nothing of a request."""

    @asynccontextmanager
    async def kept():
        yield

    args = ServerConfig(run_dir="memory://runs", cors_origins=list(origins))
    service = SimpleNamespace(models=load_models(args), files=None)
    return create_app(service, KeyStore([ApiKey(name, hash_key(name)) for name in keys]), args, kept)


def client(*origins, keys=()):
    transport = httpx.ASGITransport(application(origins, tuple(keys)), client=("127.0.0.1", 5))
    return httpx.AsyncClient(transport=transport, base_url="http://localhost:8000")


async def test_a_preflight_is_answered_without_a_key():
    page = "https://chat.example.org"
    reply = await client(page, keys=["ann"]).options(CHAT, headers={"Origin": page, **HEADERS})
    assert reply.status_code == 200
    assert reply.headers["access-control-allow-origin"] == page
    assert "authorization" in reply.headers["access-control-allow-headers"]


@pytest.mark.parametrize("origin", ["https://evil.example", "http://localhost:5173", "null"])
async def test_a_page_that_is_not_allowed_gets_no_header_where_there_are_keys(origin):
    asked = client("https://chat.example.org", keys=["ann"])
    assert (await asked.options(CHAT, headers={"Origin": origin, **HEADERS})).status_code == 400
    reply = await asked.get("/v1/models", headers={"Origin": origin, "Authorization": "Bearer ann"})
    assert reply.status_code == 200
    assert "access-control-allow-origin" not in reply.headers


@pytest.mark.parametrize("origin", ["http://localhost:5173", "http://127.0.0.1:8000", "http://[::1]:3000"])
async def test_without_keys_pages_of_this_machine_may_ask_and_read(origin):
    asked = client()
    assert (await asked.options(CHAT, headers={"Origin": origin, **HEADERS})).status_code == 200
    reply = await asked.get("/v1/models", headers={"Origin": origin})
    assert (reply.status_code, reply.headers["access-control-allow-origin"]) == (200, origin)
    assert "x-rlm-run-id" in reply.headers["access-control-expose-headers"]


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "http://localhost.evil.example",
        "http://localhost:x",
        "file://localhost",
    ],
)
async def test_without_keys_pages_of_other_sites_are_refused_and_told_of_the_option(origin):
    asked = client()
    assert (await asked.options(CHAT, headers={"Origin": origin, **HEADERS})).status_code == 400
    for reply in (
        await asked.get("/v1/models", headers={"Origin": origin}),
        await asked.post(CHAT, headers={"Origin": origin}, json={}),
    ):
        assert reply.status_code == 403
        assert "cors_origins" in reply.json()["error"]["message"]


async def test_an_error_can_be_read_by_an_allowed_page():
    page = "https://chat.example.org"
    reply = await client(page, keys=["ann"]).post(CHAT, headers={"Origin": page}, json={})
    assert (reply.status_code, reply.headers["access-control-allow-origin"]) == (401, page)


async def test_every_page_may_ask_with_a_key_where_the_operator_says_so():
    asked = client("*", keys=["ann"])
    reply = await asked.get(
        "/v1/models", headers={"Origin": "https://any.example", "Authorization": "Bearer ann"}
    )
    assert reply.headers["access-control-allow-origin"] == "*"
    with pytest.raises(ConfigError, match="without keys"):
        client("*")


@pytest.mark.parametrize(
    "origin",
    ["chat.example.org", "https://x/path", "https://u@x", "https://x/", "ftp://x", "", "https://x:y"],
)
def test_what_is_no_origin_is_refused_before_anything_starts(origin):
    with pytest.raises(ConfigError, match="cors_origins"):
        Origins([origin], has_keys=True)


@pytest.mark.parametrize("given", ["https://Chat.Example.org", "https://chat.example.org:443"])
def test_an_origin_is_compared_as_browsers_send_it(given):
    assert Origins([given], has_keys=True).allows("https://chat.example.org")
    assert not Origins([given], has_keys=True).allows("https://chat.example.org:8443")
