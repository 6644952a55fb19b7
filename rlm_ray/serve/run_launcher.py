"""How a run of the service begins, first or again, and what it used.

Runs begin a few at a time, behind the requests that wait for their first byte.

A run costs CPU from its beginning to its end. Two hundred that begin at once share it and all end late; those that take
turns end one after the other, half of them in half the time, and who has just asked hears at once that he is admitted.
A place is given back when the run's root is on its way, so nobody waits here for a model or for a slow context.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

from rlm_ray.config import Settings
from rlm_ray.core.context import Context
from rlm_ray.errors import ClusterError, JournalError
from rlm_ray.events.records import Record, RunFinished
from rlm_ray.events.usage import RunUsage, max_unknown_cost_usd, usage_from_records
from rlm_ray.journal.run_store import RunStore
from rlm_ray.runs.resume import prepare_resume
from rlm_ray.runs.run import Result, Run
from rlm_ray.runs.run_history import RunHistory
from rlm_ray.serve.run_registry import KeySpending
from rlm_ray.serve.run_store import (
    StoredRequest,
    end_of,
    load_request,
    messages_of,
    save_failure,
    save_request,
    schemas_of,
)

LOCK_RETRIES = 40
"""How often, a second apart, the run of a dead replica is tried until its journal is free."""
REPLICA_LOST_MESSAGE = "the replica that had this run died; ask again"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunLauncher:
    """Makes runs of requests."""

    settings: Callable[[StoredRequest], Settings]
    run_dir: str

    def folder(self, run_id: str) -> RunStore:
        return RunStore(self.run_dir, run_id)

    async def start(
        self,
        request: StoredRequest,
        load: Callable[[], Awaitable[Context]],
        traceparent: str,
        *,
        lasting: bool,
    ) -> Run:
        """Make a new run, to be started. With `lasting` another replica goes on with it where this one dies."""
        context = await load()
        return Run(
            self.settings(request), request.query, context,
            traceparent=traceparent, history=RunHistory(request.run_id), lasting=lasting, messages=messages_of(request),
            schemas=schemas_of(request),
        )  # fmt: skip

    async def adopt(self, run_id: str) -> Run | Result:
        """Make the next attempt of a dead replica's run when its journal is free; return its result where it has one."""
        folder = self.folder(run_id)
        request = await asyncio.to_thread(load_request, folder)
        if request is None:
            raise ClusterError(REPLICA_LOST_MESSAGE)
        for _ in range(LOCK_RETRIES):
            if await asyncio.to_thread(folder.current_writer) is None:
                break
            await asyncio.sleep(1)
        settings = self.settings(request)
        take = partial(
            prepare_resume, folder, None, lambda _: settings, messages_of(request), trust_record=True
        )
        return await asyncio.to_thread(take)

    async def abandon(self) -> Run:
        """Raise the error of a run that nobody waits for any more."""
        raise ClusterError(REPLICA_LOST_MESSAGE)


def end_of_result(result: Result) -> RunFinished:
    """Return the end of a run as its journal has it."""
    return RunFinished(
        time.time(), result.stop_reason, result.why, result.answer, result.turns, result.seconds,
        result.usage.as_dict(), citations=result.citations,
    )  # fmt: skip


def to_key_usage(usage: RunUsage) -> KeySpending:
    total = usage.total
    return KeySpending(1, total.input_tokens, total.output_tokens, total.cost_usd)


def with_unknown_cost(spent: KeySpending, folder: RunStore, max_usd: float | None) -> KeySpending:
    """Return what a run is charged to its key: with a budget, also what its cancelled and lost calls may have cost.
    Blocking.
    """
    if max_usd is None:
        return spent
    unknown = max_unknown_cost_usd(_records(folder))
    return replace(spent, cost_usd=max(spent.cost_usd, min(spent.cost_usd + unknown, max_usd)))


def record_failure(folder: RunStore, request: StoredRequest | None, end: RunFinished) -> KeySpending:
    """Save what was asked and the end of a run that had no time to say it; return what it cost. Blocking."""
    try:
        if request is not None and load_request(folder) is None:
            save_request(folder, request)
        if end_of(folder) is None:
            save_failure(folder, end)
    except JournalError as error:
        _log.warning("%s", error)
    return _spent_on_record(folder)


def _spent_on_record(folder: RunStore) -> KeySpending:
    """Return what the journal tells of the cost; the rest is not known."""
    return to_key_usage(usage_from_records(_records(folder)))


def _records(folder: RunStore) -> list[Record]:
    try:
        return folder.records() if folder.exists() else []
    except JournalError as error:
        _log.warning("%s", error)
        return []


MAX_CONCURRENT_STARTS = 4
PLACE_S = 0.5
"""The longest a run keeps its place: what is slow for another reason than the CPU stops nobody."""
MAX_YIELD_S = 1.0
"""The longest a run lets requests go first."""


class StartThrottle:
    """Lets runs of one replica begin a few at a time, behind the requests that wait for their first byte."""

    def __init__(self, places: int = MAX_CONCURRENT_STARTS) -> None:
        self._places = asyncio.Semaphore(places)
        self._asking = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._leaving: set[asyncio.Task[None]] = set()

    @contextmanager
    def request_pending(self) -> Iterator[None]:
        """Hold runs back while a request waits for its first byte."""
        self._asking += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._asking -= 1
            if not self._asking:
                self._idle.set()

    async def yield_to_requests(self) -> None:
        """Wait until no request waits for its first byte."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(MAX_YIELD_S):
                await self._idle.wait()

    async def acquire(self, begun: asyncio.Event) -> None:
        """Wait for a place behind the requests, and keep it until the run has `begun`."""
        await self.yield_to_requests()
        await self._places.acquire()
        leaving = asyncio.create_task(self._leave(begun))
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)

    async def _leave(self, begun: asyncio.Event) -> None:
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PLACE_S):
                    await begun.wait()
        finally:
            self._places.release()
