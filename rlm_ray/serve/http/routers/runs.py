"""`/v1/runs`: the engine's own way to be asked, watched and cancelled."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncGenerator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import HTMLResponse, StreamingResponse
from pydantic import BaseModel, Field

from rlm_ray.core.answer_preview import AnswerDelta, AnswerRestarted
from rlm_ray.errors import JournalError
from rlm_ray.events.records import RunFinished, to_line
from rlm_ray.serve.api_keys import ApiKey, make_ticket
from rlm_ray.serve.http import streaming
from rlm_ray.serve.http.auth import BearerAuth
from rlm_ray.serve.http.errors import ApiError, Error, error_from_run_end, error_responses
from rlm_ray.serve.http.middleware import RUN_HEADER
from rlm_ray.serve.http.run_service import ParsedRequest, RunService
from rlm_ray.serve.http.schemas import Metadata, RunOptions
from rlm_ray.serve.prompt import Message, Text
from rlm_ray.serve.run_store import State, StoredRequest

# The report is a page of its own: what it holds cannot read what this address has kept in the browser.
_REPORT_HEADERS = {
    "content-security-policy": "sandbox allow-scripts allow-downloads",
    "cache-control": "no-store",
}


class RunRequest(RunOptions):
    """A question and its context. The run goes on whether or not somebody waits."""

    model: str
    query: Annotated[str, Field(min_length=1)]
    metadata: Metadata = Field(default_factory=dict)

    def parse(self) -> ParsedRequest:
        message = Message("user", (Text(self.query),))
        return ParsedRequest("run", self, self.model, [message], self, {}, True, self.metadata)

    def settings(self) -> dict[str, Any]:
        own = RunOptions.model_fields.keys()
        return {name: value for name, value in super().settings().items() if name in own}


class RunObject(BaseModel):
    id: str
    object: Literal["run"] = "run"
    state: State
    kind: Literal["chat", "response", "run"]
    model: str
    created_at: float
    query: str
    answer: str | None
    stop_reason: str | None
    why: str
    turns: int
    seconds: float | None
    usage: dict[str, Any]
    error: Error | None
    metadata: dict[str, str]
    report_url: str
    """Opens in a browser for an hour, without the key."""


class RunList(BaseModel):
    object: Literal["list"] = "list"
    data: list[RunObject]


def run_routes(service: RunService, auth: BearerAuth) -> APIRouter:
    router = APIRouter(tags=["runs"])

    async def described(run_id: str, key: ApiKey) -> RunObject:
        return _object(key, *await service.get(run_id, key), await service.registry.link_secret())

    @router.post("/v1/runs", responses=error_responses(400, 403, 404, 413, 422, 429))
    async def start(
        request: Request, response: Response, body: RunRequest, key: Annotated[ApiKey, Depends(auth)]
    ) -> RunObject:
        """Start a run and say where it is found."""
        run_id = await service.start(request, key, body.parse())
        response.headers[RUN_HEADER] = run_id
        return await described(run_id, key)

    @router.get("/v1/runs", responses=error_responses())
    async def list_runs(
        key: Annotated[ApiKey, Depends(auth)], limit: Annotated[int, Query(ge=1, le=100)] = 20
    ) -> RunList:
        """Return the last runs of this key, the newest first."""
        secret = await service.registry.link_secret()
        return RunList(data=[_object(key, *each, secret) for each in await service.recent(key, limit)])

    @router.get("/v1/runs/{run_id}", responses=error_responses(404))
    async def retrieve(run_id: str, key: Annotated[ApiKey, Depends(auth)]) -> RunObject:
        """Return how it stands, and its result when it is over."""
        return await described(run_id, key)

    @router.post("/v1/runs/{run_id}/cancel", responses=error_responses(404))
    async def cancel(run_id: str, key: Annotated[ApiKey, Depends(auth)]) -> RunObject:
        """End it. One that is over stays as it is."""
        return _object(key, *await service.cancel(run_id, key), await service.registry.link_secret())

    @router.get(
        "/v1/runs/{run_id}/events",
        responses=error_responses(404)
        | {200: {"content": {"text/event-stream": {}}, "description": "Its records."}},
    )
    async def events(run_id: str, key: Annotated[ApiKey, Depends(auth)]) -> StreamingResponse:
        """Stream every record of the run from its first on, as it is written; the last one has the kind `run_end`."""
        await service.get(run_id, key)
        return streaming.sse_response(_events(service, run_id), run_id)

    @router.get(
        "/v1/runs/{run_id}/report",
        responses=error_responses(404)
        | {200: {"content": {"text/html": {}}, "description": "One page about the run."}},
    )
    async def report(request: Request, run_id: str, ticket: Annotated[str, Query()] = "") -> HTMLResponse:
        """Return the run as a page. A browser that follows a link sends no key: `report_url` has a ticket instead."""
        key = auth.authenticate_report(request, ticket, run_id, await service.registry.link_secret())
        await service.get(run_id, key)
        return HTMLResponse(await asyncio.to_thread(_report, service, run_id), headers=_REPORT_HEADERS)

    return router


async def _events(service: RunService, run_id: str) -> AsyncGenerator[str]:
    batches = streaming.with_heartbeats(service.runs.follow(run_id), service.keep_alive_s)
    numbers = itertools.count()
    async with contextlib.aclosing(batches):
        async for records in batches:
            if records is None:
                yield streaming.KEEP_ALIVE
                continue
            lines = [
                to_line(record).decode().rstrip("\n")
                for record in records
                if not isinstance(record, AnswerDelta | AnswerRestarted)
            ]
            yield "".join(streaming.event(line, ident=next(numbers)) for line in lines)


def _report(service: RunService, run_id: str) -> str:
    from rlm_ray.report import make_report

    folder = service.runs.folder(run_id)
    try:
        records = folder.records() if folder.exists() else []
    except JournalError as error:
        raise ApiError(503, "unavailable", str(error)) from error
    if not records:
        raise ApiError(404, "not_found", "this run has no record yet")
    return make_report(records)


def _object(
    key: ApiKey, request: StoredRequest, end: RunFinished | None, state: State, secret: bytes
) -> RunObject:
    refusal = error_from_run_end(end) if end is not None else None
    return RunObject(
        id=request.run_id,
        state=state,
        kind=request.kind,
        model=request.model,
        created_at=request.created,
        query=request.query,
        answer=end.answer if end is not None else None,
        stop_reason=end.stop_reason if end is not None else None,
        why=end.why if end is not None else "",
        turns=end.turns if end is not None else 0,
        seconds=end.seconds if end is not None else None,
        usage=dict(end.usage) if end is not None else {},
        error=refusal.error if refusal is not None else None,
        metadata=dict(request.metadata),
        report_url=f"/v1/runs/{request.run_id}/report?ticket={make_ticket(secret, key, request.run_id, time.time())}",
    )
