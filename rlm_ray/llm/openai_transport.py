"""Carries the calls of OpenAI-compatible providers over connections of our own, with litellm as the judge of all that is odd.

    kind of request → a server of one's own: template (`own_server.py`), and as below
                    → seen twice the same: template → POST → usual reply: read here
                    → not yet                        → litellm makes the call, its HTTP is done here and looked at
                                                     → anything but a usual reply: litellm reads the same bytes

A call by litellm costs more than a millisecond of CPU, one of a template about a tenth. Behaviour is litellm's: addresses,
keys, headers, names of parameters are what it sent before (`request_template.py`), and an error, a broken connection or an
odd body is handed to litellm as if it had made the request itself, without a second request.

Where somebody reads along (`ModelRequest.listener`) the reply comes as server-sent events, from the first call on, and is then read as
one that came whole. A server that refuses to stream, or to count the tokens of a stream, says so once for each kind of request.

For that `httpx.AsyncClient.send`, through which litellm sends everything, looks whether the running task has such a call.
"""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, wraps
from importlib import import_module
from typing import Any

import aiohttp

from rlm_ray.core.llm import ModelReply, ModelRequest, ReplyListener
from rlm_ray.errors import ModelError
from rlm_ray.llm.event_stream import BrokenStreamError, EventStream
from rlm_ray.llm.http_client import (
    MAX_ANSWER_BYTES,
    HttpAnswer,
    TooLongAnswerError,
    http_client,
    session_factory,
)
from rlm_ray.llm.openai_reply import read_usual_reply
from rlm_ray.llm.own_server import own_template
from rlm_ray.llm.request_template import (
    CHAT_PATH,
    Kind,
    RequestTemplate,
    kind_of_request,
    may_have_template,
    read_template,
)

MAX_KINDS = 1_000
STREAM_FIELDS = (b'"stream":true,"stream_options":{"include_usage":true}', b'"stream":true', b"")
"""What asks for a stream: with the usage at its end, without, and not at all; the next where a server refuses one."""
_NAMES_STREAM = re.compile(rb"(?<![a-z])stream")
_REFUSALS = frozenset({400, 404, 405, 406, 415, 422, 501})
_OK = 200
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_Send = Callable[[], Awaitable[Any]]

_carried: ContextVar[CarriedCall | None] = ContextVar("rlm_ray_carried_call", default=None)


@dataclass(slots=True)
class KindOfRequest:
    """What is known of how litellm sends one kind of request."""

    is_possible: bool
    """False: litellm sends these itself."""
    seen: RequestTemplate | None = None
    template: RequestTemplate | None = None
    """Set when two requests were the same but for their messages."""
    stream: int = 0
    """How a stream is asked for: a place in `STREAM_FIELDS`."""

    def note(self, sent: RequestTemplate | None) -> None:
        """Take note of what litellm sent."""
        if sent is None:
            self.refuse()
        elif self.seen == sent:
            self.template = sent
        self.seen = sent

    def refuse(self) -> None:
        """Leave these requests to litellm from now on."""
        self.is_possible, self.template = False, None


class OpenAITransport:
    """Knows the kinds of requests of this process."""

    def __init__(self) -> None:
        self._kinds: dict[Kind, KindOfRequest] = {}
        self._environment: dict[Any, Any] = {}

    def call(self, request: ModelRequest, arguments: Mapping[str, Any]) -> CarriedCall | None:
        """Return the call to carry; None for one that is litellm's alone."""
        key = kind_of_request(request)
        if key is None:
            return None
        self._forget_if_environment_changed()
        kind = self._kinds.get(key)
        if kind is None:
            if len(self._kinds) >= MAX_KINDS:
                self._kinds.clear()
            kind = self._kinds[key] = KindOfRequest(
                may_have_template(request.params), template=own_template(request, os.environ)
            )
        return CarriedCall(kind, request, arguments) if kind.is_possible else None

    def _forget_if_environment_changed(self) -> None:
        """Forget what was learned where the environment has changed: keys, addresses and proxies may stand there."""
        now = getattr(os.environ, "_data", None) or dict(os.environ)  # the dict below it: nothing is decoded
        if now != self._environment:
            self._environment = dict(now)
            self._kinds.clear()


class CarriedCall:
    """One call."""

    def __init__(self, kind: KindOfRequest, request: ModelRequest, arguments: Mapping[str, Any]) -> None:
        self._kind, self._request, self._arguments = kind, request, arguments
        self._outcome: HttpAnswer | Exception | None = None
        """What came of the request that litellm has not made yet."""
        self._requests = 0
        self.failure: ModelError | None = None
        """What is wrong with the answer that litellm was never shown."""

    @property
    def is_known(self) -> bool:
        """Tell whether it needs no litellm, unless its answer is unusual."""
        return self._kind.template is not None

    async def reply(self) -> ModelReply | None:
        """Make the call by its template; None where litellm has to make it, or to read what came of it."""
        template = self._kind.template
        if template is None:
            return None
        body = template.body(self._arguments["messages"], self._request.max_tokens)
        self._outcome = await self._post(template, body)
        if not isinstance(self._outcome, HttpAnswer):
            return None
        try:
            return read_usual_reply(self._outcome)
        except TooLongAnswerError:
            self._note_too_long()
            raise

    @contextmanager
    def by_litellm(self) -> Iterator[None]:
        """Have litellm make the call within this block: its HTTP is done here."""
        if not intercept_httpx():
            yield
            return
        token = _carried.set(self)
        try:
            yield
        finally:
            _carried.reset(token)

    async def send(self, client: Any, sent: Any, send: _Send) -> Any:
        """Return the response to litellm's `httpx.Request`: the one that has come already, else a new one."""
        if not sent.url.path.endswith(CHAT_PATH):
            self._kind.refuse()
            return await send()
        outcome, self._outcome = self._outcome, None
        if outcome is None:
            template = await self._read(client, sent)
            if self._requests == 0:
                self._kind.note(template)
            if template is None:
                return await send()
            outcome = await self._post(template, sent.content)
        self._requests += 1
        if isinstance(outcome, HttpAnswer):
            if outcome.status in _REDIRECTS:
                self._kind.refuse()
                return await send()
            httpx = import_module("httpx")
            return httpx.Response(outcome.status, headers=outcome.headers, content=outcome.body, request=sent)
        with _transports().map_aiohttp_exceptions():
            raise outcome

    async def _read(self, client: Any, sent: Any) -> RequestTemplate | None:
        transport = client._transport_for_url(sent.url)  # noqa: SLF001 - as `httpx` itself chooses it
        try:
            session_factory(transport)
            proxy = await transport._get_proxy_settings(sent)  # noqa: SLF001 - no public one
        except AttributeError:
            return None  # another transport, chosen in litellm's settings
        return read_template(sent, transport, proxy, self._arguments, os.environ)

    async def _post(self, template: RequestTemplate, body: bytes) -> HttpAnswer | Exception:
        try:
            if self._request.listener is not None and b'"stream' not in template.fields:
                return await self._stream(template, body, self._request.listener)
            return await http_client().post(template.target, body)
        except TooLongAnswerError:
            self._note_too_long()
            raise
        except BrokenStreamError:
            return aiohttp.ClientPayloadError("the stream of the reply ended before it was whole")
        except Exception as error:  # noqa: BLE001 - litellm says what it means
            return error

    async def _stream(self, template: RequestTemplate, body: bytes, listener: ReplyListener) -> HttpAnswer:
        """Return the answer, whose text the listener hears while it comes, in a way the server can: it can if it answers."""
        stream = self._kind.stream
        while fields := STREAM_FIELDS[stream]:
            events = EventStream(listener.feed)
            answer = await http_client().post(template.target, body[:-1] + b"," + fields + b"}", events)
            said = (answer.content() or b"").lower() if answer.status in _REFUSALS else b""
            if not _NAMES_STREAM.search(said):
                break
            of_usage = b"stream_options" in said or b"include_usage" in said
            stream = 1 if of_usage and not stream else 2
        else:
            answer = await http_client().post(template.target, body)
        if answer.status == _OK:
            self._kind.stream = stream
        return answer

    def _note_too_long(self) -> None:
        why = f"the provider sent more than {MAX_ANSWER_BYTES >> 20} MB, which is no reply of a model; check api_base"
        self.failure = ModelError(self._request.model, why)


@cache
def intercept_httpx() -> bool:
    """Have calls that are carried here sent here; False where litellm or httpx is not as this module knows it."""
    try:
        httpx, transports = import_module("httpx"), _transports()
        original, _ = httpx.AsyncClient.send, transports.map_aiohttp_exceptions
        _ = httpx.AsyncClient._transport_for_url  # noqa: SLF001 - see above
        _ = transports.LiteLLMAiohttpTransport._mark_connector_closed  # noqa: SLF001 - see `http_client.py`
    except (ImportError, AttributeError):
        return False

    @wraps(original)
    async def send(client: Any, request: Any, *rest: Any, **named: Any) -> Any:
        call = _carried.get()
        if call is None or named.get("stream"):
            return await original(client, request, *rest, **named)
        return await call.send(client, request, lambda: original(client, request, *rest, **named))

    httpx.AsyncClient.send = send
    return True


def _transports() -> Any:
    return import_module("litellm.llms.custom_httpx.aiohttp_transport")
