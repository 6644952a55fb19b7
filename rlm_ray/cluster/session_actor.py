"""The session actor: runs many sessions on one event loop, each with a sandbox process of its own.

A plain class with short methods; `pool` wraps it for Ray. Expected errors are returned, not raised: they are part
of the message, and Ray's traceback around them would cost more than the message.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
import zlib
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import ray

from rlm_ray.admission.client import AdmissionClient
from rlm_ray.cluster.answer_feed import AnswerOutbox, NewsOfRuns
from rlm_ray.cluster.context_ref import get_context
from rlm_ray.cluster.environment import forget_driver_folders, take_storage_environment
from rlm_ray.cluster.messages import LeafCallBatch, SessionSpec
from rlm_ray.cluster.ray_metrics import RayMetrics
from rlm_ray.cluster.services import admission_stub, journal_stub, response_cache
from rlm_ray.cluster.subcalls.child_sessions import ChildSessions
from rlm_ray.cluster.subcalls.dispatcher import ParentSession, SubcallDispatcher
from rlm_ray.cluster.subcalls.leaf_calls import (
    LeafCalls,
    in_portions,
    run_counted_leaf_call,
    run_leaf_call,
)
from rlm_ray.core.answer_preview import AnswerPreview
from rlm_ray.core.context import Context
from rlm_ray.core.repl_types import Failed, SubCallOutcome
from rlm_ray.errors import ClusterError, LimitReached, RLMError, SandboxError
from rlm_ray.events.usage import RunUsage
from rlm_ray.journal.recorder import JournalClient, NullRecorder
from rlm_ray.llm.gateway import Gateway
from rlm_ray.llm.model_provider import ModelProvider
from rlm_ray.llm.run_context import Deadline, RunContext, in_time
from rlm_ray.sandbox.host.sandbox import ReplProcess, SandboxManager
from rlm_ray.sandbox.settings import Sandbox
from rlm_ray.session.result import SessionResult
from rlm_ray.session.session import Session
from rlm_ray.tools.host import Toolbox, ToolHosts
from rlm_ray.util.batcher import Batcher
from rlm_ray.util.log_format import log_run, use_log_format

SLOT_RETURN_LINGER_S = 0.005

T = TypeVar("T")

_log = logging.getLogger(__name__)


class SessionActor:
    """Runs sessions and batches of plain calls."""

    def __init__(self, name: str, pool: Any) -> None:
        self._tools = ToolHosts(forget_driver_folders())
        self._environment: dict[str, str] = {}
        self.name = name
        self.pool = pool
        self._admission = admission_stub()
        self._client = AdmissionClient(name, self._admission)
        self._journal = JournalClient(name, journal_stub(), observer=RayMetrics().observer)
        self._provider = ModelProvider()
        self._gateway = Gateway(self._provider, self._client, open_cache=response_cache)
        self._sandboxes: dict[Sandbox, asyncio.Task[SandboxManager]] = {}
        self._roots: dict[str, Session] = {}
        self._answers = AnswerOutbox()
        self._thinkers: set[str] = set()
        """Models whose replies begin with thinking that no tag opens."""
        self._running: dict[asyncio.Task[Any], str] = {}
        """Running sessions, and the actors of their parents."""
        self._leases: set[str] = set()
        """Of the root sessions that have begun here."""
        self._batches = 0
        """Batches of plain calls under way."""
        self._returned_slots: Batcher[str, None] = Batcher(self._release, linger_s=SLOT_RETURN_LINGER_S)

    async def ready(self, environment: dict[str, str], models: frozenset[str]) -> str:
        """Import what these models need and start a sandbox, both at once; returns the id of this node."""
        self._set_environment(environment)
        await asyncio.gather(self._provider.prepare(models), self._warm_sandbox())
        return str(ray.get_runtime_context().get_node_id())

    async def set_environment(self, environment: dict[str, str]) -> None:
        """Set the provider keys of the driver; the sandbox never sees them, its processes start with an empty environment."""
        self._set_environment(environment)

    async def prepare(self, models: frozenset[str]) -> None:
        """Import what these models need, before the first call to one of them."""
        await self._provider.prepare(models)

    async def run(self, spec: SessionSpec) -> SessionResult | RLMError:
        """Run one session to its end."""
        task = asyncio.current_task()
        assert task is not None
        self._running[task] = spec.parent
        if spec.lease:
            self._leases.add(spec.lease)
        try:
            await self._provider.prepare(spec.run.settings.all_models())
            with _logs_of(spec.run):
                async with self._recorder(spec.run, replays=spec.replays) as recorder:
                    return await self._run(spec, await get_context(spec.context), recorder)
        except RLMError as error:
            return error
        finally:
            self._running.pop(task, None)
            if spec.lease:
                self._leases.discard(spec.lease)
                self.pool.release.remote([self.name], spec.lease)

    async def run_leaf_calls(self, batch: LeafCallBatch) -> list[SubCallOutcome]:
        """Make plain calls side by side; outcomes in order."""
        async with self._leaf_calls(batch, run_leaf_call) as tasks:
            outcomes = await asyncio.gather(*tasks)
        await self._gateway.flush(batch.run.run_id)
        return outcomes

    async def stream_leaf_calls(
        self, batch: LeafCallBatch
    ) -> AsyncIterator[list[tuple[int, SubCallOutcome, RunUsage]]]:
        """Make plain calls side by side; yields ordinals, outcomes and usage as they come, a few at a time.

        Failures that end the run come last: whoever hears of one may cancel the others.
        """
        left, last = len(batch.leaves), []
        async with self._leaf_calls(batch, run_counted_leaf_call) as tasks:
            async for portion in in_portions(tasks):
                fatal = [each for each in portion if isinstance(each[1], Failed) and each[1].fatal_error]
                last += fatal
                left -= len(portion)
                if not left:
                    await self._gateway.flush(batch.run.run_id)
                yield [each for each in portion if each not in fatal] + ([] if left else last)

    @asynccontextmanager
    async def _leaf_calls(
        self, batch: LeafCallBatch, call: Callable[..., Coroutine[Any, Any, T]]
    ) -> AsyncIterator[list[asyncio.Task[T]]]:
        """Begin a batch of plain calls; what is not over at the end of the block is cancelled."""
        tasks: list[asyncio.Task[T]] = []
        self._batches += 1
        try:
            with _logs_of(batch.run):
                await self._provider.prepare(batch.run.settings.all_models())
                context = await get_context(batch.context) if batch.context is not None else None
                async with self._recorder(batch.run, replays=batch.replays) as recorder:
                    try:
                        for leaf in batch.leaves:
                            work = call(self._gateway, recorder, batch, leaf, context)
                            tasks.append(asyncio.create_task(work))
                        yield tasks
                    finally:
                        for task in tasks:
                            task.cancel()
                        await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            self._batches -= 1

    async def open_sessions(self, run: RunContext, count: int) -> None:
        """Count child sessions before they start. Raises `LimitReached` where the run may not have so many."""
        refused = await self._admission.open_sessions(run.policy(), count)
        if refused is not None:
            raise LimitReached(refused.reason, refused.why)

    def return_slot(self, name: str) -> None:
        """Return a leased slot to the pool, together with others of these milliseconds."""
        self._returned_slots.add(name)

    async def stop(self, run_id: str, reason: str, why: str) -> bool:
        """End a run whose root is here: its children are cancelled, its root gives what it knows."""
        session = self._roots.get(run_id)
        if session is not None:
            session.stop(reason, why)
        return session is not None

    async def read_answers(self, listener: str) -> NewsOfRuns:
        """Return what models have written of the answers that this driver reads along; waits for a second at most."""
        return await self._answers.take(listener)

    async def cancel_orphans(self, parent: str) -> None:
        """Cancel the sessions whose parent was in a dead actor: nobody waits for them."""
        for task, of in list(self._running.items()):
            if of == parent:
                task.cancel()

    async def has_begun(self, lease: str) -> bool:
        """Tell whether the session of this lease is at work here."""
        return lease in self._leases

    async def wait_forever(self) -> None:
        """Never return: a caller that waits here gets an error when this actor dies."""
        await asyncio.Event().wait()

    async def stats(self) -> dict[str, Any]:
        """Count what runs here, for tests and health checks."""
        hosts = [task.result() for task in self._sandboxes.values() if task.done() and not task.exception()]
        return {
            "sessions": len(self._running),
            "batches": self._batches,
            "tasks": len(asyncio.all_tasks()),
            "sandboxes": sum(host.live_children for host in hosts),
            "pid": os.getpid(),
            "node": ray.get_runtime_context().get_node_id(),
        }

    async def retire(self) -> bool:
        """Close, unless something is at work here; the actor is killed after this. False: it stays."""
        if self._running or self._batches:
            return False
        await self._shut()
        return True

    async def _shut(self) -> None:
        """Close the sandboxes."""
        for task in self._sandboxes.values():
            host = await task
            await host.aclose()
        await self._tools.aclose()
        await self._client.flush()

    async def _run(self, spec: SessionSpec, context: Context, recorder: NullRecorder) -> SessionResult:
        parent = ParentSession(self, spec, context, self._gateway, recorder)
        toolbox = await self._toolbox(spec)
        session = Session(
            path=spec.path,
            run_context=spec.run,
            recorder=recorder,
            query=spec.query,
            context=context,
            gateway=self._gateway,
            open_repl=partial(self._open_repl, spec, toolbox),
            tools=toolbox,
            follow_ups=spec.follow_ups,
            messages=spec.messages,
            model=spec.model,
            preview=self._preview(spec),
            schemas=[None if schema is None else schema.load() for schema in spec.schemas],
            spawn=SubcallDispatcher(parent, LeafCalls(parent), ChildSessions(parent)),
        )
        if not spec.path:
            completion = await self._run_root(spec, session)
        else:
            async with in_time(spec.run.deadline):
                completion = await session.run()
            await self._gateway.flush(spec.run.run_id)
        await recorder.flush()
        return replace(completion, trajectory=None, turns=len(session.trajectory.turns))

    async def _run_root(self, spec: SessionSpec, session: Session) -> SessionResult:
        """Run a root. Its run is opened here, where its first request comes from; the driver that holds it closes it."""
        run = spec.run
        self._gateway.check_prices(run.settings.all_models(), run)
        await self._admission.open_run(run.policy())
        self._roots[run.run_id] = session
        try:
            completion = await _run_until_deadline(run.deadline, session)
        finally:
            if self._roots.get(run.run_id) is session:  # a later attempt of the run may have begun here
                del self._roots[run.run_id]
            self._answers.drop(run.listener, run.run_id)
            await self._gateway.flush(run.run_id)
        usage = await self._usage_of(run.run_id)
        if run.settings.cache:
            usage = replace(usage, cache_hits=await response_cache(run.settings.cache).pop_hits(run.run_id))
        return replace(completion, usage=usage)

    async def _usage_of(self, run_id: str) -> RunUsage:
        """Return what the admission has counted; nothing where it is gone: the run has its answer all the same."""
        try:
            return await self._admission.usage(run_id)
        except ClusterError as error:
            _log.warning("what run %s has used is not known: %s", run_id, error)
            return RunUsage()

    def _preview(self, spec: SessionSpec) -> AnswerPreview | None:
        """Return what tells the answer of a root while it is written; None where nobody reads along."""
        if spec.path or not spec.run.listener:
            return None
        return AnswerPreview(partial(self._answers.add, spec.run.listener, spec.run.run_id), self._thinkers)

    def _set_environment(self, environment: dict[str, str]) -> None:
        for gone in self._environment.keys() - environment.keys():
            os.environ.pop(gone, None)
        take_storage_environment(environment)
        os.environ.update(environment)
        self._environment = environment

    async def _release(self, names: Sequence[str]) -> None:
        self.pool.release.remote(names, self.name)

    @asynccontextmanager
    async def _recorder(self, run: RunContext, *, replays: bool) -> AsyncIterator[NullRecorder]:
        """Yield the run's recorder, with its history loaded where something may be replayed."""
        async with self._journal.recorder(run.journal, run.settings) as recorder:
            if replays:
                await recorder.load_history()
            yield recorder

    async def _toolbox(self, spec: SessionSpec) -> Toolbox | None:
        """Return the tools that the session has; the process they run in starts with the first that needs it."""
        settings = spec.run.settings
        if not settings.has_tools or (spec.depth and not settings.tool_limits.children):
            return None
        if not spec.depth and settings.answers_directly(spec.context.info):
            return None
        return await self._tools.open(settings.tools, settings.mcp_servers, settings.tool_limits)

    async def _open_repl(
        self, spec: SessionSpec, toolbox: Toolbox | None, context: Context, query: str
    ) -> ReplProcess:
        """Open a REPL. The seed is the session's own: code that is run again draws the same numbers."""
        settings = spec.run.settings
        host = await self._sandbox(settings.sandbox)
        return await host.open(
            context,
            query,
            seed=zlib.crc32(f"{spec.run.run_id}{spec.path}".encode()),
            tools=() if toolbox is None else tuple(tool.name for tool in toolbox.specs),
            argument_bytes=settings.tool_limits.max_argument_bytes,
        )

    async def _sandbox(self, settings: Sandbox) -> SandboxManager:
        if settings not in self._sandboxes:
            self._sandboxes[settings] = asyncio.ensure_future(_start_sandbox(settings))
        task = self._sandboxes[settings]
        try:
            return await asyncio.shield(task)
        except SandboxError:
            self._sandboxes.pop(settings, None)
            raise

    async def _warm_sandbox(self) -> None:
        try:
            await self._sandbox(Sandbox())
        except SandboxError:
            return  # a session that needs this sandbox will say so


def _logs_of(run: RunContext) -> AbstractContextManager[None]:
    """Return a block whose log lines are written as the run wants them, and name it."""
    use_log_format(run.settings.log_format)
    return log_run(run.run_id, run.trace_id)


async def _start_sandbox(settings: Sandbox) -> SandboxManager:
    host = SandboxManager(settings)
    await host.start()
    return host


async def _run_until_deadline(deadline: Deadline | None, session: Session) -> SessionResult:
    """Run the root, and stop it while there is still time for its last call."""
    if deadline is None:
        return await session.run()
    loop = asyncio.get_running_loop()
    left_s = max(0.0, deadline.last_call_at - time.time())
    timer = loop.call_later(left_s, session.stop, "time_s", deadline.why)
    try:
        return await session.run()
    finally:
        timer.cancel()
