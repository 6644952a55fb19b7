"""The same replies through both transports: the result, the error and its sentence are the same.

`CASES` is the table: each row is sent by a real server on loopback, and read once by litellm alone and once by the transport
of this package, after it has learned the kind of request. Where they differ on purpose a test below says why.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio

from rlm_ray.core.llm import Message, ModelReply, ModelRequest
from rlm_ray.errors import RLMError, TransientModelError
from rlm_ray.llm import http_client
from rlm_ray.llm.litellm_client import LitellmProvider, import_litellm
from rlm_ray.testing import Drop, Failure, Hang, ModelServer, Raw, Reply, Slow

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.filterwarnings("ignore:Item '.*' on TypedDict class:UserWarning"),
    pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning"),
]

USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
CALL = {"id": "1", "type": "function", "function": {"name": "python", "arguments": '{"code": "print(1)"}'}}
FILTERED = {"content_filter_results": {"hate": {"filtered": True, "severity": "high"}}}
LIMITS = {
    "x-ratelimit-limit-requests": "60",
    "X-RateLimit-Remaining-Tokens": "7",
    "retry-after": "3",
    "x-request-id": "r",
}
REDIRECT = {"location": "http://127.0.0.1:9/v1/chat/completions"}


def completion(
    content: Any = "hi", finish: Any = "stop", message=None, choice=None, usage: Any = USAGE, **beside
):
    said = {"role": "assistant", "content": content, **(message or {})}
    choices = [{"index": 0, "message": said, "finish_reason": finish, **(choice or {})}]
    envelope = {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": choices}
    return Raw(json.dumps({**envelope, "usage": usage, **beside}).encode())


def without(outcome: Raw, *path: Any) -> Raw:
    body = json.loads(outcome.body)
    *parents, name = path
    part = body
    for each in parents:
        part = part[each]
    del part[name]
    return replace(outcome, body=json.dumps(body).encode())


def packed(body: bytes, encoding: str) -> Raw:
    return Raw(body, headers={"content-encoding": encoding})


USUAL = {
    "plain": completion(),
    "an empty text": completion(""),
    "null content": completion(None),
    "unicode": completion("Größe 🙂 \u2028 \x00"),
    "a leading think block": completion("<think>hm</think>4"),
    "only a think block": completion("<think>hm</think>"),
    "finish reason length": completion("part", "length"),
    "finish reason content_filter": completion("part", "content_filter"),
    "no finish reason": completion("hi", None),
    "native finish reason": completion("part", choice={"native_finish_reason": "MAX_TOKENS"}),
    "filtered choice": completion(None, choice=FILTERED),
    "reasoning_content": completion("4", message={"reasoning_content": "hm"}),
    "reasoning": completion("4", message={"reasoning": "hm"}),
    "both reasonings": completion("4", message={"reasoning": "a", "reasoning_content": "b"}),
    "only reasoning": completion(None, message={"reasoning_content": "It is 4."}),
    "reasoning details": completion("4", message={"reasoning_details": [{"type": "reasoning.text", "text": "hm"}]}),
    "odd reasoning details": completion("4", message={"reasoning_details": [5, {"summary": "hm"}]}),
    "refusal": completion(None, message={"refusal": "I can't."}),
    "empty tool calls": completion("hi", message={"tool_calls": [], "function_call": None, "annotations": []}),
    "no id": without(completion(), "id"),
    "no model": without(completion(), "model"),
    "no role": without(completion(), "choices", 0, "message", "role"),
    "null error": completion(error=None),
    "no usage": completion(usage=None),
    "no usage field": without(completion(), "usage"),
    "null counts": completion(usage={"prompt_tokens": None, "completion_tokens": 5, "total_tokens": 5}),
    "only a total": completion(usage={"total_tokens": 15}),
    "negative counts": completion(usage={"prompt_tokens": -3, "completion_tokens": 5, "total_tokens": 2}),
    "incredible counts": completion(usage={"prompt_tokens": 10**12, "completion_tokens": 5, "total_tokens": 5}),
    "cached tokens": completion(usage={**USAGE, "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 0}}),
    "more cached than read": completion(usage={**USAGE, "prompt_tokens_details": {"cached_tokens": 400}}),
    "reasoning tokens": completion(usage={**USAGE, "completion_tokens_details": {"reasoning_tokens": 3}}),
    "null details": completion(usage={**USAGE, "prompt_tokens_details": None, "completion_tokens_details": None}),
    "cache hits of DeepSeek": completion(usage={**USAGE, "prompt_cache_hit_tokens": 6, "prompt_cache_miss_tokens": 4}),
    "times of Groq": completion(usage={**USAGE, "queue_time": 0.1, "total_time": 0.2}, x_groq={"id": "r"}),
    "cost of OpenRouter": completion(usage={**USAGE, "cost": 0.1, "is_byok": False}, provider="Azure"),
    "fields of vLLM": completion(choice={"stop_reason": None, "logprobs": None, "token_ids": None}, prompt_logprobs=None),
    "timings of llama.cpp": completion(timings={"prompt_n": 1}, system_fingerprint="b1"),
    "filters of Azure": completion(prompt_filter_results=[{"prompt_index": 0}], choice={"content_filter_results": {}}),
    "rate-limit headers": Reply("hi", headers=LIMITS),
    "headers of the same name": Reply("hi", headers={"x-ratelimit-reset": "1", "X-RateLimit-Reset": "2"}),
    "a charset": replace(completion("ü"), content_type="application/json; charset=utf-8"),
    "gzip": packed(gzip.compress(completion("zip").body), "gzip"),
    "deflate": packed(zlib.compress(completion("zip").body), "deflate"),
    "a long text": completion("word " * 200_000),
    "in small pieces": Slow("hi", 0.05),
}  # fmt: skip
"""Read here."""

ODD = {
    "content as parts": completion([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]),
    "thinking parts": completion([{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "b"}]),
    "content as an object": completion({"text": "a"}),
    "content as a number": completion(5),
    "a tool call": completion(None, "tool_calls", {"tool_calls": [CALL]}),
    "a tool call that stops": completion("look", "stop", {"tool_calls": [CALL]}),
    "a function call": completion(None, "function_call", {"function_call": {"name": "f", "arguments": "{}"}}),
    "finish reason eos": completion("hi", "eos"),
    "an unknown finish reason": completion("hi", "whatever"),
    "a number as finish reason": completion("hi", 7),
    "finish reason error": completion("part", "error"),
    "an empty finish reason": completion("hi", ""),
    "two choices": completion(choices=json.loads(completion("a").body)["choices"] * 2),
    "counts as texts": completion(usage={"prompt_tokens": "12", "completion_tokens": "7", "total_tokens": "19"}),
    "counts as fractions": completion(usage={"prompt_tokens": 12.5, "completion_tokens": 7.5}),
    "usage as a list": completion(usage=[1]),
    "usage as a text": completion(usage="many"),
    "odd details": completion(usage={**USAGE, "prompt_tokens_details": {"cached_tokens": "four"}}),
    "cache counts of Anthropic": completion(usage={**USAGE, "cache_read_input_tokens": 3, "cache_creation_input_tokens": 2}),
    "reasoning tokens beside": completion(usage={**USAGE, "reasoning_tokens": 3}),
    "an error beside": completion(None, error={"code": 429, "message": "busy; please retry in 2s"}),
    "an error beside a text": completion("text", error={"code": 502, "message": "failed"}),
    "an error alone": Raw(b'{"error": {"code": 429, "message": "slow down"}}'),
    "an error as a text": Raw(b'{"error": "overloaded"}'),
    "an error in the choice": completion("", "error", choice={"error": {"code": 402, "message": "Insufficient credits"}}),
    "an error in the message": completion(None, "error", message={"error": {"code": 401, "message": "bad key"}}),
    "an error of MiniMax": completion("", base_resp={"status_code": 1002, "status_msg": "too fast"}),
    "no error of MiniMax": completion("hi", base_resp={"status_code": 0, "status_msg": ""}),
    "an unknown field": completion(whatever={"a": 1}),
    "a hostile field": completion(_hidden_params={"additional_headers": {"retry-after": "9"}}),
    "a hostile model": completion(model=5),
    "an unknown field in the message": completion(message={"whatever": 1}),
    "another role": completion(message={"role": "user"}),
    "log probabilities": completion(choice={"logprobs": {"content": []}}),
    "no choices": Raw(b'{"choices": []}'),
    "null choices": Raw(b'{"choices": null}'),
    "a choice without a message": Raw(b'{"choices": [{"index": 0, "text": "old", "finish_reason": "stop"}]}'),
    "a choice that is none": Raw(b'{"choices": [5]}'),
    "null": Raw(b"null"),
    "a list": Raw(b"[]"),
    "an empty body": Raw(b""),
    "a page": Raw(b"<html><head><title>Sign in</title></head></html>", content_type="text/html"),
    "a page that says it is JSON": Raw(b"<html><title>Sign in</title></html>"),
    "JSON that says it is text": replace(completion(), content_type="text/plain"),
    "truncated JSON": Raw(completion().body[:-40]),
    "no UTF-8": Raw(completion("abc").body.replace(b"abc", b"\xff\xfe")),
    "half a surrogate pair": Raw(completion("abc").body.replace(b"abc", rb"\ud83d")),
    "deeply nested": Raw(b'{"a":' * 5_000 + b"1" + b"}" * 5_000),
    "infinite numbers": Raw(completion(usage={"prompt_tokens": 1}).body.replace(b'": 1', b'": Infinity')),
    "broken gzip": packed(gzip.compress(completion().body)[:-12] + b"x" * 12, "gzip"),
    "no gzip": packed(completion().body, "gzip"),
    "gzip with bytes behind it": packed(gzip.compress(completion().body) + b"xx", "gzip"),
    "an unknown encoding": packed(completion().body, "x-snappy"),
    "201": replace(completion(), status=201),
    "204": Raw(b"", 204),
    "400": Failure(400, "bad", "invalid_request_error"),
    "400 about the window": Failure(400, "maximum context length is 10 tokens", "invalid_request_error", "context_length_exceeded"),
    "400 about the filter": Failure(400, "filtered", "invalid_request_error", "content_filter"),
    "401": Failure(401, "Incorrect API key provided", "invalid_request_error", "invalid_api_key"),
    "402": Failure(402, "Insufficient Balance"),
    "403": Failure(403, "forbidden"),
    "404": Failure(404, "no such model", "invalid_request_error", "model_not_found"),
    "404 as a page": Raw(b"<html><head><title>404 Not Found</title></head></html>", 404, "text/html"),
    "405": Failure(405, "not that way"),
    "408": Failure(408, "late"),
    "409": Failure(409, "conflict"),
    "413": Raw(b"<html><head><title>413 Request Entity Too Large</title></head></html>", 413, "text/html"),
    "422": Raw(b'{"detail": [{"loc": ["body", "messages"], "msg": "nope"}]}', 422),
    "422 about a parameter": Failure(422, "temperature is not supported", "invalid_request_error"),
    "425": Failure(425, "early"),
    "429": Failure(429, "slow down", "rate_limit_error", headers=LIMITS),
    "429 without quota": Failure(429, "you exceeded your quota", "insufficient_quota", "insufficient_quota"),
    "429 without a body": Raw(b"", 429, headers={"retry-after-ms": "1500"}),
    "451": Failure(451, "not here"),
    "500": Failure(500, "boom"),
    "502 as a page": Raw(b"<html><head><title>502 Bad Gateway</title></head></html>", 502, "text/html"),
    "503 loading": Raw(b'{"error": {"message": "Loading model", "code": 503}}', 503),
    "504": Failure(504, "late"),
    "529": Raw(b'{"error": {"type": "overloaded_error"}}', 529),
    "599": Failure(599, "what"),
    "a packed error": Raw(gzip.compress(b'{"error": {"message": "zip"}}'), 400, headers={"content-encoding": "gzip"}),
    "a redirect to nowhere": Raw(b"", 307, headers=REDIRECT),
    "a redirect without a place": Raw(b"", 302),
    "304": Raw(b"", 304),
    "a closed connection": Drop(),
    "half an answer": Drop("a text of some length"),
    "silence": Hang(0.05),
}  # fmt: skip
"""Handed to litellm, with what came."""

CASES = USUAL | ODD


EVENTS = "text/event-stream"


def as_stream(outcome: Any, size: int = 5) -> Any:
    """Return the same completion as events: its text in pieces, and its usage at the end."""
    whole = json.loads(outcome.body) if isinstance(outcome, Raw) and outcome.status == 200 else None
    if not isinstance(whole, dict) or not isinstance(whole.get("choices"), list):
        return outcome
    (choice,) = whole.pop("choices")
    said, usage = dict(choice.pop("message")), whole.pop("usage", ...)
    content, finish = said.pop("content", None), choice.pop("finish_reason")
    pieces = (
        [content[at : at + size] for at in range(0, len(content), size)] if isinstance(content, str) else []
    )
    deltas = [
        {**said, "content": content if not pieces else ""},
        *({"content": piece} for piece in pieces),
        {},
    ]
    chunks = [{**whole, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    chunks[-1]["choices"][0] |= {**choice, "finish_reason": finish}
    if usage is not ...:
        chunks.append({**whole, "choices": [], "usage": usage})
    return events(*chunks)


def events(*chunks: Any, done: bytes = b"data: [DONE]\n\n", end: bytes = b"\n\n") -> Raw:
    lines = (chunk if isinstance(chunk, bytes) else json.dumps(chunk).encode() for chunk in chunks)
    return Raw(b"".join(b"data: " + line + end for line in lines) + done, content_type=EVENTS)


class Listener:
    """Hears replies."""

    def __init__(self) -> None:
        self.text = ""

    def restart(self) -> None:
        self.text = ""

    def feed(self, text: str) -> None:
        self.text += text


class Bench:
    """A server that answers what it is told, and a provider that has learned how litellm asks it."""

    def __init__(self, server: ModelServer, outcomes: list[Any]) -> None:
        self.server, self.outcomes = server, outcomes
        self.provider = LitellmProvider()
        self.by_litellm = 0
        litellm = import_litellm()
        self.original = litellm.acompletion

        async def counted(**arguments: Any) -> Any:
            self.by_litellm += 1
            return await self.original(**arguments)

        litellm.acompletion = counted

    def request(self, model: str = "openai/any", **params: Any) -> ModelRequest:
        params = {"api_base": self.server.url, "api_key": "k", "timeout": 20.0, **params}
        return ModelRequest(model, (Message("system", "Be brief."), Message("user", "hi")), 100, params)

    async def learn(self, request: ModelRequest) -> None:
        self.outcomes[:] = [completion(service_tier="default")]  # litellm's reader for Groq fails without it
        for _ in range(3):
            await self.provider.complete(request)

    async def ask(self, request: ModelRequest, *outcomes: Any) -> tuple[Any, int, int]:
        """Return the result, how many requests the server had, and how many calls litellm."""
        self.outcomes[:] = outcomes
        self.server.reset()
        self.by_litellm = 0
        try:
            reply = await self.provider.complete(request)
            # The server counts its replies, and litellm makes an id up where there is none; LM Studio names no provider.
            result: Any = replace(
                reply,
                id="" if reply.id.startswith("chatcmpl-") else reply.id,
                model=reply.model.removeprefix("lm_studio/"),
            )
        except RLMError as error:
            result = facts_of(error)
        return result, self.server.calls, self.by_litellm


def facts_of(error: RLMError) -> dict[str, Any]:
    names = ("status", "kind", "retry_after_s")
    facts = {name: getattr(error, name, None) for name in names}
    headers = {
        name: value for name, value in (getattr(error, "headers", None) or {}).items() if name != "date"
    }
    return {"type": type(error).__name__, "text": str(error), "headers": headers, **facts}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench() -> AsyncIterator[Bench]:
    outcomes: list[Any] = []

    def script(_request: object) -> Any:
        return outcomes.pop(0) if len(outcomes) > 1 else outcomes[0]

    with ModelServer(script) as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr(http_client, "STALE_S", 600.0)  # however slow the machine is
        bench = Bench(server, outcomes)
        yield bench
        import_litellm().acompletion = bench.original
    await asyncio.sleep(0.01)  # connections of both transports see that the server has gone


TWO_REQUESTS = {
    "a redirect to nowhere": "litellm asks again, and follows it",
    "a redirect without a place": "the same",
    "a closed connection": "a connection from the pool that breaks at once is replaced",
    "silence": "the same",
}


@pytest.mark.parametrize("name", CASES)
async def test_a_reply_is_the_same_by_either_transport(bench: Bench, name: str):
    request = bench.request()
    await bench.learn(request)
    by_litellm, requests, _ = await bench.ask(replace(request, transport="litellm"), CASES[name])
    here, requests_here, calls_of_litellm = await bench.ask(request, CASES[name])
    assert here == by_litellm
    assert (calls_of_litellm == 0) == (name in USUAL)
    assert requests_here == requests + (name in TWO_REQUESTS)


NOT_STREAMED = frozenset(
    {
        "gzip",
        "deflate",
        "in small pieces",
        "a long text",
        "a charset",
        "rate-limit headers",
        "headers of the same name",
    }
)
"""These are about the bytes of a body."""
STREAMED = [name for name in USUAL if name not in NOT_STREAMED] + [
    "content as parts", "thinking parts", "a tool call", "a tool call that stops", "a function call", "finish reason eos",
    "an unknown finish reason", "finish reason error", "counts as texts", "counts as fractions", "usage as a list",
    "odd details", "cache counts of Anthropic", "reasoning tokens beside", "an error of MiniMax", "no error of MiniMax",
    "an unknown field", "a hostile field", "a hostile model", "an unknown field in the message", "another role", "400", "401",
    "429", "429 without quota", "500", "503 loading", "413", "a packed error",
]  # fmt: skip


@pytest.mark.parametrize("name", STREAMED)
async def test_a_streamed_reply_is_the_one_that_comes_whole(bench: Bench, name: str):
    listener = Listener()
    request = bench.request()
    await bench.learn(request)
    whole, *_ = await bench.ask(replace(request, transport="litellm"), CASES[name])
    streamed, requests, _ = await bench.ask(replace(request, listener=listener), as_stream(CASES[name]))
    assert streamed == whole
    assert requests == 1
    assert bench.server.requests[0].body["stream_options"] == {"include_usage": True}
    if isinstance(streamed, ModelReply):
        assert listener.text == streamed.text


HI = [{"choices": [{"index": 0, "delta": {"content": text}}]} for text in ("h", "i")]
STOP = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
BUSY = {"error": {"code": 429, "message": "busy; please retry in 2s"}}
NO_STREAMS = Failure(400, "streaming is not supported for this model", "invalid_request_error")
NO_OPTIONS = Failure(422, "Extra inputs are not permitted: stream_options", "invalid_request_error")

BROKEN_STREAMS = {
    "an error at once": (events(BUSY), "rate_limited", ""),
    "an error in the middle": (events(*HI, BUSY), "rate_limited", "hi"),
    "an error of a server": (
        events(*HI, b'{"object":"error","message":"boom","code":503}'),
        "server_error",
        "hi",
    ),
    "no end": (events(*HI, done=b""), "connection", "hi"),
    "no events": (events(done=b""), "connection", ""),
    "half of the body": (Drop("a text of some length"), "connection", None),
    "no stream that was packed": (
        replace(events(*HI), headers={"content-encoding": "gzip"}),
        "connection",
        "",
    ),
    "packed in an unknown way": (replace(events(*HI), headers={"content-encoding": "br"}), "connection", ""),
    "a chunk that is no JSON": (events(*HI, b"{oops"), "server_error", "hi"),
}


@pytest.mark.parametrize("name", BROKEN_STREAMS)
async def test_a_stream_that_breaks_is_an_error_that_may_pass(bench: Bench, name: str):
    outcome, kind, heard = BROKEN_STREAMS[name]
    listener = Listener()
    request = bench.request()
    await bench.learn(request)
    error, *_ = await bench.ask(replace(request, listener=listener), outcome)
    assert (error["type"], error["kind"]) == ("TransientModelError", kind)
    assert heard is None or listener.text == heard


async def test_a_first_call_is_streamed_too(bench: Bench):
    listener = Listener()
    request = replace(bench.request("openai/gpt-any", seed=91), listener=listener)
    reply, requests, by_litellm = await bench.ask(request, as_stream(completion("hello")))
    assert (reply.text, reply.usage.tokens, listener.text) == ("hello", 15, "hello")
    assert (requests, by_litellm) == (1, 1)


@pytest.mark.parametrize(
    ("refusals", "counted"), [([NO_OPTIONS], 0), ([NO_STREAMS], 15), ([NO_OPTIONS, NO_STREAMS], 15)]
)
async def test_a_server_that_refuses_to_stream_is_asked_as_it_can(bench: Bench, refusals, counted):
    listener = Listener()
    request = bench.request(seed=100 + len(refusals) * 10 + counted)
    await bench.learn(request)
    rest = completion() if NO_STREAMS in refusals else events(*HI, STOP)
    reply, requests, _ = await bench.ask(replace(request, listener=listener), *refusals, rest)
    assert (reply.text, reply.usage.tokens, requests) == ("hi", counted, len(refusals) + 1)
    reply, requests, _ = await bench.ask(replace(request, listener=listener), rest)
    assert (reply.text, requests) == ("hi", 1)


@pytest.mark.parametrize(
    ("refusal", "sent"),
    [
        (Failure(404, "no upstream is healthy", "not_found"), 1),
        (Failure(422, 'input: {"stream": true, "messages": [...]}', "invalid_request_error"), 2),
    ],
)
async def test_a_refusal_for_another_reason_does_not_end_streaming(bench: Bench, refusal, sent):
    listener = Listener()
    request = bench.request(seed=170 + sent)
    await bench.learn(request)
    _, requests, _ = await bench.ask(replace(request, listener=listener), *[refusal] * sent)
    assert requests == sent
    reply, requests, _ = await bench.ask(replace(request, listener=listener), events(*HI, STOP))
    assert (reply.text, listener.text, requests) == ("hi", "hi", 1)


async def test_a_server_that_does_not_stream_is_read_as_ever(bench: Bench):
    listener = Listener()
    request = bench.request()
    await bench.learn(request)
    reply, *_ = await bench.ask(replace(request, listener=listener), completion("whole"))
    assert (reply.text, listener.text) == ("whole", "")


async def test_a_packed_stream_is_read(bench: Bench):
    listener = Listener()
    request = bench.request()
    await bench.learn(request)
    stream = as_stream(completion("packed"))
    outcome = replace(stream, body=gzip.compress(stream.body), headers={"content-encoding": "gzip"})
    reply, *_ = await bench.ask(replace(request, listener=listener), outcome)
    assert reply.text == listener.text == "packed"
    assert bench.server.requests[0].headers["accept-encoding"] == "identity"


async def test_a_stream_that_is_too_long_is_an_error(bench: Bench, monkeypatch):
    request = bench.request(seed=92)
    await bench.learn(request)
    monkeypatch.setattr(http_client, "MAX_ANSWER_BYTES", 1_000)
    error, *_ = await bench.ask(replace(request, listener=Listener()), events(b'"' + b"x" * 2_000))
    assert error["type"] == "ModelError"
    assert "no reply of a model" in error["text"]


async def test_a_stream_that_stalls_is_a_timeout_and_is_not_asked_again(bench: Bench):
    listener, asked = Listener(), []

    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n\r\n")
        writer.write(events(HI[0], done=b"").body)
        await reader.read()  # until the client goes away
        writer.close()

    async with await asyncio.start_server(stall, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        request = bench.request(api_base=f"http://127.0.0.1:{port}/v1", timeout=0.1)
        with pytest.raises(TransientModelError) as raised:
            await bench.provider.complete(replace(request, listener=listener))
    assert (raised.value.kind, listener.text, len(asked)) == ("timeout", "h", 1)


async def test_a_connection_of_the_pool_is_replaced_for_a_stream_too(bench: Bench):
    listener = Listener()
    request = bench.request()
    await bench.learn(request)
    reply, requests, _ = await bench.ask(
        replace(request, listener=listener), Drop(), as_stream(completion("again"))
    )
    assert (reply.text, listener.text, requests) == ("again", "again", 2)


SENT = [
    ("openai/gpt-any", {}),
    ("openai/gpt-any", {"temperature": 0, "top_p": 0.5, "seed": 7, "stop": ["a", "b"], "user": "u"}),
    ("openai/gpt-any", {"extra_body": {"min_p": 0.1, "chat_template_kwargs": {"enable_thinking": False}}}),
    ("openai/gpt-any", {"extra_headers": {"x-tenant": "t"}, "timeout": 7}),
    ("openai/gpt-any", {"top_k": 3, "repetition_penalty": 1.1}),
    ("openai/gpt-5-mini", {"reasoning_effort": "low", "verbosity": "low"}),
    ("openai/gpt-5-mini", {"temperature": 0.3}),
    ("openai/o3-mini", {"temperature": 0.3, "reasoning_effort": "high"}),
    ("openai/gpt-4.1", {"logit_bias": {"5": 1}, "service_tier": "flex", "prompt_cache_key": "k"}),
    ("hosted_vllm/any", {"top_k": 3, "min_p": 0.1}),
    ("groq/llama-3.3-70b-versatile", {"seed": 7}),
    ("deepseek/deepseek-chat", {"temperature": 0}),
    ("mistral/mistral-small-latest", {"temperature": 0}),
    ("together_ai/meta-llama/Llama-3.3-70B-Instruct-Turbo", {"top_p": 0.5}),
    ("openrouter/openai/gpt-4o-mini", {"temperature": 0, "provider": {"order": ["Azure"]}}),
    ("lm_studio/gpt-any", {"temperature": 0}),
    ("azure/any", {"api_version": "2024-10-21", "temperature": 0}),
]
"""Models and parameters; litellm renames, drops and adds."""

ON_THE_WAY = ("accept-encoding", "content-length", "connection")


@pytest.mark.parametrize(("model", "params"), SENT)
async def test_a_provider_gets_the_same_request_by_either_transport(
    bench: Bench, model: str, params: dict[str, Any]
):
    if model.startswith("azure/"):
        params = {"api_base": bench.server.url.removesuffix("/v1"), **params}
    request = bench.request(model, **params)
    await bench.learn(request)
    request = replace(request, max_tokens=77, messages=(Message("system", "é\n"), Message("user", "another")))
    by_litellm, *_ = await bench.ask(
        replace(request, transport="litellm"), completion(service_tier="default")
    )
    expected = bench.server.requests[0]
    here, requests, calls_of_litellm = await bench.ask(request, completion())
    sent = bench.server.requests[0]
    assert (here, requests, calls_of_litellm) == (by_litellm, 1, 0)
    assert sent.body == expected.body
    assert {name: value for name, value in sent.headers.items() if name not in ON_THE_WAY} == {
        name: value for name, value in expected.headers.items() if name not in ON_THE_WAY
    }


LEFT_TO_LITELLM = [
    ("ollama_chat/any", {}),
    ("anthropic/claude-sonnet-4-5", {}),
    ("openai/any", {"response_format": {"type": "json_object"}}),
    ("openai/any", {"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]}),
    ("openai/any", {"n": 1}),
    ("openai/any", {"drop_params": False}),
    ("openai/any", {"num_retries": 0}),
    ("openai/any", {"an_unknown_parameter": 1}),
    ("openai/any", {"mock_response": "hi"}),
]


@pytest.mark.parametrize(("model", "params"), LEFT_TO_LITELLM)
async def test_what_is_not_known_here_is_left_to_litellm(bench: Bench, model: str, params: dict[str, Any]):
    request = bench.request(model, **params)
    for _ in range(4):
        _, _, calls_of_litellm = await bench.ask(request, completion())
        assert calls_of_litellm == 1


async def test_a_message_without_text_is_left_to_litellm(bench: Bench):
    request = bench.request()
    await bench.learn(request)
    blank = replace(
        request, messages=(*request.messages, Message("assistant", " "), Message("user", "go on"))
    )
    assert (await bench.ask(blank, completion()))[2] == 1


async def test_a_longer_conversation_is_of_the_same_kind(bench: Bench):
    request = bench.request(seed=5)
    turn = (Message("assistant", "and?"), Message("user", "go on"))
    await bench.learn(replace(request, messages=request.messages + turn))
    longer = replace(request, messages=request.messages + turn * 5)
    assert (await bench.ask(longer, completion()))[1:] == (1, 0)
    assert bench.server.requests[0].messages == [
        {"role": message.role, "content": message.content} for message in longer.messages
    ]


async def test_a_request_without_a_bound_has_none(bench: Bench):
    request = replace(bench.request(seed=6), max_tokens=None)
    await bench.learn(request)
    await bench.ask(request, completion())
    assert not {"max_tokens", "max_completion_tokens"} & bench.server.requests[0].body.keys()


async def test_a_key_from_the_environment_is_read_again_when_it_changes(bench: Bench, monkeypatch):
    request = replace(bench.request(), params={"api_base": bench.server.url, "timeout": 20.0})
    for key in ("one", "two"):
        monkeypatch.setenv("OPENAI_API_KEY", key)
        await bench.learn(request)
        assert (await bench.ask(request, completion()))[1:] == (1, 0)
        assert bench.server.requests[0].headers["authorization"] == f"Bearer {key}"


async def test_a_server_that_wants_no_key_is_asked_without_litellm(bench: Bench, monkeypatch):
    monkeypatch.delenv("HOSTED_VLLM_API_KEY", raising=False)
    params = {"api_base": bench.server.url, "timeout": 20.0}
    request = replace(bench.request("hosted_vllm/any"), params=params)
    await bench.learn(request)
    assert (await bench.ask(request, completion()))[1:] == (1, 0)


async def test_a_proxy_of_the_environment_is_asked_by_either_transport(bench: Bench, monkeypatch):
    monkeypatch.setenv("http_proxy", bench.server.url.removesuffix("/v1"))
    monkeypatch.delenv("no_proxy", raising=False)
    request = bench.request(api_base="http://provider.test/v1")
    results = [
        (await bench.ask(replace(request, transport=transport), completion()))[0]
        for transport in ("litellm", "auto", "auto", "auto")
    ]
    assert "there is no POST http://provider.test/v1/chat/completions here" in results[0]["text"]
    assert results[1:] == results[:1] * 3


async def test_an_address_that_cannot_be_reached_is_the_same_error(bench: Bench):
    request = bench.request(api_base="http://127.0.0.1:9/v1")
    results = [
        (await bench.ask(replace(request, transport=transport), completion()))[0]
        for transport in ("litellm", "auto", "auto", "auto")
    ]
    assert results[0]["kind"] == "connection"
    assert results[1:] == results[:1] * 3


async def test_silence_longer_than_the_timeout_is_the_same_error(bench: Bench):
    request = bench.request(timeout=0.05)
    results = [
        (await bench.ask(replace(request, transport=transport), Hang(20.0)))[0]
        for transport in ("litellm", "auto", "auto", "auto")
    ]
    assert [result["kind"] for result in results] == ["timeout"] * 4
    assert [result["type"] for result in results] == [results[0]["type"]] * 4


async def test_a_connection_that_broke_in_the_pool_is_replaced(bench: Bench):
    request = bench.request()
    await bench.learn(request)
    reply, requests, _ = await bench.ask(request, Drop(), completion("again"))
    assert (reply.text, requests) == ("again", 2)


async def test_a_connection_that_broke_late_is_not_replaced(bench: Bench, monkeypatch):
    monkeypatch.setattr(http_client, "STALE_S", -1.0)
    request = bench.request()
    await bench.learn(request)
    error, requests, _ = await bench.ask(request, Drop(), completion("again"))
    assert (error["kind"], requests) == ("connection", 1)


@pytest.mark.parametrize(
    "long", [completion("word " * 1_000), packed(gzip.compress(completion("a" * 5_000).body), "gzip")]
)
async def test_an_answer_that_is_too_long_is_an_error(bench: Bench, monkeypatch, long: Raw):
    request = bench.request(seed=8)
    await bench.learn(request)
    monkeypatch.setattr(http_client, "MAX_ANSWER_BYTES", 1_000)
    error, requests, _ = await bench.ask(request, long)
    assert (error["type"], requests) == ("ModelError", 1)
    assert "no reply of a model" in error["text"]


async def test_many_calls_at_once_get_their_own_replies(bench: Bench):
    bench.outcomes[:] = [completion(str(number)) for number in range(41)]
    request = bench.request(seed=9)
    replies = await asyncio.gather(*(bench.provider.complete(request) for _ in range(40)))
    assert sorted(int(reply.text) for reply in replies) == list(range(40))


async def test_a_cancelled_call_leaves_the_others_alone(bench: Bench):
    request = bench.request()
    await bench.learn(request)
    bench.outcomes[:] = [Hang(20.0), completion("still here")]
    hanging = asyncio.create_task(bench.provider.complete(request))
    while bench.server.in_flight == 0:  # noqa: ASYNC110 - the server runs in another thread
        await asyncio.sleep(0)
    hanging.cancel()
    assert (await bench.provider.complete(request)).text == "still here"
    with pytest.raises(asyncio.CancelledError):
        await hanging
