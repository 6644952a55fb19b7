"""An OpenAI-compatible model server on loopback that does what a script says.

One event loop in one thread serves any number of connections: latency is a timer, not a sleeping
thread. It speaks `POST /v1/chat/completions` (streaming too), `GET /v1/models`, `GET /stats` and
`DELETE /stats`. It checks no key and knows no TLS: it is for tests and benchmarks on one machine.

What a scripted provider counts, readable from any thread.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Any, Self, cast

from rlm_ray.core.llm import Usage
from rlm_ray.testing.http1 import HttpRequest, ProtocolError, RequestParser
from rlm_ray.testing.openai_wire import TimedResponse, failure, json_response, to_timed_response
from rlm_ray.testing.responses import Failure, Outcome, Request, Script, in_order

_logger = logging.getLogger(__name__)

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_START_TIMEOUT_S = 30.0


class ModelServer:
    """Serves a script from a thread of its own, for as long as the `with` block lasts.

    `script` is a function of a `Request`, or a list of outcomes in order.
    """

    def __init__(  # noqa: PLR0913 - all but the script are keywords that tests rarely need
        self,
        script: Script | Sequence[Outcome],
        *,
        latency_s: float = 0.0,
        record: bool = True,
        models: Sequence[str] = ("scripted",),
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        call = script if callable(script) else in_order(script)
        self._service = _Service(call, latency_s, RequestStats(record=record), tuple(models))
        self._host = host
        self._port = port
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread: threading.Thread | None = None
        self._ready = threading.Event()
        self._failed: BaseException | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Listen; returns when connections are accepted."""
        if self._thread is not None:
            raise RuntimeError("this server was started before; make a new one")
        self._thread = threading.Thread(target=self._run, name="model-server", daemon=True)
        self._thread.start()
        if not self._ready.wait(_START_TIMEOUT_S):
            raise RuntimeError("the model server did not start in time")
        if self._failed is not None:
            raise self._failed

    def close(self) -> None:
        """Close all connections, answered or not, and end the thread."""
        if self._loop is not None and self._stop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop.set)
        if self._thread is not None:
            self._thread.join()

    @property
    def port(self) -> int:
        return self._port

    @property
    def url(self) -> str:
        """Return the `api_base` for clients: it ends in `/v1`."""
        return f"http://{self._host}:{self._port}/v1"

    @property
    def requests(self) -> tuple[Request, ...]:
        """Return the last 10,000 requests, oldest first; none with `record=False`."""
        return self._service.counters.requests

    @property
    def calls(self) -> int:
        return self.stats().calls

    @property
    def in_flight(self) -> int:
        return self.stats().in_flight

    @property
    def peak_in_flight(self) -> int:
        return self.stats().peak_in_flight

    def stats(self) -> Stats:
        return self._service.counters.snapshot()

    def reset(self) -> None:
        """Start all counters and the record anew."""
        self._service.counters.reset()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except OSError as error:  # the port is taken: tell the thread that waits in start()
            self._failed = error
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        open_connections: set[_Connection] = set()
        server = await self._loop.create_server(
            lambda: _Connection(self._service, open_connections), self._host, self._port, backlog=4096
        )
        self._port = server.sockets[0].getsockname()[1]
        self._ready.set()
        try:
            await self._stop.wait()
        finally:
            server.close()
            for connection in tuple(open_connections):
                connection.abort()
            await asyncio.sleep(0)  # lets the transports close their sockets


class _Service:
    """From a parsed HTTP request to what the connection shall do."""

    def __init__(
        self, script: Script, latency_s: float, counters: RequestStats, models: tuple[str, ...]
    ) -> None:
        self.counters = counters
        self._script = script
        self._latency_s = latency_s
        self._models = models
        self._ordinal = 0

    def answer(self, http: HttpRequest) -> tuple[TimedResponse, Request | None]:
        """Return what to write and when, and the completion request if it was one."""
        match http.method, http.path.rstrip("/"):
            case "POST", "/v1/chat/completions":
                return self._complete(http)
            case "GET", "/v1/models":
                return _at_once(200, {"object": "list", "data": [_model(name) for name in self._models]})
            case "GET", "/stats":
                return _at_once(200, self._stats())
            case "DELETE", "/stats":
                self.counters.reset()
                return _at_once(200, {})
            case method, path:
                return _at_once(404, {"error": {"message": f"there is no {method} {path} here"}})

    def _complete(self, http: HttpRequest) -> tuple[TimedResponse, Request | None]:
        try:
            body = json.loads(http.body)
        except ValueError:
            body = None
        if not isinstance(body, dict):
            return _at_once(400, {"error": {"message": "the body is not a JSON object"}})
        request = Request(body, http.headers, self._ordinal)
        self._ordinal += 1
        self.counters.began(request)
        return to_timed_response(self._outcome(request), request, self._latency_s), request

    def _outcome(self, request: Request) -> Outcome:
        try:
            return self._script(request)
        except Exception as error:
            # A test's script is wrong: say so where the test will see it, and go on serving.
            _logger.exception("the script failed on request %d", request.ordinal)
            return Failure(400, f"the script raised {error!r}", "script_error")

    def _stats(self) -> dict[str, Any]:
        stats = asdict(self.counters.snapshot())
        ledger = getattr(self._script, "ledger", None)
        return stats | {"provider": asdict(ledger())} if callable(ledger) else stats


def _at_once(status: int, value: dict[str, Any]) -> tuple[TimedResponse, None]:
    return TimedResponse(((0.0, json_response(status, value)),), label=str(status)), None


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "rlm_ray.testing"}


class _Connection(asyncio.Protocol):
    """Answers the requests of one connection one after another, in order."""

    def __init__(self, service: _Service, open_connections: set[_Connection]) -> None:
        self._service = service
        self._open = open_connections
        self._parser = RequestParser()
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._now: tuple[TimedResponse, Request | None, bool] | None = None
        """What is being answered, and whether the connection stays open after it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._open.discard(self)
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        self._ended(label="gone")

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._parser.feed(data)
        if self._now is None:
            self._advance()

    def _advance(self) -> None:
        while self._now is None and self._transport is not None:
            try:
                http = self._parser.next_request()
            except ProtocolError as error:
                self._transport.write(failure(Failure(error.status, error.why, "invalid_request_error")))
                self._transport.close()
                return
            if http is None:
                if self._parser.expects_continue:
                    self._transport.write(_CONTINUE)
                return
            answer, request = self._service.answer(http)
            self._now = (answer, request, http.keep_alive and not answer.close)
            self._play(0)

    def _play(self, index: int) -> None:
        """Write the pieces that are due, and set a timer for the first one that is not."""
        while self._now is not None:
            wait_s = self._now[0].steps[index][0]
            if wait_s > 0:
                self._timer = self._loop.call_later(wait_s, self._due, index)
                return
            self._write(index)
            index += 1

    def _due(self, index: int) -> None:
        self._write(index)
        self._play(index + 1)
        self._advance()

    def _write(self, index: int) -> None:
        if self._now is None or self._transport is None:
            return
        answer, _, stays_open = self._now
        last = index == len(answer.steps) - 1
        if last:  # counted first, so that a client which has its answer also sees it counted
            self._ended(label=None)
        self._transport.write(answer.steps[index][1])
        if last and not stays_open:
            self._transport.close()
            self._transport = None

    def _ended(self, label: str | None) -> None:
        if self._now is None:
            return
        answer, request, _ = self._now
        self._now = None
        if request is not None:
            usage = answer.usage if label is None else None
            self._service.counters.ended(request.model, label or answer.label, usage)


KEPT_REQUESTS = 10_000


@dataclass(frozen=True, slots=True)
class Stats:
    """A snapshot of the counters."""

    calls: int = 0
    """Completions asked for, answered or not."""
    in_flight: int = 0
    peak_in_flight: int = 0
    answers: Mapping[str, int] = field(default_factory=dict)
    """By status (`200`, `429` ...), `dropped`, `hung`; `gone`: the client left before the answer."""
    input_tokens: Mapping[str, int] = field(default_factory=dict)
    """By model, as the answers reported them."""
    output_tokens: Mapping[str, int] = field(default_factory=dict)


class RequestStats:
    """Counts requests as they come and go, and keeps the last 10,000 of them if asked to."""

    def __init__(self, *, record: bool) -> None:
        self._lock = threading.Lock()
        self._kept: deque[Request] = deque(maxlen=KEPT_REQUESTS if record else 0)
        self._in_flight = 0
        self._clear()

    def _clear(self) -> None:
        self._calls = 0
        self._peak = self._in_flight
        self._answers: Counter[str] = Counter()
        self._input: Counter[str] = Counter()
        self._output: Counter[str] = Counter()
        self._kept.clear()

    def reset(self) -> None:
        """Forget everything but what is in flight."""
        with self._lock:
            self._clear()

    def began(self, request: Request) -> None:
        with self._lock:
            self._calls += 1
            self._in_flight += 1
            self._peak = max(self._peak, self._in_flight)
            self._kept.append(request)

    def ended(self, model: str, label: str, usage: Usage | None) -> None:
        with self._lock:
            self._in_flight -= 1
            self._answers[label] += 1
            if usage is not None:
                self._input[model] += usage.input_tokens
                self._output[model] += usage.output_tokens

    @property
    def requests(self) -> tuple[Request, ...]:
        with self._lock:
            return tuple(self._kept)

    def snapshot(self) -> Stats:
        with self._lock:
            return Stats(
                self._calls,
                self._in_flight,
                self._peak,
                dict(self._answers),
                dict(self._input),
                dict(self._output),
            )
