"""The model server over real sockets."""

import http.client
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from waiting import wait_until

from rlm_ray.testing import Drop, Failure, Hang, ModelServer, Raw, Reply, ServerProcess, Slow
from rlm_ray.testing.responses import echo

TOOL_CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}


def test_answers_and_counts(serve):
    """An answer has text and usage, and the server remembers who asked what."""
    server, client = serve(echo)
    status, _, data = client.complete("x" * 40)
    answer = json.loads(data)
    assert status == 200
    assert answer["choices"][0] == {
        "index": 0,
        "message": {"role": "assistant", "content": "x" * 40},
        "finish_reason": "stop",
    }
    assert answer["usage"]["total_tokens"] == 20
    (request,) = server.requests
    assert (request.model, request.last, request.api_key, request.ordinal) == ("m", "x" * 40, "key", 0)
    stats = server.stats()
    assert (stats.calls, stats.in_flight, stats.peak_in_flight) == (1, 0, 1)
    assert (stats.input_tokens, stats.output_tokens, stats.answers) == ({"m": 10}, {"m": 10}, {"200": 1})


def test_outcomes_come_in_order_and_then_end(serve):
    """A list is played in order; past its end comes a refusal that no client retries."""
    _, client = serve(["one", Failure(429, "slow", "rate_limit", headers={"Retry-After": "3"}), "two"])
    first, refused, second, after = (client.complete() for _ in range(4))
    assert json.loads(first[2])["choices"][0]["message"]["content"] == "one"
    assert (refused[0], refused[1]["Retry-After"]) == (429, "3")
    assert json.loads(refused[2])["error"]["message"] == "slow"
    assert json.loads(second[2])["choices"][0]["message"]["content"] == "two"
    assert after[0] == 400


def test_says_all_that_a_provider_may_say(serve):
    """No content, a tool call, cut answers, cached tokens and headers arrive as scripted."""
    reply = Reply(
        None,
        finish_reason="tool_calls",
        tool_calls=[TOOL_CALL],
        prompt_tokens=9,
        completion_tokens=4,
        cached_tokens=3,
        reasoning_tokens=2,
        headers={"x-ratelimit-remaining-tokens": "7"},
    )
    _, client = serve([reply, Reply("cut", finish_reason="length"), Raw(b"<html>", 502, "text/html")])
    _, headers, data = client.complete()
    answer = json.loads(data)
    assert answer["choices"][0]["message"] == {
        "role": "assistant",
        "content": None,
        "tool_calls": [TOOL_CALL],
    }
    assert answer["usage"]["prompt_tokens_details"] == {"cached_tokens": 3}
    assert answer["usage"]["completion_tokens_details"] == {"reasoning_tokens": 2}
    assert headers["x-ratelimit-remaining-tokens"] == "7"
    assert json.loads(client.complete()[2])["choices"][0]["finish_reason"] == "length"
    assert client.complete()[::2] == (502, b"<html>")


def test_stream_carries_the_text_in_events_and_its_usage_if_asked_for(serve):
    """A stream carries the same text in events, and its usage if asked for."""
    text = "a longer answer that needs more than one event"
    _, client = serve([text])
    _, headers, data = client.complete(stream=True, stream_options={"include_usage": True})
    assert headers["content-type"] == "text/event-stream"
    *events, done = [line.removeprefix("data: ") for line in data.decode().split("\n\n") if line]
    chunks = [json.loads(event) for event in events]
    assert done == "[DONE]"
    deltas = [choice["delta"].get("content", "") for chunk in chunks for choice in chunk["choices"]]
    assert "".join(deltas) == text
    assert chunks[-1]["usage"]["completion_tokens"] == len(text) // 4


@pytest.mark.parametrize("outcome", [Drop(), Hang(0.05), Drop("half of an answer is lost" * 20)])
def test_dropped_and_hung_answers_break_the_connection(serve, outcome):
    """Dropped and hung answers end in a broken connection, and count as such."""
    server, client = serve([outcome])
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        client.complete()
    assert server.stats().answers == {"hung" if isinstance(outcome, Hang) else "dropped": 1}


def test_slow_answer_arrives_whole_in_its_time(serve):
    """A slow answer arrives whole, in its time."""
    _, client = serve([Slow("slowly", 0.2)])
    began = time.monotonic()
    assert json.loads(client.complete()[2])["choices"][0]["message"]["content"] == "slowly"
    assert 0.18 < time.monotonic() - began < 2


def test_a_client_that_leaves_is_counted_as_gone(serve):
    """A request whose client goes away is no longer in flight."""
    server, _ = serve([Hang(30)])
    sender = socket.create_connection(("127.0.0.1", server.port))
    body = b'{"model": "m", "messages": []}'
    sender.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
    wait_until(lambda: server.in_flight == 1)
    sender.close()
    wait_until(lambda: server.in_flight == 0)
    assert server.stats().answers == {"gone": 1}


def test_a_script_that_raises_is_shown_to_the_client(serve, caplog):
    """A mistake in a script is a 400 that names it, and the server goes on."""
    server, client = serve(lambda request: {}[request.last])
    status, _, data = client.complete("missing")
    assert status == 400
    assert "KeyError('missing')" in json.loads(data)["error"]["message"]
    assert "the script failed" in caplog.text
    assert server.in_flight == 0


def test_server_answers_for_models_and_counters_and_nothing_else(serve):
    """Models and counters can be asked for; anything else is not there."""
    server, client = serve(["a"], models=["small", "large"])
    models = json.loads(client.ask("GET", "/v1/models")[2])
    assert [model["id"] for model in models["data"]] == ["small", "large"]
    client.complete()
    assert json.loads(client.ask("GET", "/stats")[2])["calls"] == 1
    assert client.ask("DELETE", "/stats")[0] == 200
    assert (server.calls, server.requests) == (0, ())
    assert client.ask("GET", "/nowhere")[0] == 404
    assert client.ask("POST", "/v1/chat/completions", "not json")[0] == 400


def test_pipelined_requests_are_answered_in_order(serve):
    """Requests sent at once on one connection come back in their order, each after its latency."""
    server, _ = serve(lambda request: Reply(request.last, latency_s=0.1 if request.ordinal == 0 else 0))
    bodies = [json.dumps({"messages": [{"role": "user", "content": f"n{n}"}]}).encode() for n in range(3)]
    data = b"".join(
        b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        for body in bodies[:2]
    ) + b"POST /v1/chat/completions HTTP/1.1\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (
        len(bodies[2]),
        bodies[2],
    )
    with socket.create_connection(("127.0.0.1", server.port)) as sender:
        sender.sendall(data)
        received = b"".join(iter(lambda: sender.recv(65_536), b""))
    assert [received.find(name) for name in (b'"n0"', b'"n1"', b'"n2"')] == sorted(
        received.find(name) for name in (b'"n0"', b'"n1"', b'"n2"')
    )
    assert b'"n2"' in received


def test_latency_is_shared_and_not_queued(serve):
    """Many requests at once all take one latency, not one after another."""
    server, _ = serve(echo, latency_s=0.3, record=False)
    body = json.dumps({"messages": [{"role": "user", "content": "x"}]})

    def one(_):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        try:
            connection.request("POST", "/v1/chat/completions", body)
            return connection.getresponse().read()
        finally:
            connection.close()

    began = time.monotonic()
    with ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(one, range(40)))
    assert len(answers) == 40
    assert time.monotonic() - began < 5
    assert server.peak_in_flight > 10
    assert server.requests == ()


def test_request_of_tens_of_megabytes_arrives_whole(serve):
    """A context of tens of megabytes arrives whole."""
    _, client = serve(lambda request: str(len(request.last)))
    _, _, data = client.complete("x" * 20_000_000)
    assert json.loads(data)["choices"][0]["message"]["content"] == "20000000"


def test_ends_with_requests_in_flight():
    """Closing does not wait for answers that are still due."""
    before = set(threading.enumerate())
    server = ModelServer([Hang(60)])
    server.start()
    body = b'{"model": "m", "messages": []}'
    with socket.create_connection(("127.0.0.1", server.port)) as sender:
        sender.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        wait_until(lambda: server.in_flight == 1)
        began = time.monotonic()
        server.close()
        assert time.monotonic() - began < 5
    assert set(threading.enumerate()) <= before


def test_a_taken_port_is_reported():
    """A port in use is an error where the server is started."""
    with ModelServer([]) as first, pytest.raises(OSError, match="in use"):
        ModelServer([], port=first.port).start()


def test_a_port_that_a_server_of_this_process_had_is_not_taken_again(monkeypatch):
    """Who remembers an address, as the admission remembers a pause, meets no other server there."""

    class Had(set):
        def __contains__(self, port):
            if len(self) < 3:
                self.add(port)
            return super().__contains__(port)

    had = Had()
    monkeypatch.setattr("rlm_ray.testing.mock_server._ports_had", had)
    with ModelServer(["a"]) as server:
        assert len(had) == 4, "three were refused, the fourth is its own"
    with ModelServer(["a"], port=server.port) as again:
        assert again.port == server.port, "a port that is asked for is taken"


def test_runs_in_a_process_of_its_own(connect):
    """The process variant serves, counts, starts its counters anew, and ends with its owner."""
    with ServerProcess(["--script", "echo", "--rpm", "2"]) as server:
        client = connect(server.url)
        assert [client.complete("hi")[0] for _ in range(3)] == [200, 200, 429]
        stats = server.stats()
        assert (stats["calls"], stats["answers"]) == (3, {"200": 2, "429": 1})
        assert stats["provider"]["refused"] == {"requests": 1}
        server.reset()
        assert server.stats()["calls"] == 0


def test_a_process_that_cannot_start_is_reported(capfd):
    """A wrong name is an error at once, with the names that there are."""
    with pytest.raises(RuntimeError, match="ended with exit code 1"):
        ServerProcess(["--script", "ecco"]).start()
    assert "try echo, recursion" in capfd.readouterr().err
