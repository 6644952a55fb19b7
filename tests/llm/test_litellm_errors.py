"""Errors of providers as they come through litellm, over the wire."""

from __future__ import annotations

import http.server
import json
import threading

import pytest

from rlm_ray.core.llm import Message, ModelRequest
from rlm_ray.errors import (
    AuthenticationError,
    ConfigError,
    ContextWindowError,
    ModelError,
    QuotaError,
    RLMError,
    TransientModelError,
)
from rlm_ray.llm.litellm_client import LitellmProvider

ANTHROPIC = {
    "type": "error",
    "error": {"type": "invalid_request_error", "message": "prompt is too long: 3 tokens > 2 maximum"},
}


class _Refusing(http.server.BaseHTTPRequestHandler):
    """Answers any path with the server's `status` and `body`."""

    server: _Server

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        self.send_response(self.server.status)
        self.send_header("content-length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *_: object) -> None: ...


class _Server(http.server.ThreadingHTTPServer):
    status, body = 500, b""


@pytest.fixture(scope="module")
def provider():
    with _Server(("127.0.0.1", 0), _Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


async def failure(provider: _Server, model: str, status: int, body: object, **params) -> RLMError:
    provider.status = status
    provider.body = (body if isinstance(body, str) else json.dumps(body)).encode()
    params = {"api_base": f"http://127.0.0.1:{provider.server_port}", "api_key": "k", "timeout": 20, **params}
    with pytest.raises(RLMError) as raised:
        await LitellmProvider().complete(ModelRequest(model, (Message("user", "hi"),), 100, params))
    return raised.value


@pytest.mark.parametrize(
    ("model", "status", "body", "of_ours"),
    [
        ("openai/m", 422, {"error": "`inputs` must have less than 4095 tokens. Given: 5000"}, ContextWindowError),
        ("openai/m", 422, {"detail": [{"loc": ["body", "messages"], "msg": "nope"}]}, ModelError),
        ("openai/m", 413, "<html><head><title>413 Request Entity Too Large</title></head></html>", ContextWindowError),
        ("openai/m", 402, {"error": {"message": "Insufficient Balance"}}, QuotaError),
        ("openai/m", 404, {"error": {"message": "no", "code": "model_not_found"}}, ConfigError),
        ("openai/m", 400, {"error": {"message": "Invalid 'content': credentials and billing"}}, ModelError),
        ("anthropic/claude-3-5-sonnet-20240620", 400, ANTHROPIC, ContextWindowError),
        ("anthropic/claude-3-5-sonnet-20240620", 529, {"error": {"type": "overloaded_error"}}, TransientModelError),
        ("gemini/gemini-2.5-flash", 400, {"error": {"details": [{"reason": "API_KEY_INVALID"}]}}, AuthenticationError),
        ("ollama_chat/m", 404, {"error": "model 'm' not found"}, TransientModelError),
        ("hosted_vllm/m", 503, {"error": {"message": "Loading model", "code": 503}}, TransientModelError),
    ],
)  # fmt: skip
async def test_what_the_provider_said_decides(provider, model, status, body, of_ours):
    error = await failure(provider, model, status, body)
    assert type(error) is of_ours
    assert getattr(error, "status", status) == status


async def test_a_422_keeps_the_provider_s_sentence(provider):
    body = {"detail": [{"loc": ["body", "x"], "msg": "is not allowed"}]}
    error = await failure(provider, "openai/m", 422, body)
    assert "body.x: is not allowed" in str(error)


@pytest.mark.parametrize("model", ["openai/m", "hosted_vllm/m", "ollama_chat/m"])
async def test_an_address_nobody_listens_at_is_a_lost_connection(provider, model):
    error = await failure(provider, model, 500, "", api_base="http://127.0.0.1:9")
    assert isinstance(error, TransientModelError)
    assert error.kind == "connection"
    assert "cannot reach http://127.0.0.1:9; check api_base" in str(error)


async def test_an_earlier_error_of_ours_is_no_part_of_a_later_one(provider):
    try:
        raise ContextWindowError("m", "too long", 400)  # noqa: TRY301 - one that is being handled is the point
    except ContextWindowError:
        error = await failure(provider, "openai/m", 401, {"error": {"message": "who are you"}})
    assert isinstance(error, AuthenticationError)
