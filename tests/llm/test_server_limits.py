"""What servers tell of a model's window."""

from __future__ import annotations

import http.server
import json
import threading

import pytest

from rlm_ray.core.output_limit import OutputLimit
from rlm_ray.llm.server_limits import ServerLimits, ask_server

BASE = "http://127.0.0.1:1/v1"
PROPS, MODELS, SHOW = "http://127.0.0.1:1/props", f"{BASE}/models", "http://127.0.0.1:1/api/show"


def asked(**told):
    """Ask a server that says these JSON values, by path."""
    places = {"props": PROPS, "models": MODELS, "show": SHOW}
    by_address = {places[name]: value for name, value in told.items()}
    return ask_server(BASE, "openai/org/qwen", fetch=lambda method, address, body: by_address.get(address))


def window(tokens, source, reply=None):
    return ServerLimits(OutputLimit(reply, tokens), source)


TOLD = {
    "llama.cpp": ({"props": {"default_generation_settings": {"n_ctx": 16384}}}, window(16384, "/props")),
    "vLLM": ({"models": {"data": [{"id": "org/qwen", "max_model_len": 32768}]}}, window(32768, "/v1/models")),
    "vLLM, another name": (
        {"models": {"data": [{"id": "served", "max_model_len": 32768}]}},
        window(32768, "/v1/models"),
    ),
    "LM Studio": (
        {"models": {"data": [{"id": "qwen", "max_context_length": 131072, "loaded_context_length": 4096}]}},
        window(4096, "/v1/models"),
    ),
    "OpenRouter": (
        {
            "models": {
                "data": [
                    {"id": "a", "context_length": 1000},
                    {
                        "id": "org/qwen",
                        "context_length": 200000,
                        "top_provider": {"max_completion_tokens": 8192},
                    },
                ]
            }
        },
        window(200000, "/v1/models", 8192),
    ),
    "Ollama": ({"show": {"model_info": {"qwen2.context_length": 32768}}}, window(32768, "/api/show")),
    "Ollama with num_ctx": (
        {"show": {"parameters": "stop x\nnum_ctx    8192", "model_info": {"qwen2.context_length": 32768}}},
        window(8192, "/api/show"),
    ),
    "llama.cpp before its models": (
        {
            "props": {"default_generation_settings": {"n_ctx": 4096}},
            "models": {"data": [{"id": "org/qwen", "meta": {"n_ctx_train": 32768}}]},
        },
        window(4096, "/props"),
    ),
}

NOTHING = {
    "nothing": {},
    "a model of another name among several": {
        "models": {"data": [{"id": "a", "max_model_len": 9000}, {"id": "b"}]}
    },
    "text for a number": {"props": {"default_generation_settings": {"n_ctx": "16384"}}},
    "a negative number": {"props": {"default_generation_settings": {"n_ctx": -1}}},
    "zero": {"props": {"default_generation_settings": {"n_ctx": 0}}},
    "true": {"props": {"default_generation_settings": {"n_ctx": True}}},
    "too large": {"models": {"data": [{"id": "qwen", "max_model_len": 10**30}]}},
    "lists": {"props": [1], "models": [2], "show": [3]},
    "odd entries": {"models": {"data": [None, 5, "x"]}, "show": {"model_info": [], "parameters": 5}},
    "an error": {"props": {"error": {"message": "n_ctx 16384"}}},
}


@pytest.mark.parametrize("name", TOLD)
def test_a_window_is_read_where_a_server_tells_it(name):
    told, found = TOLD[name]
    assert asked(**told) == found


@pytest.mark.parametrize("name", NOTHING)
def test_what_is_no_window_counts_as_nothing_said(name):
    assert asked(**NOTHING[name]) is None


def test_a_server_is_asked_over_http_with_its_key():
    seen = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append((self.path, self.headers["Authorization"]))
            body = json.dumps({"data": [{"id": "m", "max_model_len": 8192}]}).encode()
            self.send_response(200 if self.path == "/v1/models" else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            found = ask_server(f"http://127.0.0.1:{server.server_port}/v1/", "openai/m", "secret")
        finally:
            server.shutdown()
            thread.join()
    assert found == window(8192, "/v1/models")
    assert seen == [("/props", "Bearer secret"), ("/v1/models", "Bearer secret")]


def test_a_server_that_is_not_there_tells_nothing():
    assert ask_server(BASE, "openai/m") is None
