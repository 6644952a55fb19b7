"""The address that every method asks: it asks the model, counts, and remembers answers.

All methods see the same OpenAI-compatible server on loopback, so calls, tokens and cost are counted where they happen,
in the same way for each, and no method's process ever holds a key. Behind it is an OpenAI-compatible endpoint (requests
go on as they are) or any model litellm knows. Each cell has a prefix of its own: `/cell/7/v1`.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
from aiohttp import web

_MAX_BODY = 1 << 30
_IGNORED = ("stream", "stream_options")
_START_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class ModelAddress:
    """Which model answers, and where."""

    model: str
    """As litellm names it: `openai/qwen`, `anthropic/...`."""
    base: str = ""
    """An OpenAI-compatible address that ends in `/v1`; empty: litellm finds the provider by the model's name."""
    api_key: str = "none"
    """For `base`; without it, litellm takes keys from its environment variables."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """What requests say that do not say it themselves, such as temperature and max_tokens."""

    price_usd: tuple[float, float] | None = None
    """For a million tokens in and out; None: litellm's price of a model without `base`, else unknown."""

    @property
    def short_name(self) -> str:
        """The model's name as its own server knows it."""
        return self.model.partition("/")[2] or self.model


@dataclass(slots=True)
class CellUsage:
    """What one cell asked of the model; tokens as the provider counted them."""

    calls: int = 0
    """Answered ones."""
    refused: int = 0
    """Answered with an error."""
    cached: int = 0
    """Calls that an earlier run of this cell, or another, had made."""
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = None
    """Of the calls whose price is known; None: of none."""
    model_s: float = 0.0
    """Waited for the model, calls added up."""
    saved_s: float = 0.0
    """What cached calls took when they were made."""
    last_error: str = ""
    asked: Counter[str] = field(default_factory=Counter)
    """Times each request was made: the second equal one is another draw."""


class Endpoint:
    """A server in a thread of its own, for as long as the `with` block lasts."""

    def __init__(
        self, address: ModelAddress, cache: Path | None = None, transcripts: Path | None = None
    ) -> None:
        self.address = address
        self._cache = cache
        self._transcripts = transcripts
        self._usage: dict[str, CellUsage] = {}
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve()), name="endpoint", daemon=True
        )
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._session: aiohttp.ClientSession | None = None
        self._port = 0

    def __enter__(self) -> Self:
        for folder in (self._cache, self._transcripts):
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
        self._thread.start()
        if not self._ready.wait(_START_TIMEOUT_S):
            raise RuntimeError("the endpoint did not start in time")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def open_cell(self, cell: str) -> str:
        """Return the address for one cell, with its counters at zero."""
        self._usage[cell] = CellUsage()
        return f"http://127.0.0.1:{self._port}/cell/{cell}/v1"

    def usage(self, cell: str) -> CellUsage:
        return self._usage[cell]

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application(client_max_size=_MAX_BODY)
        app.router.add_post("/cell/{cell}/v1/chat/completions", self._complete)
        app.router.add_get("/cell/{cell}/{path:.*}", self._pass_on)
        # A request whose caller is gone is cancelled, and so is the one behind it.
        runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=1.0)
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(timeout=timeout) as self._session:
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self._port = runner.addresses[0][1]
            self._ready.set()
            await self._stop.wait()
            await runner.cleanup()

    async def _complete(self, request: web.Request) -> web.Response:
        usage = self._usage.get(request.match_info["cell"])
        if usage is None:
            return web.json_response({"error": {"message": "this cell has ended"}}, status=410)
        sent = {**self.address.params, **await request.json(), "model": self.address.short_name}
        body = {name: value for name, value in sent.items() if name not in _IGNORED}
        key = hashlib.sha256(json.dumps([self.address.model, body], sort_keys=True).encode()).hexdigest()
        usage.asked[key] += 1
        remembered = self._cache / f"{key[:40]}-{usage.asked[key]}.json" if self._cache else None
        if remembered is not None and remembered.exists():
            entry = json.loads(remembered.read_text("utf-8"))
            usage.cached += 1
            usage.saved_s += entry["seconds"]
            status, reply = 200, entry["reply"]
        else:
            started = time.monotonic()
            status, reply = await self._ask(body)
            seconds = time.monotonic() - started
            usage.model_s += seconds
            if status == 200 and remembered is not None:
                remembered.write_text(json.dumps({"seconds": seconds, "reply": reply}), "utf-8")
        self._count(usage, status, reply)
        self._write_transcript(request.match_info["cell"], body, status, reply)
        return web.json_response(reply, status=status)

    async def _ask(self, body: dict[str, Any]) -> tuple[int, Any]:
        """Return the status and the JSON that the model's server answers."""
        if not self.address.base:
            return await _ask_litellm(self.address.model, body)
        assert self._session is not None
        headers = {"authorization": f"Bearer {self.address.api_key}"}
        try:
            async with self._session.post(
                f"{self.address.base}/chat/completions", json=body, headers=headers
            ) as answer:
                return answer.status, await answer.json(content_type=None)
        except (aiohttp.ClientError, ValueError) as error:
            return 502, {"error": {"message": f"{type(error).__name__}: {error}"}}

    async def _pass_on(self, request: web.Request) -> web.Response:
        """Answer questions about the server, such as `/props` and `/v1/models`, as it does."""
        if not self.address.base:
            return web.json_response({"error": {"message": "not known here"}}, status=404)
        assert self._session is not None
        url = f"{self.address.base.removesuffix('/v1')}/{request.match_info['path']}"
        try:
            headers = {"authorization": f"Bearer {self.address.api_key}"}
            async with self._session.get(url, headers=headers) as answer:
                body = await answer.read()
                return web.Response(body=body, status=answer.status, content_type=answer.content_type)
        except aiohttp.ClientError as error:
            return web.json_response({"error": {"message": str(error)}}, status=502)

    def _count(self, usage: CellUsage, status: int, reply: Any) -> None:
        if status != 200:
            usage.refused += 1
            usage.last_error = error_message(reply)
            return
        counted = reply.get("usage") or {}
        tokens = int(counted.get("prompt_tokens") or 0), int(counted.get("completion_tokens") or 0)
        usage.calls += 1
        usage.input_tokens += tokens[0]
        usage.output_tokens += tokens[1]
        cost_usd = _cost_usd(self.address, *tokens)
        if cost_usd is not None:
            usage.cost_usd = (usage.cost_usd or 0.0) + cost_usd

    def _write_transcript(self, cell: str, body: Mapping[str, Any], status: int, reply: Any) -> None:
        if self._transcripts is not None:
            with (self._transcripts / f"{cell}.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps({"request": body, "status": status, "reply": reply}) + "\n")


async def _ask_litellm(model: str, body: dict[str, Any]) -> tuple[int, Any]:
    import litellm

    try:
        reply = await litellm.acompletion(**{**body, "model": model}, num_retries=0, max_retries=0)
    except Exception as error:  # noqa: BLE001 - whatever the provider's client raises is the caller's answer
        status = int(getattr(error, "status_code", None) or 500)
        return status, {"error": {"message": str(error), "type": type(error).__name__}}
    return 200, json.loads(reply.model_dump_json())


def _cost_usd(address: ModelAddress, input_tokens: int, output_tokens: int) -> float | None:
    if address.price_usd is not None:
        return (input_tokens * address.price_usd[0] + output_tokens * address.price_usd[1]) / 1e6
    if address.base:
        return None
    import litellm

    try:
        return float(sum(litellm.cost_per_token(address.model, input_tokens, output_tokens)))
    except Exception:  # noqa: BLE001 - litellm raises a plain Exception for a model without a price
        return None


def error_message(reply: Any) -> str:
    """Return the sentence of an OpenAI error body."""
    error = reply.get("error") if isinstance(reply, dict) else reply
    message = error.get("message") if isinstance(error, dict) else error
    return " ".join(str(message).split())[:300]
