"""The driver's side of the cluster: connects to Ray, finds or makes the pool, runs root sessions in it.

`PoolHandle` is the pool's handle with the configuration last sent to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any, Concatenate, Literal, ParamSpec, TypeAlias, TypeVar

import ray

from rlm_ray.cluster.answer_feed import AnswerFeed
from rlm_ray.cluster.context_ref import ContextRef, put_context
from rlm_ray.cluster.detached_actor import NAMESPACE, check_version, node_affinity
from rlm_ray.cluster.environment import provider_environment, script_folders
from rlm_ray.cluster.messages import LeafCall, LeafCallBatch, SessionSpec
from rlm_ray.cluster.pool import LEAVES_PER_ACTOR, POOL_NAME, Pool, create_session_actor, session_actor_name
from rlm_ray.cluster.ray_calls import (
    ACTOR_DIED_ERRORS,
    RayThread,
    await_or_cancel,
    current_ray_thread,
    first_line,
    stream_or_cancel,
    undo_nothing,
)
from rlm_ray.cluster.ray_init import connect_ray
from rlm_ray.cluster.ray_metrics import RayMetrics
from rlm_ray.cluster.services import admission_actor, admission_stub, journal_stub, local_services
from rlm_ray.cluster.slots import share
from rlm_ray.cluster.subcalls.leaf_calls import TOP_UP_S
from rlm_ray.config import Cluster
from rlm_ray.core.context import Context
from rlm_ray.core.repl_types import SubCallOutcome
from rlm_ray.errors import ActorLostError, ClusterError, RLMError
from rlm_ray.events.usage import RunUsage
from rlm_ray.journal.recorder import JournalClient
from rlm_ray.session.result import SessionResult
from rlm_ray.util.rpc import PROTOCOL

_log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

WaitTeller: TypeAlias = Callable[[str], None]
"""Is told what is waited for, and why; empty where it is there."""
LeafConsumer: TypeAlias = Callable[[list[tuple[int, SubCallOutcome, RunUsage]]], None]
"""Takes ordinals of plain calls, their outcomes and what they used."""

PoolKind: TypeAlias = Literal["own", "kept", "shared"]
"""`own`: one for this driver alone. `kept`: the same, but others may use it; `rlm-ray up` has it. `shared`: one that is kept,
where it has the same environment as this process; else an own one."""

USAGE_S = 0.3
WAIT_TOLD_EVERY_S = 2.0
"""So often is told what a slot is waited for."""
NOTICE_S = 8.0
"""An actor starts in half of that where there is room for it."""
NOTICE_EVERY_S = 60.0
KEPT_POOL, KEPT_POOL_S = "rlm_ray.kept_pool", 5.0
WORKERS_TTL_S = 0.25
"""How long the actors that the pool names are used for further plain calls."""
POOL_ATTEMPTS = 3
"""How often the pool is asked when it is lost, each time a new one."""
LEAF_ATTEMPTS = 3
"""How often a batch of plain calls is sent out when its actors die."""


def _tell_nobody(_: str) -> None:
    pass


def _on_ray_thread(
    method: Callable[Concatenate[ClusterDriver, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[ClusterDriver, P], Coroutine[Any, Any, T]]:
    """Run a method of the driver on the thread of its connection, whichever loop it is called from."""

    @wraps(method)
    async def call(engine: ClusterDriver, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await engine._thread.run(method(engine, *args, **kwargs))  # noqa: SLF001 - a part of the class

    return call


@dataclass(frozen=True, slots=True)
class Slot:
    """The right to run one root session in one actor."""

    name: str
    handle: Any
    lease: str


class ClusterDriver:
    """Runs root sessions in the pool of the cluster this process is connected to.

    `admission`, `answers`, `journal` and `journal_client` are for the thread of the connection.
    """

    def __init__(self, handle: PoolHandle, thread: RayThread) -> None:
        self._handle = handle
        self._thread = thread
        self.journal = thread.get_or_create("journal", journal_stub)
        self.journal_client = thread.get_or_create("journal client", self._make_journal_client)
        self.admission = thread.get_or_create("admission", admission_stub)
        self.answers = thread.get_or_create("answers", AnswerFeed)
        self._calls: Counter[str] = Counter()
        """Plain calls under way from here, by actor."""
        self._leaves = 0
        """Those, and those that have no actor yet."""
        self._workers: dict[str, Any] = {}
        """The actors as the pool last named them; when, and for how many calls it was asked."""
        self._workers_asked, self._workers_asked_at = 0, -math.inf

    @classmethod
    async def connect(
        cls,
        cluster: Cluster,
        tell: WaitTeller = _tell_nobody,
        models: Iterable[str] = (),
        pool: PoolKind = "own",
    ) -> ClusterDriver:
        """Connect, starting Ray and the pool where there is none. Takes seconds the first time.

        `tell` is told what is waited for meanwhile. Session actors import what these `models` need while they start.
        `pool`: see `PoolKind`.
        """
        thread = current_ray_thread()
        return await thread.run(cls._connect(cluster, thread, tell, frozenset(models), pool))

    @classmethod
    async def _connect(
        cls, cluster: Cluster, thread: RayThread, tell: WaitTeller, models: frozenset[str], pool: PoolKind
    ) -> ClusterDriver:
        is_new = connect_ray(cluster.address, tell)  # no await: those who connect at once do it one by one
        tell("a session actor: it starts")
        thread.bind_connection()
        handle = thread.get_or_create("pool", lambda: PoolHandle(cluster, pool, is_new_ray=is_new))
        handle.configure(cluster, models)
        return cls(handle, thread)

    def _make_journal_client(self) -> JournalClient:
        # Beginning and end of a root session are written here, so here they are counted.
        return JournalClient(f"driver-{secrets.token_hex(4)}", self.journal, observer=RayMetrics().observer)

    async def run_on_ray_thread(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the thread of the connection; cancelling this cancels it."""
        return await self._thread.run(work)

    @property
    def _pool(self) -> Any:
        return self._handle.actor

    async def _ask_pool(
        self, method: str, *arguments: Any, undo: Callable[[Any], None] = undo_nothing
    ) -> Any:
        """Return what the pool answers; a new one where it is lost. If the caller is cancelled, an answer that comes all the same
        is undone."""
        for left in reversed(range(POOL_ATTEMPTS)):
            handle = self._handle
            try:
                return await await_or_cancel(getattr(handle.actor, method).remote(*arguments), undo)
            except ray.exceptions.RayTaskError as error:
                raise _unwrap_task_error(error) from error
            except ACTOR_DIED_ERRORS as error:
                if not left:
                    why = (
                        "the pool of session actors was lost again and again; its node may be short of memory"
                    )
                    raise ClusterError(why) from error
                _log.warning("the pool of session actors was lost: %s", first_line(error))
                self._handle = self._thread.replace("pool", handle, handle.make_successor)
                self._workers_asked = 0
        raise AssertionError

    @_on_ray_thread
    async def acquire_slot(self, per_actor: int, run_id: str, tell: WaitTeller = _tell_nobody) -> Slot:
        """Acquire a slot for root sessions of a run that this process holds at the admission; waits for one.

        `tell` is told what is waited for, and nothing once it is there.
        """
        if (environment := self._handle.changed_environment()) is not None:
            await self._ask_pool("set_environment", environment)
        async with self._noticing(tell):
            leased = await self._ask_pool(
                "acquire_root_slot", per_actor, run_id, undo=lambda late: self.release_slot(Slot(*late))
            )
        return Slot(*leased)

    def release_slot(self, slot: Slot) -> None:
        """Return a slot to the pool; twice changes nothing."""
        self._pool.release.remote([slot.name], slot.lease)

    @_on_ray_thread
    async def pack(self, context: Context) -> ContextRef:
        """Put a context where the whole cluster can read it."""
        return put_context(context)

    @_on_ray_thread
    async def run(self, slot: Slot, spec: SessionSpec) -> SessionResult | RLMError:
        """Run a root session; returns its result or error. Raises `ActorLostError`. Cancelling this cancels the whole tree."""
        try:
            result: SessionResult | RLMError = await await_or_cancel(slot.handle.run.remote(spec))
        except ACTOR_DIED_ERRORS as error:
            self._pool.on_actor_died.remote(slot.name)
            raise ActorLostError(f"the actor of the root session died: {first_line(error)}") from error
        except ray.exceptions.RayTaskError as error:
            raise _unwrap_task_error(error) from error
        return result

    @_on_ray_thread
    async def stop(self, slot: Slot, run_id: str, reason: str, why: str) -> bool:
        """End a run early; its root then gives what it knows. False where it is not there, or its actor has just died."""
        try:
            return bool(await slot.handle.stop.remote(run_id, reason, why))
        except ACTOR_DIED_ERRORS:
            return False

    @_on_ray_thread
    async def run_leaf_calls(
        self, batch: LeafCallBatch, deliver: LeafConsumer, tell: WaitTeller = _tell_nobody
    ) -> None:
        """Make plain calls in one of the actors, side by side; `deliver` gets their results as they come, each once."""
        left = {leaf.ordinal: leaf for leaf in batch.leaves}
        self._leaves += len(left)
        try:
            await self._run_leaf_calls(batch, left, deliver, tell)
        finally:
            self._leaves -= len(left)

    async def _run_leaf_calls(
        self, batch: LeafCallBatch, left: dict[int, LeafCall], deliver: LeafConsumer, tell: WaitTeller
    ) -> None:
        """Take those whose results have come out of `left`."""
        for _ in range(LEAF_ATTEMPTS):
            while not (actors := await self._leaf_actors()):
                await self.grow_to(1, tell)
            name = min(actors, key=self._calls.__getitem__)
            self._calls[name] += len(left)
            try:
                async for results in stream_or_cancel(actors[name].stream_leaf_calls.remote(batch)):
                    for ordinal, *_ in results:
                        del left[ordinal]
                    self._leaves -= len(results)
                    self._calls[name] -= len(results)
                    deliver(results)
            except ACTOR_DIED_ERRORS:
                self._workers_asked = 0
                await self._ask_pool("on_actor_died", name)
                batch = replace(batch, leaves=tuple(left.values()), replays=True)
            except ray.exceptions.RayTaskError as error:
                raise _unwrap_task_error(error) from error
            finally:
                self._calls[name] -= len(left)
            if not left:
                return
        raise ActorLostError("the actors of plain calls died again and again; they may need more memory")

    @_on_ray_thread
    async def usage(self, run_id: str) -> RunUsage:
        """Return what an open run has used; nothing where the admission does not answer at once."""
        with contextlib.suppress(TimeoutError, ClusterError):
            async with asyncio.timeout(USAGE_S):
                return await self.admission.usage(run_id)
        return RunUsage()

    @_on_ray_thread
    async def grow_to(self, actors: int, tell: WaitTeller = _tell_nobody) -> None:
        """Start actors until so many are warm, as far as the cluster allows."""
        async with self._noticing(tell):
            await self._ask_pool("scale_to", actors)

    @_on_ray_thread
    async def stats(self) -> dict[str, dict[str, Any]]:
        """Return the statistics of each actor that answers."""
        handles = await self._ask_pool("handles")
        asked = (handle.stats.remote() for handle in handles.values())
        counts = await asyncio.gather(*asked, return_exceptions=True)
        return {name: count for name, count in zip(handles, counts, strict=True) if isinstance(count, dict)}

    async def _leaf_actors(self) -> dict[str, Any]:
        """Return the actors for more plain calls, once one of them has less than its share, or no other is starting.

        The pool grows with all calls that are to be made. It is asked a few times a second, and whenever there are more than
        it has heard of.
        """
        calls = self._leaves
        is_fresh = time.monotonic() - self._workers_asked_at <= WORKERS_TTL_S
        if not (is_fresh and self._workers and calls <= self._workers_asked):
            self._workers_asked, self._workers_asked_at = calls, time.monotonic()
            self._workers = await self._ask_pool("workers", calls)
            while self._workers and (coming := (await self._ask_pool("outlook")).coming):
                self._workers_asked = 0  # so that the next one asks, too
                most = share(calls, LEAVES_PER_ACTOR, len(self._workers) + coming)
                if min(self._calls[name] for name in self._workers) < most:
                    break
                await asyncio.sleep(TOP_UP_S)
                self._workers = await self._ask_pool("workers", 0) or self._workers
        return self._workers

    @asynccontextmanager
    async def _noticing(self, tell: WaitTeller = _tell_nobody) -> AsyncIterator[None]:
        """Tell what the block waits for; log it, if it takes long because others hold the CPUs."""
        tasks = [asyncio.create_task(self._notice())]
        if tell is not _tell_nobody:
            tasks.append(asyncio.create_task(self._keep_telling(tell)))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            tell("")

    async def _notice(self) -> None:
        await asyncio.sleep(NOTICE_S)
        why = ""
        with contextlib.suppress(ray.exceptions.RayError):  # whoever waits is told
            why = await self._pool.waits_for.remote(blocked_only=True)
        if why and time.monotonic() - self._handle.noticed_at >= NOTICE_EVERY_S:
            self._handle.noticed_at = time.monotonic()
            _log.warning("waiting for %s", why)

    async def _keep_telling(self, tell: WaitTeller) -> None:
        with contextlib.suppress(ray.exceptions.RayError):  # whoever waits is told
            while True:
                await asyncio.sleep(WAIT_TOLD_EVERY_S)
                tell(await self._pool.waits_for.remote())


def _unwrap_task_error(error: Any) -> RLMError:
    cause = error.cause
    if isinstance(cause, RLMError):
        return cause
    return ClusterError(f"a bug in rlm_ray or in Ray; please report it with this text: {cause!r}")


def _create_pool(cluster: Cluster, *, is_kept: bool) -> Any:
    options = {
        "name": POOL_NAME,
        "get_if_exists": True,
        "num_cpus": 0,
        "max_concurrency": 100_000,
        # it dies with this process; no other node's loss should take it
        "scheduling_strategy": node_affinity(soft=False),
    }
    if is_kept:
        options |= {"name": f"{KEPT_POOL}.v{PROTOCOL}", "namespace": NAMESPACE}
    return ray.remote(Pool).options(**options).remote(cluster)


def find_kept_pool(environment: dict[str, str]) -> Any:
    """Return the pool that `rlm-ray up` keeps on this cluster, where this process may use it; else None.

    Its session actors have one environment, and import nothing from the folder of a program.
    """
    with contextlib.suppress(ValueError, ray.exceptions.RayError):  # there is none, or it ends
        pool = ray.get_actor(f"{KEPT_POOL}.v{PROTOCOL}", namespace=NAMESPACE)
        fits = ray.get(pool.fits.remote(environment, script_folders()), timeout=KEPT_POOL_S)
        return pool if fits else None
    return None


class PoolHandle:
    """Makes the pool of this connection if it is not there yet, with its first actors on the way.

    Held as long as the process is connected: without a handle left the pool would end.
    """

    def __init__(self, cluster: Cluster, kind: PoolKind, *, is_new_ray: bool) -> None:
        """Ask for all actors at once; `is_new_ray`: this process has just started Ray, so that there are none yet."""
        self._environment = provider_environment()
        self._cluster: Cluster | None = None
        self._models: frozenset[str] = frozenset()
        self.noticed_at = -math.inf
        """When a warning last said what is waited for."""
        self._requested: dict[str, Any] = {}
        """The first session actor, asked for before the pool is there to do it."""
        if not is_new_ray:
            check_version()
        kept = find_kept_pool(self._environment) if kind == "shared" and not is_new_ray else None
        self._is_shared = kept is not None
        self.actor = kept or _create_pool(cluster, is_kept=kind == "kept")
        if self._is_shared:
            return
        if is_new_ray:
            name = session_actor_name("first")
            self._requested[name] = create_session_actor(name, self.actor, cluster)
            local_services()
        else:
            admission_actor()
        self.actor.set_environment.remote(self._environment)

    def configure(self, cluster: Cluster, models: frozenset[str]) -> None:
        """Tell the pool its sizes, and the models of runs, where they are new."""
        if self._cluster != cluster or not models <= self._models:
            self._cluster, self._models = cluster, self._models | models
            self.actor.configure.remote(cluster, self._models, self._requested)

    def make_successor(self) -> PoolHandle:
        """Make another pool in place of this one, which is lost; ends what would have ended with it, had it been asked for there."""
        for handle in self._requested.values():
            ray.kill(handle)
        assert self._cluster is not None  # it was configured before anybody asked it
        successor = PoolHandle(self._cluster, "own", is_new_ray=False)
        successor.configure(self._cluster, self._models)
        return successor

    def changed_environment(self) -> dict[str, str] | None:
        """Return the provider keys, to be sent again, where they were set, changed or removed since; else None."""
        environment = provider_environment()
        if self._environment == environment or self._is_shared:
            return None
        self._environment = environment
        return environment
