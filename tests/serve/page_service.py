"""The service as its web page sees it, played by a script: no Ray, no model, the real page and the real shapes of replies."""

from __future__ import annotations

import asyncio
import itertools
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, UploadFile
from fastapi.responses import StreamingResponse
from waiting import wait_until

from rlm_ray.core.context import InputSummary
from rlm_ray.core.llm import Usage
from rlm_ray.events.records import (
    CallEnded,
    CellEnded,
    MapEnded,
    MapOpened,
    Record,
    RunFinished,
    SessionEnded,
    SessionOpened,
    to_line,
)
from rlm_ray.serve.http import streaming
from rlm_ray.serve.http.api import page_routes
from rlm_ray.serve.http.errors import ApiError, Error, register_error_handlers
from rlm_ray.serve.http.routers.runs import RunList, RunObject

KEYS = ("sk-ann", "sk-bob")


class Run:
    """A run that does what the test says, while the page looks at it."""

    def __init__(self, run_id: str, key: str, body: dict[str, Any], created: float) -> None:
        self.key, self.body, self.records = key, body, list[Record]()
        self.facts = RunObject(
            id=run_id, state="running", kind="run", model=body["model"], created_at=created,
            query=body["query"], answer=None, stop_reason=None, why="", turns=0, seconds=None, usage={},
            error=None, metadata={}, report_url=f"/v1/runs/{run_id}/report?ticket=t",
        )  # fmt: skip

    def write(self, *records: Record) -> None:
        self.records.extend(records)

    def end(self, answer: str | None = None, state: str = "answered", why: str = "") -> None:
        error = Error(message=why, type="upstream_error") if why else None
        changes = {"state": state, "answer": answer, "error": error, "seconds": 4.2}
        self.facts = self.facts.model_copy(update=changes)
        self.write(RunFinished(9.0, state, answer=answer, why=why))


class PageService:
    """What the page asks for: its own files, models, files, runs."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.models = ["rlm/deep", "rlm/shallow"]
        self.runs: list[Run] = []
        self.files: list[str] = []
        self.refusals: dict[str, ApiError] = {}
        """By path: how the next POST is refused; the page lists runs whenever it likes."""
        self.held: set[str] = set()
        """Paths that are not answered while they stand here."""
        self.cut: set[str] = set()
        """Runs whose stream is cut off."""

    def add(self, query: str, key: str = "sk-ann", created: float = 1_790_000_000.0) -> Run:
        run = Run(f"run-{len(self.runs)}", key, {"model": "rlm/deep", "query": query}, created)
        self.runs.append(run)
        return run

    def application(self) -> FastAPI:
        api = FastAPI(docs_url=None)
        register_error_handlers(api)
        api.include_router(page_routes())
        api.get("/v1/models")(self._list_models)
        api.post("/v1/files")(self._upload)
        api.post("/v1/runs")(self._start)
        api.get("/v1/runs")(self._list_runs)
        api.get("/v1/runs/{run_id}")(self._retrieve)
        api.post("/v1/runs/{run_id}/cancel")(self._cancel)
        api.get("/v1/runs/{run_id}/events", response_model=None)(self._events)
        return api

    async def _caller(self, request: Request) -> str:
        path = request.url.path
        while path in self.held:  # noqa: ASYNC110 - another thread lets it go
            await asyncio.sleep(0.01)
        if request.method == "POST" and path in self.refusals:
            raise self.refusals.pop(path)
        key = request.headers.get("authorization", "").removeprefix("Bearer ")
        if key not in KEYS:
            raise ApiError(401, "invalid_api_key", "the API key is missing or unknown")
        return key

    async def _run(self, request: Request, run_id: str) -> Run:
        key = await self._caller(request)
        return next(run for run in self.runs if run.facts.id == run_id and run.key == key)

    async def _list_models(self, request: Request) -> dict[str, Any]:
        await self._caller(request)
        return {"data": [{"id": name} for name in self.models]}

    async def _upload(self, request: Request, file: UploadFile) -> dict[str, Any]:
        await self._caller(request)
        self.files.append(file.filename or "")
        return {"id": f"file-{len(self.files) - 1}"}

    async def _start(self, request: Request) -> RunObject:
        key = await self._caller(request)
        self.runs.append(Run(f"run-{len(self.runs)}", key, await request.json(), 1_790_000_000.0))
        return self.runs[-1].facts

    async def _list_runs(self, request: Request) -> RunList:
        key = await self._caller(request)
        return RunList(data=[run.facts for run in reversed(self.runs) if run.key == key][:10])

    async def _retrieve(self, request: Request, run_id: str) -> RunObject:
        return (await self._run(request, run_id)).facts

    async def _cancel(self, request: Request, run_id: str) -> RunObject:
        run = await self._run(request, run_id)
        run.end(state="cancelled", why="the run was cancelled")
        return run.facts

    async def _events(self, request: Request, run_id: str) -> StreamingResponse:
        return streaming.sse_response(self._follow(await self._run(request, run_id)), run_id)

    async def _follow(self, run: Run) -> AsyncIterator[str]:
        for number in itertools.count():
            while len(run.records) <= number:
                if run.facts.id in self.cut:
                    raise ConnectionResetError
                if run.facts.state != "running":
                    return
                await asyncio.sleep(0.01)
            yield streaming.event(to_line(run.records[number]).decode().rstrip("\n"), ident=number)


@contextmanager
def serve_page() -> Iterator[PageService]:
    """Yield the service, ready to be asked."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        service = PageService(f"http://127.0.0.1:{listener.getsockname()[1]}")
        config = uvicorn.Config(service.application(), log_level="critical", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        wait_until(lambda: server.started)
        yield service
        server.should_exit = True
        thread.join(10)


GIVEN = InputSummary("documents", 12_345, 2, 0, 12_345)


def opened(*path: int, query: str = "What is said?") -> SessionOpened:
    return SessionOpened(1.0 + len(path), path, query, GIVEN, "openai/root", "actor-1")


def closed(*path: int, error: str = "") -> SessionEnded:
    return SessionEnded(5.0, path, "error" if error else "answered", error_kind=error)


def called(*path: int, number: int = 1, role: Any = "turn", cost_usd: float | None = 0.0125) -> CallEnded:
    return CallEnded(
        3.0, path, number, role, "openai/root", "k", 2.0, usage=Usage(1_000, 20), cost_usd=cost_usd
    )


def ran(*path: int, turn: int = 1) -> CellEnded:
    return CellEnded(3.5, path, turn, 3.2)


def mapped(*path: int, first: int = 0, count: int = 3, sessions: int = 0) -> MapOpened:
    return MapOpened(3.6, path, 1, first, count, sessions, "what is in it?")


def map_ended(*path: int, first: int = 0, answered: int = 3, failed: int = 0) -> MapEnded:
    return MapEnded(4.6, path, first, answered, failed)
