"""The runs of a replica: started, followed, cancelled, accounted for, and taken up where another replica died.

What the service knows of a run is in its folder and in the run registry, so any replica answers for any run; only to follow
a run of another replica costs looking at its journal again and again.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import itertools
import logging
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, assert_never

from rlm_ray.core.answer_preview import AnswerNews
from rlm_ray.core.context import Context
from rlm_ray.errors import ClusterError, RLMError
from rlm_ray.events.records import Record, RunFinished, from_line
from rlm_ray.journal.run_store import RunStore, list_runs
from rlm_ray.runs.run import Result, Run
from rlm_ray.runs.stream import AnswerBroadcast, RecordBroadcast
from rlm_ray.serve.api_keys import ApiKey
from rlm_ray.serve.registry_actor import RunRegistryActor
from rlm_ray.serve.run_launcher import (
    REPLICA_LOST_MESSAGE,
    RunLauncher,
    StartThrottle,
    end_of_result,
    record_failure,
    to_key_usage,
    with_unknown_cost,
)
from rlm_ray.serve.run_registry import (
    AdmissionDecision,
    AdmissionRequest,
    Admitted,
    Duplicate,
    KeySpending,
    Rejected,
    ReplicaCommands,
)
from rlm_ray.serve.run_store import (
    StoredRequest,
    end_from_error,
    end_of,
    is_run_id,
    load_request,
    save_request,
)

JOURNAL_POLL_S = 0.5
"""How often the journal of another replica's run is looked at."""
THREADS = 64
RUNS_LOOKED_AT = 500
"""So many of the newest runs are looked through for those of a key: a folder may hold a million."""
UNATTENDED_S = 10.0

_log = logging.getLogger(__name__)


class AdmissionRejected(Exception):  # noqa: N818 - an answer of the run registry
    """The run registry refused the request."""

    def __init__(self, refused: Rejected) -> None:
        super().__init__(refused.why)
        self.refused = refused


@dataclass(slots=True)
class _LocalRun:
    """A run that this replica carries out."""

    feed: RecordBroadcast
    lasting: bool
    """It goes on without its client."""
    request: StoredRequest | None = None
    """What was asked; None where another replica was asked it."""
    task: asyncio.Task[None] | None = None
    waiters: int = 0
    """Clients that wait for it."""
    created_at: float = field(default_factory=time.monotonic)

    @property
    def is_orphaned(self) -> bool:
        """Tell whether its client went away before it began to wait."""
        return not self.lasting and not self.waiters and time.monotonic() - self.created_at > UNATTENDED_S


class RunManager:
    """Starts, follows, cancels and settles the runs of a replica. Use it within `lifespan()`."""

    def __init__(self, launcher: RunLauncher, registry: RunRegistryActor, max_runs: int) -> None:
        self._launcher = launcher
        self._registry = registry
        self._max_runs = max_runs
        self._replica = secrets.token_hex(8)
        self._local_runs: dict[str, _LocalRun] = {}
        self._saving: dict[str, StoredRequest] = {}
        """Requests whose runs begin once they are in the run store; whoever repeats one asks for its run meanwhile."""
        self._background_tasks: set[asyncio.Task[None]] = set()
        self._starts = StartThrottle()

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Listen to the run registry meanwhile. Runs that are under way at the end are left to another replica."""
        # storage is slow and many runs wait for it at once, so more threads than cores
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS, "rlm_ray"))
        listening = asyncio.create_task(self._listen())
        try:
            yield
        finally:
            listening.cancel()
            with contextlib.suppress(RLMError):
                await self._registry.leave(self._replica)

    async def start(self, submitted: SubmittedRun) -> str:
        """Start a run and return its id; of a request that was made before, the id of then. Raises
        `AdmissionRejected`.
        """
        with self._starts.request_pending():
            match await self._admitted(submitted):
                case Rejected() as refused:
                    raise AdmissionRejected(refused)
                case Duplicate(run_id):
                    return run_id
                case Admitted(cost_usd):
                    request = replace(submitted.request, cost_usd=cost_usd)
                    if submitted.lasting:  # another replica may have to go on with it
                        await self._save_request(request)
                    feed = AnswerBroadcast() if submitted.streams_answer else RecordBroadcast()
                    self._register(
                        request.run_id, submitted.lasting, self._first(request, submitted), request, feed
                    )
                    return request.run_id
                case other:
                    assert_never(other)

    def follow(self, run_id: str) -> AsyncGenerator[Sequence[Record | AnswerNews]]:
        """Yield its records as they come, from the first to `RunFinished`, which always comes; and its answer while it is written,
        where that was asked for.
        """
        local = self._local_runs.get(run_id)
        return local.feed.follow() if local is not None else self._follow_journal(run_id)

    @asynccontextmanager
    async def client_attached(self, run_id: str) -> AsyncIterator[None]:
        """Hold the run for a client: when the last one goes away before its end, it is cancelled, unless it is lasting."""
        local = self._local_runs.get(run_id)
        if local is None or local.lasting:
            yield
            return
        local.waiters += 1
        try:
            yield
        finally:
            local.waiters -= 1
            if not local.waiters and local.task is not None:
                local.task.cancel()

    async def cancel(self, run_id: str) -> None:
        """Cancel a run, wherever it is; returns when it is over, or soon will be."""
        local = self._local_runs.get(run_id)
        if local is None or local.task is None:
            await self._registry.cancel(run_id)
            return
        local.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(local.task)

    async def stored_request(self, run_id: str, key: ApiKey) -> StoredRequest | None:
        """Return the request of a run; None where this key has no such run."""
        if not is_run_id(run_id):
            return None
        local = self._local_runs.get(run_id)
        found = local.request if local is not None else self._saving.get(run_id)
        if found is None:
            found = await asyncio.to_thread(load_request, self.folder(run_id))
        return found if found is not None and found.key == key.name else None

    async def requests_of(self, key: ApiKey, most: int) -> list[StoredRequest]:
        """Return what a key asked last, the newest first, of the newest `RUNS_LOOKED_AT` runs."""
        return await asyncio.to_thread(_requests_of, self._launcher.run_dir, key.name, most)

    async def end(self, run_id: str) -> tuple[RunFinished | None, bool]:
        """Return how it ended, and whether it is under way."""
        end = await asyncio.to_thread(end_of, self.folder(run_id))
        if end is None and (run_id in self._local_runs or await self._registry.is_open(run_id)):
            return None, True
        # it may have ended meanwhile: what has left the run registry has its end on record
        return end or await asyncio.to_thread(end_of, self.folder(run_id)), False

    def folder(self, run_id: str) -> RunStore:
        return self._launcher.folder(run_id)

    async def _admitted(self, submitted: SubmittedRun) -> AdmissionDecision:
        request = submitted.request
        admission = AdmissionRequest(
            request.run_id, submitted.key, self._replica, self._max_runs,
            self._launcher.settings(request).limits.cost_usd, submitted.lasting, submitted.idempotency, submitted.digest,
        )  # fmt: skip
        try:
            return await self._registry.admit(admission)
        except BaseException:  # its client has gone, or no answer came: nobody else would give the lease back
            self._spawn(self._give_back(request.run_id))
            raise

    async def _first(self, request: StoredRequest, submitted: SubmittedRun) -> Run:
        await self._starts.yield_to_requests()
        run = await self._launcher.start(
            request, submitted.load, submitted.traceparent, lasting=submitted.lasting
        )
        await self._starts.acquire(self._local_runs[request.run_id].feed.started)
        if not submitted.lasting:
            await asyncio.to_thread(save_request, self.folder(request.run_id), request)
        return run

    def _register(
        self,
        run_id: str,
        lasting: bool,
        begun: Coroutine[Any, Any, Run | Result],
        request: StoredRequest | None = None,
        feed: RecordBroadcast | None = None,
    ) -> None:
        local = self._local_runs[run_id] = _LocalRun(feed or RecordBroadcast(), lasting, request)
        # in a context of its own: Ray cancels what was submitted in that of a request when its client goes away
        local.task = asyncio.create_task(
            self._execute(run_id, local.feed, begun), name=run_id, context=contextvars.Context()
        )

    async def _execute(
        self, run_id: str, feed: RecordBroadcast, begun: Coroutine[Any, Any, Run | Result]
    ) -> None:
        """Carry a run to its end, whatever that is."""
        end = end_from_error(asyncio.CancelledError())
        spent, unknown_calls = None, 0
        try:
            run = await begun
            if isinstance(run, Run):
                run.add_observer(feed)
                await run.start()
                run = await run.result()
            end, spent = end_of_result(run), to_key_usage(run.usage)
            unknown_calls = run.usage.total.unknown
        except RLMError as error:
            end = end_from_error(error)
        except Exception as error:  # noqa: BLE001 - whatever it was, its client must hear of an end
            _log.exception("run %s failed", run_id)
            end = end_from_error(error)
        finally:
            begun.close()
            await asyncio.shield(self._spawn(self._close(run_id, feed, end, spent, unknown_calls)))

    async def _close(
        self,
        run_id: str,
        feed: RecordBroadcast,
        end: RunFinished,
        spent: KeySpending | None,
        unknown_calls: int,
    ) -> None:
        try:
            request = self._local_runs[run_id].request
            is_counted = spent is not None and not unknown_calls
            if spent is None:
                spent = await asyncio.to_thread(record_failure, self.folder(run_id), request, end)
            if not is_counted:
                request = request or await asyncio.to_thread(load_request, self.folder(run_id))
                max_usd = request.cost_usd if request is not None else None
                spent = await asyncio.to_thread(with_unknown_cost, spent, self.folder(run_id), max_usd)
            await self._registry.settle(
                run_id, spent, repeatable=bool(end.error_kind), out_of_money=end.stop_reason == "cost_usd"
            )
        except RLMError as error:
            _log.warning("run %s is not accounted for: %s", run_id, error)
        finally:
            self._local_runs.pop(run_id, None)
            feed.close(end)

    def _spawn(self, chore: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a chore to its end, whoever waits for it."""
        task = asyncio.create_task(chore)
        self._background_tasks.add(task)
        task.add_done_callback(self._background_tasks.discard)
        return task

    async def _save_request(self, request: StoredRequest) -> None:
        self._saving[request.run_id] = request
        try:
            await asyncio.to_thread(save_request, self.folder(request.run_id), request)
        except BaseException:
            self._spawn(self._give_back(request.run_id))
            raise
        finally:
            del self._saving[request.run_id]

    async def _give_back(self, run_id: str) -> None:
        """Return the lease of a run that does not begin."""
        try:
            await self._registry.settle(run_id, KeySpending(), repeatable=True)
        except RLMError as error:
            _log.warning("run %s is not given back yet: %s", run_id, error)

    async def _listen(self) -> None:
        while True:
            try:
                commands = await self._registry.listen(self._replica, tuple(self._local_runs))
                self._apply_commands(commands)
                self._cancel_forgotten()
            except (RLMError, OSError) as error:
                _log.warning("the run registry of the service: %s", error)
                await asyncio.sleep(1)

    def _apply_commands(self, commands: ReplicaCommands) -> None:
        for run_id in commands.cancel:
            local = self._local_runs.get(run_id)
            if local is not None and local.task is not None:
                local.task.cancel()
        for run_id in commands.take_up:
            self._register(run_id, True, self._launcher.adopt(run_id))
        for run_id in commands.account_for:
            self._register(run_id, True, self._launcher.abandon())

    def _cancel_forgotten(self) -> None:
        for local in self._local_runs.values():
            if local.is_orphaned and local.task is not None:
                local.task.cancel()

    async def _follow_journal(self, run_id: str) -> AsyncGenerator[Sequence[Record | AnswerNews]]:
        folder = self.folder(run_id)
        offset = 0
        while True:
            end, is_open = await self.end(run_id)
            data = (
                await asyncio.to_thread(folder.read, offset)
                if await asyncio.to_thread(folder.exists)
                else b""
            )
            offset += len(data)
            records = [from_line(line) for line in data.splitlines()]
            if unseen := [record for record in records if not isinstance(record, RunFinished)]:
                yield unseen
            if not is_open:
                yield [end or end_from_error(ClusterError(REPLICA_LOST_MESSAGE))]
                return
            await asyncio.sleep(JOURNAL_POLL_S)


@dataclass(frozen=True, slots=True)
class SubmittedRun:
    """A request, who asked it, and how to load its context."""

    request: StoredRequest
    key: ApiKey
    load: Callable[[], Awaitable[Context]]
    """Its context."""
    traceparent: str = ""
    idempotency: str = ""
    digest: str = ""
    """Of the request, where it has an idempotency key."""
    streams_answer: bool = False
    """Its client reads the answer while it is written."""

    @property
    def lasting(self) -> bool:
        """Tell whether it goes on without its client."""
        return self.request.background or bool(self.idempotency)


def _requests_of(run_dir: str, key: str, most: int) -> list[StoredRequest]:
    stored = (load_request(folder) for folder in list_runs(run_dir)[:RUNS_LOOKED_AT])
    return list(itertools.islice((each for each in stored if each is not None and each.key == key), most))
