"""What servers tell of a model's window."""

from __future__ import annotations

import http.server
import json
import threading

import pytest

from rlm_ray.core.output_limit import OutputLimit
from rlm_ray.llm.server_limits import ServerLimits, ask_server, list_models

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


@pytest.mark.parametrize(
    ("tokens", "is_one"),
    [(255, False), (256, True), (100_000_000, True), (100_000_001, False), (4096.0, False)],
)
def test_window_has_from_256_to_100_million_tokens(tokens, is_one):
    found = asked(props={"default_generation_settings": {"n_ctx": tokens}})
    assert found == (window(tokens, "/props") if is_one else None)


@pytest.mark.parametrize(
    ("base", "model", "asked_for"),
    [
        ("http://h/v1/", "openai/m", ["http://h/props", "http://h/v1/models", "http://h/api/show"]),
        ("http://h", "m", ["http://h/props", "http://h/models", "http://h/api/show"]),
    ],
)
def test_server_is_asked_at_its_root_and_its_address(base, model, asked_for):
    calls = []
    assert ask_server(base, model, fetch=lambda *call: calls.append(call)) is None
    assert [address for _, address, _ in calls] == asked_for
    assert [(method, body) for method, _, body in calls] == [
        ("GET", None),
        ("GET", None),
        ("POST", {"model": "m"}),
    ]


@pytest.mark.parametrize(
    ("told", "found"),
    [
        (None, None),
        ({"data": "x"}, None),
        ({"data": []}, {}),
        ({"data": [{"id": "a"}, {"id": 5}, None, {"name": "b"}]}, {"a": OutputLimit()}),
        (
            {"data": [{"id": "a", "max_model_len": 5000, "max_output_tokens": 600}, {"id": "b", "meta": {"context_length": 7000}}]},
            {"a": OutputLimit(600, 5000), "b": OutputLimit(None, 7000)},
        ),
    ],
)  # fmt: skip
def test_models_of_a_server_are_listed_with_their_limits(told, found):
    asked_for = []
    assert list_models("http://h/v1/", fetch=lambda *call: (asked_for.append(call), told)[1]) == found
    assert asked_for == [("GET", "http://h/v1/models", None)]


@pytest.mark.parametrize(
    ("told", "tokens"),
    [
        ({"parameters": "num_ctx 100", "model_info": {"a.context_length": 9000}}, None),
        ({"parameters": "x num_ctx 8192", "model_info": {"a.context_length": 9000}}, 9000),
        ({"model_info": {"a.context_length": 5, "b.context_length": 9000, "c": 7000}}, 9000),
    ],
)
def test_ollama_tells_the_window_it_was_given_or_trained_with(told, tokens):
    found = asked(show=told)
    assert found == (None if tokens is None else window(tokens, "/api/show"))
