"""What all routes use: a request made into a run, and a run found again."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel

from rlm_ray.core.context import Context
from rlm_ray.documents.formats import HEAD_BYTES, detect_format
from rlm_ray.errors import InputError
from rlm_ray.events.records import RunFinished
from rlm_ray.serve.api_keys import ApiKey
from rlm_ray.serve.config import ModelRegistry
from rlm_ray.serve.context_loader import ContextLoader, LoadExecutor
from rlm_ray.serve.file_store import FileStore, StoredFile
from rlm_ray.serve.http.errors import ApiError, error_from_run_end
from rlm_ray.serve.http.schemas import RunOptions
from rlm_ray.serve.prompt import (
    FileData,
    FileRef,
    Message,
    PromptAndContext,
    Source,
    Text,
    Uri,
    direct_messages,
    split_messages,
)
from rlm_ray.serve.registry_actor import RunRegistryActor
from rlm_ray.serve.run_manager import RunManager, SubmittedRun
from rlm_ray.serve.run_store import Kind, State, StoredRequest, state_of
from rlm_ray.structured.schema import AnswerSchema

HEADER_CHARS = 256
MAX_INLINE_BYTES = 64_000
"""What comes with a body of this size takes a millisecond at most; on the way to a thread it would wait longer for its turn."""
CANCEL_TRIES, CANCEL_S = 50, 0.1


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ParsedRequest:
    """A request of any route, in one shape."""

    kind: Kind
    body: BaseModel
    model: str
    messages: Sequence[Message]
    options: RunOptions
    params: Mapping[str, Any] = field(default_factory=dict)
    background: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict)
    schema: str = ""
    """The JSON Schema of the answer; empty for text."""
    reads_along: bool = False
    """Its client takes the text of the answer as it comes."""

    def digest(self) -> str:
        """Return a hash that the same request has again."""
        plain = f"{self.kind} {self.body.model_dump_json()}"
        return hashlib.sha256(plain.encode("utf-8", "replace")).hexdigest()


@dataclass(frozen=True, slots=True)
class RunService:
    """Turns requests into runs, and finds runs again; one for each replica."""

    models: ModelRegistry
    runs: RunManager
    registry: RunRegistryActor
    files: FileStore
    loader: ContextLoader
    loads: LoadExecutor
    keep_alive_s: float
    direct_without_context: bool = True

    async def start(self, request: Request, key: ApiKey, parsed: ParsedRequest) -> str:
        """Start the run a request asks for and return its id. Raises `ApiError` for all that can be known to be wrong
        with it.
        """
        self._check_model(parsed.model, key)
        prompt = await in_turn(request, split_messages, parsed.messages, parsed.options.context_parts())
        messages = self._direct_messages(parsed)
        if messages:
            prompt = PromptAndContext(prompt.query)
            messages = _with_instruction(messages, parsed.schema)
        await self._check_sources(prompt, key)
        options = parsed.options.settings()
        if messages:
            options["max_depth"] = 0
        elif parsed.kind != "run" and not parsed.options.context_parts():
            options.setdefault("direct_call_below_chars", 0)  # a session was asked for
        stored = StoredRequest(
            request.state.run_id, key.name, parsed.kind, parsed.model, time.time(), prompt.query,
            options, parsed.params, messages, background=parsed.background, metadata=parsed.metadata,
            request_id=request.headers.get("x-request-id", "")[:HEADER_CHARS], schema=parsed.schema,
        )  # fmt: skip
        idempotency = request.headers.get("idempotency-key", "")[:HEADER_CHARS]
        return await self.runs.start(
            SubmittedRun(
                stored,
                key,
                partial(self._load, request, key.name, prompt),
                request.headers.get("traceparent", ""),
                idempotency,
                await in_turn(request, parsed.digest) if idempotency else "",
                # of a plain call only: what a session has shown it may take back, which no chat can
                streams_answer=parsed.reads_along and bool(messages),
            )
        )

    async def wait(self, run_id: str) -> RunFinished:
        """Wait for the end of a run; cancelling this cancels the run. Raises `ApiError` where it has no answer."""
        async with self.runs.client_attached(run_id):
            async for records in self.runs.follow(run_id):
                last = records[-1]
        assert isinstance(last, RunFinished)
        if (refusal := error_from_run_end(last)) is not None:
            raise refusal
        return last

    async def get_request(self, run_id: str, key: ApiKey) -> StoredRequest:
        """Return what was asked in a run of this key. Raises `ApiError`."""
        stored = await self.runs.stored_request(run_id, key)
        if stored is None:
            raise ApiError(404, "not_found", "there is no run of this id")
        return stored

    async def get(self, run_id: str, key: ApiKey) -> tuple[StoredRequest, RunFinished | None, State]:
        """Return a run of this key: what was asked, how it ended, how it stands. Raises `ApiError`."""
        stored = await self.get_request(run_id, key)
        end, is_open = await self.runs.end(run_id)
        return stored, end, state_of(end, is_open=is_open)

    async def recent(
        self, key: ApiKey, limit: int
    ) -> Sequence[tuple[StoredRequest, RunFinished | None, State]]:
        """Return the last runs of this key as `get` does, the newest first."""
        found = []
        for stored in await self.runs.requests_of(key, limit):
            end, is_open = await self.runs.end(stored.run_id)
            found.append((stored, end, state_of(end, is_open=is_open)))
        return found

    async def cancel(self, run_id: str, key: ApiKey) -> tuple[StoredRequest, RunFinished | None, State]:
        """Cancel a run and return it as `get` does. One of another replica may take a moment."""
        await self.get(run_id, key)
        await self.runs.cancel(run_id)
        for _ in range(CANCEL_TRIES):
            found = await self.get(run_id, key)
            if found[-1] != "running":
                break
            await asyncio.sleep(CANCEL_S)
        return found

    def _direct_messages(self, parsed: ParsedRequest) -> tuple[tuple[str, str], ...]:
        """Return what one plain call is asked with; empty where the request wants a session, or has something to
        read.
        """
        options = parsed.options
        wish = options.direct_without_context
        is_plain = self.direct_without_context and options.max_depth is None if wish is None else wish
        settings = self.models.settings(parsed.model)
        must_cite = "required" in (options.citations, settings.citations if settings is not None else "")
        if parsed.kind == "run" or not is_plain or options.context_parts() or must_cite:
            return ()
        return direct_messages(parsed.messages)

    def _check_model(self, model: str, key: ApiKey) -> None:
        if self.models.settings(model) is None:
            why = f"the model {model[:100]!r} is not served here; GET /v1/models lists those that are"
            raise ApiError(404, "model_not_found", why, param="model")
        if not key.may_use(model):
            raise ApiError(403, "model_not_allowed", f"this key may not use {model!r}", param="model")

    async def _check_sources(self, prompt: PromptAndContext, key: ApiKey) -> None:
        for piece in prompt.context:
            match piece.source:
                case FileRef(file_id):
                    await self.file(key, file_id)
                case Uri(uri):
                    try:
                        self.loader.check_uri(uri)
                    except InputError as error:
                        why = f"this URI {error.why}"
                        raise ApiError(403, "uri_not_allowed", why, param="rlm.context_uri") from error

    async def file(self, key: ApiKey, file_id: str) -> StoredFile:
        """Return a file of this key. Raises `ApiError`."""
        stored = await asyncio.to_thread(self.files.find, key.name, file_id, time.time())
        if stored is None:
            raise ApiError(404, "file_not_found", "there is no file of this id", param="file_id")
        return stored

    async def _load(self, request: Request, key: str, prompt: PromptAndContext) -> Context:
        """Read a context. What lies elsewhere, and documents, are read beside those of other keys; a text waits for nobody."""
        if all(_is_plain(piece.source) for piece in prompt.context):
            return await in_turn(request, self.loader.load, key, prompt.context)
        return await self.loads.run(key, partial(self.loader.load, key, prompt.context))


async def in_turn(request: Request, work: Callable[..., T], *args: Any, may_last: bool = False) -> T:
    """Return what work on a request's body makes; it is done in a thread where the body is large, or small and the work
    `may_last` all the same, so that others go on."""
    if not may_last and len(await request.body()) <= MAX_INLINE_BYTES:
        return work(*args)
    return await asyncio.to_thread(work, *args)


def _is_plain(source: Source) -> bool:
    """Tell whether it came with the request and is read at once: a text."""
    match source:
        case Text():
            return True
        case FileData(name, data):
            return detect_format(data[:HEAD_BYTES], name).name in ("text", "binary")
        case _:
            return False


def _with_instruction(messages: tuple[tuple[str, str], ...], schema: str) -> tuple[tuple[str, str], ...]:
    """Add what its answer looks like to the messages of a plain call: in the one message of instructions."""
    if not schema:
        return messages
    wanted = AnswerSchema.of_source(schema).instruction()
    (role, text), *rest = messages
    if role == "system":
        return (role, f"{text}\n\n{wanted}"), *rest
    return ("system", wanted), *messages
