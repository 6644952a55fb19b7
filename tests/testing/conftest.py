"""A raw HTTP client, and requests made by hand."""

import http.client
import json

import pytest

from rlm_ray.testing import ModelServer, Request


class Client:
    """One keep-alive connection to a model server."""

    def __init__(self, url):
        host = url.split("/")[2]
        self._connection = http.client.HTTPConnection(host, timeout=20)

    def ask(self, method, path, body=None, headers=None):
        self._connection.request(method, path, body, headers or {})
        answer = self._connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()

    def complete(self, text="hello", **further):
        body = {"model": "m", "messages": [{"role": "user", "content": text}], **further}
        status, headers, data = self.ask(
            "POST", "/v1/chat/completions", json.dumps(body), {"Authorization": "Bearer key"}
        )
        return status, headers, data

    def close(self):
        self._connection.close()


@pytest.fixture
def serve():
    """`serve(script, **options) -> (server, client)`; both are closed after the test."""
    opened = []

    def start(script, **options):
        server = ModelServer(script, **options)
        server.start()
        client = Client(server.url)
        opened.extend([client, server])
        return server, client

    yield start
    for thing in opened:
        thing.close()


@pytest.fixture
def connect():
    """`connect(url) -> client`, closed after the test."""
    opened = []

    def start(url):
        opened.append(Client(url))
        return opened[-1]

    yield start
    for client in opened:
        client.close()


@pytest.fixture
def ask():
    """`ask(text, system=None, replies=(), **body) -> Request`"""

    def make(text="hello", system=None, replies=(), key="key", **body):
        messages = [{"role": "system", "content": system}] if system else []
        messages.append({"role": "user", "content": text})
        for reply in replies:
            messages += [{"role": "assistant", "content": reply}, {"role": "user", "content": "Output:"}]
        return Request({"model": "m", "messages": messages, **body}, {"authorization": f"Bearer {key}"})

    return make
