"""What stands on the wire: HTTP/1.1 as much as API clients use it, and OpenAI's JSON for what a script decided.

- Requests may follow each other without waiting (pipelining); a body has a Content-Length. Chunked request bodies are refused
  with 411, heads over 64 KiB with 431.
- A `TimedResponse` is what the connection does: write these bytes at these times, then go on or close.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, assert_never

from rlm_ray.core.llm import Usage
from rlm_ray.testing.responses import Drop, Failure, Hang, Outcome, Raw, Reply, Request, Slow

MAX_HEAD_BYTES = 65_536

_REASONS = {status.value: status.phrase for status in HTTPStatus}


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A whole request."""

    method: str
    path: str
    """Without the query string."""
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def keep_alive(self) -> bool:
        return self.headers.get("connection", "").lower() != "close"


class ProtocolError(Exception):
    """These bytes are not a request that can be answered; `status` says how to refuse."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(status, why)
        self.status = status
        self.why = why


async def read_request(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter | None = None
) -> HttpRequest | None:
    """Read the next request; None where the connection ends before it is whole. Raises `ProtocolError`.

    The limit of the `reader` is to be `MAX_HEAD_BYTES`. The `writer` says `100 Continue` to a client that waits for it.
    """
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    except asyncio.LimitOverrunError as error:
        raise ProtocolError(431, "the request's head is too long") from error
    first, *lines = head[:-4].decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise ProtocolError(400, "this is not an HTTP/1.1 request")
    pairs = (line.partition(":") for line in lines)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    nbytes = _body_length(headers)
    if "expect" in headers and writer is not None:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    try:
        body = await reader.readexactly(nbytes)
    except asyncio.IncompleteReadError:
        return None
    return HttpRequest(words[0], words[1].partition("?")[0], headers, body)


def response(status: int, headers: Mapping[str, str], body: bytes) -> bytes:
    """Write one whole response; Content-Length is set."""
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Unknown')}", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace") + body


def _body_length(headers: Mapping[str, str]) -> int:
    if "transfer-encoding" in headers:
        raise ProtocolError(411, "send a Content-Length; chunked bodies are not read here")
    length = headers.get("content-length", "0")
    if not length.isdecimal():
        raise ProtocolError(400, "Content-Length is not a number")
    return int(length)


STREAM_CHARS = 24
"""How much text one event of a stream carries."""

_JSON = "application/json"


@dataclass(frozen=True, slots=True)
class TimedResponse:
    """Bytes to write, each piece so many seconds after the piece before it; at least one piece."""

    steps: tuple[tuple[float, bytes], ...]
    close: bool = False
    label: str = "200"
    """How this answer is counted: its status, `dropped` or `hung`."""
    usage: Usage | None = None


def to_timed_response(outcome: Outcome, request: Request, latency_s: float) -> TimedResponse:  # noqa: PLR0911 - one for each outcome
    """Turn an outcome into bytes and the times to write them at."""
    match outcome:
        case str():
            return to_timed_response(Reply(outcome), request, latency_s)
        case Reply():
            wait_s = latency_s if outcome.latency_s is None else outcome.latency_s
            return TimedResponse(((wait_s, completion(request, outcome)),), usage=outcome.usage(request))
        case Failure():
            wait_s = latency_s if outcome.latency_s is None else outcome.latency_s
            return TimedResponse(((wait_s, failure(outcome)),), label=str(outcome.status))
        case Raw(body, status, content_type, headers):
            data = response(status, {"content-type": content_type, **headers}, body)
            return TimedResponse(((latency_s, data),), label=str(status))
        case Slow(reply, seconds, pieces):
            whole = as_reply(reply)
            data = completion(request, whole)
            return TimedResponse(_dribble(data, seconds, pieces), usage=whole.usage(request))
        case Hang(seconds):
            return TimedResponse(((seconds, b""),), close=True, label="hung")
        case Drop(None, after_s):
            return TimedResponse(((after_s, b""),), close=True, label="dropped")
        case Drop(reply, after_s):
            data = completion(request, as_reply(reply or ""))
            return TimedResponse(((after_s, data[: -len(data) // 4]),), close=True, label="dropped")
        case _:
            assert_never(outcome)


def as_reply(reply: Reply | str) -> Reply:
    return Reply(reply) if isinstance(reply, str) else reply


def completion(request: Request, reply: Reply) -> bytes:
    """Write the whole HTTP response: a completion, or all events of a stream."""
    usage = reply.usage(request)
    if request.stream:
        headers = {"content-type": "text/event-stream", **reply.headers}
        return response(200, headers, _events(request, reply, usage))
    message: dict[str, Any] = {"role": "assistant", "content": reply.text}
    if reply.tool_calls:
        message["tool_calls"] = list(reply.tool_calls)
    choice = {"index": 0, "message": message, "finish_reason": reply.finish_reason}
    body = _envelope(request, "chat.completion", [choice]) | {"usage": _usage_json(usage)}
    return response(200, {"content-type": _JSON, **reply.headers}, json.dumps(body).encode())


def failure(refusal: Failure) -> bytes:
    error = {"message": refusal.message, "type": refusal.kind, "param": None, "code": refusal.code}
    headers = {"content-type": _JSON, **refusal.headers}
    return response(refusal.status, headers, json.dumps({"error": error}).encode())


def json_response(status: int, value: Mapping[str, Any]) -> bytes:
    return response(status, {"content-type": _JSON}, json.dumps(value).encode())


def _usage_json(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def _envelope(request: Request, kind: str, choices: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{request.ordinal}",
        "object": kind,
        "created": 0,
        "model": request.model,
        "choices": list(choices),
    }


def _events(request: Request, reply: Reply, usage: Usage) -> bytes:
    text = reply.text or ""
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": text[at : at + STREAM_CHARS]} for at in range(0, len(text), STREAM_CHARS)]
    if reply.tool_calls:
        calls = [{"index": index, **call} for index, call in enumerate(reply.tool_calls)]
        deltas.append({"tool_calls": calls})
    chunks = [
        _envelope(request, "chat.completion.chunk", [{"index": 0, "delta": delta, "finish_reason": None}])
        for delta in deltas
    ]
    last = {"index": 0, "delta": {}, "finish_reason": reply.finish_reason}
    chunks.append(_envelope(request, "chat.completion.chunk", [last]))
    options = request.body.get("stream_options")
    if isinstance(options, dict) and options.get("include_usage"):
        chunks.append(_envelope(request, "chat.completion.chunk", []) | {"usage": _usage_json(usage)})
    lines = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks]
    return "".join([*lines, "data: [DONE]\n\n"]).encode()


def _dribble(data: bytes, seconds: float, pieces: int) -> tuple[tuple[float, bytes], ...]:
    size = -(-len(data) // pieces)
    parts = [data[at : at + size] for at in range(0, len(data), size)]
    return tuple((seconds / len(parts), part) for part in parts)
