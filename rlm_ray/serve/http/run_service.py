"""What all routes use: a request made into a run, and a run found again."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from fastapi import Request
from pydantic import BaseModel

from rlm_ray.core.context import Context
from rlm_ray.errors import InputError
from rlm_ray.events.records import RunEnded
from rlm_ray.serve.api_keys import Key
from rlm_ray.serve.context_loader import Loader, Loads
from rlm_ray.serve.file_store import FileStore, StoredFile
from rlm_ray.serve.http.errors import Refusal, refusal_of_end
from rlm_ray.serve.http.schemas import RunOptions
from rlm_ray.serve.model_registry import Catalogue
from rlm_ray.serve.prompt import FileData, FileRef, Message, Question, Text, Uri, direct_messages, question_of
from rlm_ray.serve.registry_actor import DeskClient
from rlm_ray.serve.run_manager import Order, Runs
from rlm_ray.serve.run_store import Kind, Noted, State, state_of

HEADER_CHARS = 256
CANCEL_TRIES, CANCEL_S = 50, 0.1


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a request of any route asks for."""

    kind: Kind
    body: BaseModel
    model: str
    messages: Sequence[Message]
    options: RunOptions
    params: Mapping[str, Any] = field(default_factory=dict)
    background: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict)

    def digest(self) -> str:
        """The same request has the same."""
        plain = f"{self.kind} {self.body.model_dump_json()}"
        return hashlib.sha256(plain.encode("utf-8", "replace")).hexdigest()


@dataclass(frozen=True, slots=True)
class Service:
    """One for each replica."""

    catalogue: Catalogue
    runs: Runs
    desk: DeskClient
    files: FileStore
    loader: Loader
    loads: Loads
    keep_alive_s: float
    direct_without_context: bool = True

    async def begin(self, request: Request, key: Key, wanted: Wanted) -> str:
        """Start the run a request asks for; its id. All that can be known to be wrong with it is said here."""
        self._check_model(wanted.model, key)
        question = await asyncio.to_thread(question_of, wanted.messages, wanted.options.named())
        messages = self._direct_messages(wanted)
        if messages:
            question = Question(question.query)
        await self._check_sources(question, key)
        options = wanted.options.settings() | ({"max_depth": 0} if messages else {})
        noted = Noted(
            request.state.run_id, key.name, wanted.kind, wanted.model, time.time(), question.query,
            options, wanted.params, messages, background=wanted.background, metadata=wanted.metadata,
            request_id=request.headers.get("x-request-id", "")[:HEADER_CHARS],
        )  # fmt: skip
        idempotency = request.headers.get("idempotency-key", "")[:HEADER_CHARS]
        return await self.runs.begin(
            Order(
                noted,
                key,
                partial(self._load, key.name, question),
                request.headers.get("traceparent", ""),
                idempotency,
                await asyncio.to_thread(wanted.digest) if idempotency else "",
            )
        )

    async def ended(self, run_id: str) -> RunEnded:
        """The end of a run one waits for. Raises `Refusal` where it has no answer."""
        async with self.runs.attended(run_id):
            async for records in self.runs.follow(run_id):
                last = records[-1]
        assert isinstance(last, RunEnded)
        if (refusal := refusal_of_end(last)) is not None:
            raise refusal
        return last

    async def noted(self, run_id: str, key: Key) -> Noted:
        """What was asked in a run of this key. Raises `Refusal`."""
        noted = await self.runs.noted(run_id, key)
        if noted is None:
            raise Refusal(404, "not_found", "there is no run of this id")
        return noted

    async def found(self, run_id: str, key: Key) -> tuple[Noted, RunEnded | None, State]:
        """A run of this key: what was asked, how it ended, how it stands. Raises `Refusal`."""
        noted = await self.noted(run_id, key)
        end, is_open = await self.runs.end(run_id)
        return noted, end, state_of(end, is_open=is_open)

    async def cancelled(self, run_id: str, key: Key) -> tuple[Noted, RunEnded | None, State]:
        """The same, after the run was told to end. One of another replica may take a moment."""
        await self.found(run_id, key)
        await self.runs.cancel(run_id)
        for _ in range(CANCEL_TRIES):
            found = await self.found(run_id, key)
            if found[-1] != "running":
                break
            await asyncio.sleep(CANCEL_S)
        return found

    def _direct_messages(self, wanted: Wanted) -> tuple[tuple[str, str], ...]:
        """What one plain call is asked with; empty where the request wants a session, or has something to read."""
        options = wanted.options
        wish = options.direct_without_context
        is_plain = self.direct_without_context and options.max_depth is None if wish is None else wish
        if wanted.kind == "run" or not is_plain or options.named():
            return ()
        return direct_messages(wanted.messages)

    def _check_model(self, model: str, key: Key) -> None:
        if self.catalogue.settings(model) is None:
            why = f"the model {model[:100]!r} is not served here; GET /v1/models lists those that are"
            raise Refusal(404, "model_not_found", why, param="model")
        if not key.may_use(model):
            raise Refusal(403, "model_not_allowed", f"this key may not use {model!r}", param="model")

    async def _check_sources(self, question: Question, key: Key) -> None:
        for piece in question.context:
            match piece.source:
                case FileRef(file_id):
                    await self.file(key, file_id)
                case Uri(uri):
                    try:
                        self.loader.check_uri(uri)
                    except InputError as error:
                        why = f"this URI {error.why}"
                        raise Refusal(403, "uri_not_allowed", why, param="rlm.context_uri") from error

    async def file(self, key: Key, file_id: str) -> StoredFile:
        """A file of this key. Raises `Refusal`."""
        stored = await asyncio.to_thread(self.files.find, key.name, file_id, time.time())
        if stored is None:
            raise Refusal(404, "file_not_found", "there is no file of this id", param="file_id")
        return stored

    async def _load(self, key: str, question: Question) -> Context:
        """What lies elsewhere is read beside that of other keys; what came with the request waits for nobody."""
        load = partial(self.loader.load, key, question.context)
        if all(isinstance(piece.source, Text | FileData) for piece in question.context):
            return await asyncio.to_thread(load)
        return await self.loads.run(key, load)
