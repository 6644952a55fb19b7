"""What servers tell of a model's window."""

from __future__ import annotations

import http.server
import json
import threading

import pytest
import requests

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


class Answer:
    """A reply of `requests`."""

    def __init__(self, body, ok):
        self.body, self.ok = body, ok

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def iter_content(self, size):
        return (self.body[at : at + size] for at in range(0, len(self.body), size))


PLENTY = 4 << 20
LIST = b'{"data": [{"id": "m", "max_model_len": 8192}]}'


@pytest.mark.parametrize(
    ("body", "ok", "found"),
    [
        (LIST, True, {"m": OutputLimit(None, 8192)}), (LIST, False, None), (b"<html>", True, None), (b"\xff", True, None), (b"[" * 100_000, True, None), (b"", True, None),
        (LIST.rjust(PLENTY), True, {"m": OutputLimit(None, 8192)}), (LIST.rjust(PLENTY + 1), True, None), (LIST.rjust(2 * PLENTY), True, None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("key", ["", "secret"])
def test_answer_of_a_server_is_read_where_it_is_json_of_at_most_4_mib(monkeypatch, body, ok, found, key):
    asked_for = []
    monkeypatch.setattr(
        requests, "request", lambda *call, **how: (asked_for.append((call, how)), Answer(body, ok))[1]
    )
    assert list_models(BASE, key) == found
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    how = {"json": None, "headers": headers, "timeout": 5.0, "stream": True, "allow_redirects": False}
    assert asked_for == [(("GET", MODELS), how)]


@pytest.mark.parametrize(
    "error", [requests.ConnectionError(), requests.Timeout(), requests.TooManyRedirects()]
)
def test_server_that_does_not_answer_tells_nothing(monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(requests, "request", fail)
    assert list_models(BASE) is None
    assert ask_server(BASE, "m") is None


def limit(entry, *others):
    found = asked(models={"data": [{"id": "qwen", **entry}, *others]})
    return found and (found.limits.window_tokens, found.limits.max_tokens)


@pytest.mark.parametrize(
    ("entry", "limits"),
    [
        ({"max_model_len": 5000}, (5000, None)), ({"context_length": 5000}, (5000, None)), ({"context_window": 5000}, (5000, None)), ({"max_context_length": 5000}, (5000, None)), ({"max_input_tokens": 5000}, (5000, None)),
        ({"max_input_tokens": 5000, "loaded_context_length": 4000}, (4000, None)), ({"context_length": 5000, "meta": {"max_model_len": 4000}}, (4000, None)), ({"top_provider": {"context_length": 5000}, "meta": {"context_length": 4000}}, (5000, None)),
        ({"context_length": 5000, "top_provider": {"context_length": 4000}}, (5000, None)), ({"loaded_context_length": 0, "context_length": 5000}, (5000, None)), ({"context_length": 5000, "max_output_tokens": 700}, (5000, 700)),
        ({"context_length": 5000, "max_output_tokens": 700, "max_completion_tokens": 600}, (5000, 600)), ({"context_length": 5000, "max_output_tokens": 0}, (5000, None)), ({"max_output_tokens": 700}, None), ({"context_length": 5000, "meta": 5}, (5000, None)),
    ],
)  # fmt: skip
def test_limits_of_an_entry_are_the_first_that_it_names(entry, limits):
    assert limit(entry) == limits


@pytest.mark.parametrize(
    ("entries", "tokens"),
    [
        ([{"id": "other", "max_model_len": 5000}], 5000), ([{"max_model_len": 5000}], 5000), ([{"max_model_len": 5000}, "x", None], 5000), ([{"id": "a", "max_model_len": 5000}, {"id": "b", "max_model_len": 6000}], None), ([], None),
        ([{"id": "a", "max_model_len": 5000}, {"id": "org/qwen", "max_model_len": 6000}], 6000), ([{"id": "a", "max_model_len": 5000}, {"id": "qwen", "max_model_len": 6000}], 6000), ([{"id": "qwen", "max_model_len": 6000}, {"id": "org/qwen", "max_model_len": 5000}], 6000),
        ([{"id": "a", "max_model_len": 5000}, {"id": "org", "max_model_len": 6000}], None),
    ],
)  # fmt: skip
def test_entry_of_a_model_is_that_of_its_name_or_the_only_one(entries, tokens):
    found = asked(models={"data": entries})
    assert found == (None if tokens is None else window(tokens, "/v1/models"))
