"""An OpenAI-compatible model server on loopback that does what a script says.

One event loop in one thread serves any number of connections: latency is a timer, not a sleeping thread. It speaks `POST /v1/chat/completions` (streaming too), `GET /v1/models`, `GET /stats` and
`DELETE /stats`. It checks no key and knows no TLS: it is for tests and benchmarks on one machine.

What a scripted provider counts, readable from any thread.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Any, Self

from rlm_ray.core.llm import Usage
from rlm_ray.testing.openai_wire import (
    MAX_HEAD_BYTES,
    HttpRequest,
    ProtocolError,
    TimedResponse,
    failure,
    json_response,
    read_request,
    to_timed_response,
)
from rlm_ray.testing.responses import Failure, Outcome, Request, Script, in_order

_logger = logging.getLogger(__name__)

_START_TIMEOUT_S = 30.0
_MAX_PORTS_TRIED = 100
_AZURE_PATH = re.compile(r"/openai/deployments/[^/]+/chat/completions")
_ports_had: set[int] = set()
"""The ports that servers of this process have had."""


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
        server = await self._listen(lambda: _Connection(self._service, open_connections))
        self._ready.set()
        try:
            await self._stop.wait()
        finally:
            server.close()
            for connection in tuple(open_connections):
                connection.abort()
            await asyncio.sleep(0)  # lets the transports close their sockets

    async def _listen(self, connection: Callable[[], _Connection]) -> asyncio.Server:
        """Listen on the port asked for, or on one that no server of this process had.

        The admission remembers an address that asked to be left alone for ten minutes: a new server there would wait for it.
        """
        assert self._loop is not None
        for _ in range(_MAX_PORTS_TRIED):
            server = await self._loop.create_server(connection, self._host, self._port, backlog=4096)
            port: int = server.sockets[0].getsockname()[1]
            if self._port or port not in _ports_had:
                break
            server.close()
        self._port = port
        _ports_had.add(port)
        return server


class _Service:
    """Answers requests as the script says."""

    def __init__(
        self, script: Script, latency_s: float, counters: RequestStats, models: tuple[str, ...]
    ) -> None:
        self.counters = counters
        self._script = script
        self._latency_s = latency_s
        self._models = models
        self._ordinal = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection one after another, in order."""
        try:
            while (http := await read_request(reader, writer)) is not None:
                answer, request = self.answer(http)
                await self._write(answer, request, writer)
                if answer.close or not http.keep_alive:
                    return
        except ProtocolError as error:
            writer.write(failure(Failure(error.status, error.why, "invalid_request_error")))
        finally:
            writer.close()

    async def _write(
        self, answer: TimedResponse, request: Request | None, writer: asyncio.StreamWriter
    ) -> None:
        """Write the pieces when they are due; count the request before the last, so that a client which has its answer also
        sees it counted.
        """
        label, usage = "gone", None
        *firsts, last = answer.steps
        try:
            for wait_s, data in firsts:
                await asyncio.sleep(wait_s)
                writer.write(data)
            if last[0] > 0:
                await asyncio.sleep(last[0])
            label, usage = answer.label, answer.usage
        finally:
            if request is not None:
                self.counters.ended(request.model, label, usage)
        writer.write(last[1])

    def answer(self, http: HttpRequest) -> tuple[TimedResponse, Request | None]:
        """Return what to write and when, and the completion request if it was one."""
        match http.method, http.path.rstrip("/"):
            case "POST", path if path == "/v1/chat/completions" or _AZURE_PATH.fullmatch(path):
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


class _Connection(asyncio.StreamReaderProtocol):
    """Has the requests of one connection answered, and gives up with it."""

    def __init__(self, service: _Service, open_connections: set[_Connection]) -> None:
        super().__init__(asyncio.StreamReader(limit=MAX_HEAD_BYTES), self._begin)
        self._service = service
        self._open = open_connections
        self._work: asyncio.Task[None] | None = None

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(self)
        self._writer = writer
        self._work = asyncio.create_task(self._service.serve(reader, writer))

    def eof_received(self) -> bool:
        super().eof_received()
        return False  # a client that sends no more has gone: the connection closes

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._open.discard(self)
        if self._work is not None:
            self._work.cancel()

    def abort(self) -> None:
        self._writer.transport.abort()


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
        self._reset_counters()

    def _reset_counters(self) -> None:
        """Forget what was counted and kept; requests in flight stay in flight."""
        self._calls = 0
        self._peak = self._in_flight
        self._answers: Counter[str] = Counter()
        self._input: Counter[str] = Counter()
        self._output: Counter[str] = Counter()
        self._kept.clear()

    def reset(self) -> None:
        """Forget everything but what is in flight."""
        with self._lock:
            self._reset_counters()

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
