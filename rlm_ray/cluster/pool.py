"""The pool: creates session actors, leases their slots, grows with demand and shrinks when idle.

One named actor of a job holds it. A session actor takes `cpus_per_actor` and is placed with SPREAD, so that an
autoscaler sees the demand. Actors die with the driver that owns the pool.

`slots.py` decides how far it grows before all slots are taken: at once onto nodes with a free CPU and no session actor, and
beside actors at work where the crowd lasts. Work begins where it is; what is more than an actor's share waits for those
that are starting, for three times as long as a start takes at most.

`cpu_holders` says who holds the CPUs of the cluster, for whoever waits for one.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import math
import secrets
import sys
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any

import ray
from ray._private import state  # the tables of the GCS; the public state API wants a dashboard

from rlm_ray.cluster.detached_actor import NAMESPACE
from rlm_ray.cluster.ray_calls import first_line
from rlm_ray.cluster.services import admission_stub
from rlm_ray.cluster.slots import (
    SESSIONS_TARGET,
    FreeCapacity,
    Outlook,
    SlotTable,
    free_capacity,
    growth,
    share,
)
from rlm_ray.config import Cluster
from rlm_ray.errors import ClusterError

POOL_NAME = "rlm_ray.pool"
LEAVES_PER_ACTOR = 32
"""A map of more plain calls than this for each actor asks for one actor more."""
START_TIMEOUT_S = 120.0
START_ATTEMPTS = 3
SCALE_DOWN_INTERVAL_S = 1.0
RETIRE_S = 30.0
"""How long an idle actor may take to end by itself."""
REMOTE_SLOT_POLL_S = 0.05
"""The interval at which `lease_remote_slot` looks for a free slot in another actor."""
REMOTE_SLOT_TIMEOUT_S = 10.0
"""How long it waits for one: about as long as an actor takes to start, where a CPU is free for it."""
CROWD_LASTS_S = 3.0
"""A crowd that lasts so long is worth an actor on a node that has one: about what its start costs."""
DEFAULT_START_S = 4.0
"""What a start is taken to last until one has been seen."""
MAX_HELD_STARTS = 3.0
"""Work is held back for starting actors for so many times as long as a start took: several start at once."""
CAPACITY_TTL_S = 0.25
"""How long a count of the cluster's free CPUs is used."""
DRIVER_CHECK_INTERVAL_S = 10.0
"""How often is looked for slots of runs that no driver holds any more."""

_log = logging.getLogger(__name__)


class Pool:
    """Holds the session actors of one driver. A plain class; `driver.py` wraps it as a named Ray actor."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._models: frozenset[str] = frozenset()
        """Those of the driver's runs so far: what they need is imported before an actor counts as started."""
        self._environment: dict[str, str] = {}
        self._has_environment = asyncio.Event()
        self._slots = SlotTable()
        self._handles: dict[str, Any] = {}
        self._starting: dict[str, asyncio.Task[None]] = {}
        self._waiting: deque[tuple[int, str, asyncio.Future[tuple[str, Any]]]] = deque()
        self._numbers = itertools.count()
        self._is_configured = asyncio.Event()
        """Calls may come in another order than they were sent in; until then it is not known which actors were asked for."""
        self._requested: set[str] = set()
        """Actors that the driver has asked for itself."""
        self._admission = admission_stub()
        self._janitors: list[asyncio.Task[None]] = []
        self._failed_starts = 0
        self._last_start_error = ""
        self._death_watches: dict[str, asyncio.Task[None]] = {}
        self._nodes: dict[str, str] = {}
        """The nodes of the actors at work."""
        self._max_actors, self._free_cpus = 0, dict[str, float]()
        self._capacity_checked_at = -CAPACITY_TTL_S
        self._crowded_since: float | None = None
        self._start_s = DEFAULT_START_S
        self._growing_since = -math.inf
        """Since when actors are starting that work is held back for."""
        self._root_leases: dict[str, tuple[str, str]] = {}
        """The actor and the run of each lease for root sessions."""
        self._driverless: set[str] = set()
        """Those of them whose runs no driver held when that was last looked for."""

    async def configure(
        self, cluster: Cluster, models: frozenset[str], requested: Mapping[str, Any] = MappingProxyType({})
    ) -> None:
        """Set the sizes, which may change while it runs, and the models that runs will call.

        `requested` are session actors, by id, that the driver has asked for before the pool was there.
        """
        self._cluster = cluster
        if not models <= self._models:
            self._models |= models
            for handle in self._handles.values():
                handle.prepare.remote(self._models)
        for actor in requested.keys() - self._requested:
            self._requested.add(actor)
            self._start_actor(actor, requested[actor])
        self._is_configured.set()
        self._start_janitors()
        with contextlib.suppress(ClusterError):  # whoever needs an actor is told
            await self.scale_to(cluster.min_actors)

    async def set_environment(self, environment: dict[str, str]) -> None:
        """Pass the driver's provider keys on to every actor; one that has just died needs none."""
        self._environment = environment
        self._has_environment.set()
        told = (handle.set_environment.remote(environment) for handle in self._handles.values())
        await asyncio.gather(*told, return_exceptions=True)

    async def fits(self, environment: dict[str, str], folders: list[str]) -> bool:
        """Tell whether its actors have these provider keys and no others, and import from these folders as well."""
        return self._environment == environment and set(folders) <= set(sys.path)

    async def handles(self) -> dict[str, Any]:
        """Return the actors at work, by id."""
        return dict(self._handles)

    async def stats(self) -> dict[str, int]:
        """Count actors and slots, for tests and health checks."""
        return {
            "actors": len(self._handles),
            "starting": len(self._starting),
            "taken_slots": self._slots.at_work,
            "waiting": len(self._waiting),
        }

    async def acquire_root_slot(self, per_actor: int, run_id: str) -> tuple[str, Any, str]:
        """Lease a slot for root sessions of a run; returns its actor, the handle of that, and the name of the lease.

        Waits for one. Where the driver of the run dies with it, the pool takes it back. Raises `ClusterError` if no
        actor can be started.
        """
        await self._is_configured.wait()
        lease = f"root-{secrets.token_hex(8)}"  # a lessee of its own; what is late for a pool that was lost names none of these
        self._spread(self._sessions(1), per_actor)
        leased = self._slots.lease(1, self._max_sessions_each(self._sessions(1), per_actor), lease)
        if leased:
            actor, handle = leased[0], self._handles[leased[0]]
        else:
            self._grow(len(self._waiting) + 1, per_actor)
            waiter: asyncio.Future[tuple[str, Any]] = asyncio.get_running_loop().create_future()
            self._waiting.append((per_actor, lease, waiter))
            actor, handle = await self._await_slot(lease, waiter)
        self._root_leases[lease] = actor, run_id
        return actor, handle, lease

    async def lease_slots(
        self, wanted: int, per_actor: int, lessee: str, *, waiting: bool = False
    ) -> tuple[dict[str, tuple[int, Any]], Outlook]:
        """Lease up to `wanted` slots now; returns by actor id how many and its handle, and the outlook for more.

        `lessee` is the actor of the parent. `waiting` frees the parent's own slot until `reacquire_slot`, and brings one
        slot at least: in the parent's own actor where there is no other.
        """
        if waiting:
            self._slots.mark_waiting(lessee)
            self._serve_queue()
        self._spread(self._sessions(wanted), per_actor)
        leased = self._slots.lease(wanted, self._max_sessions_each(self._sessions(wanted), per_actor), lessee)
        if len(leased) < wanted:
            self._grow(wanted - len(leased), per_actor)
        if waiting and not leased:
            leased = self._slots.overcommit_local(lessee)
        slots = {actor: (leased.count(actor), self._handles.get(actor)) for actor in dict.fromkeys(leased)}
        return slots, self._outlook()

    async def lease_remote_slot(self, per_actor: int, lessee: str) -> tuple[str, Any]:
        """Lease a slot in another actor than the lessee's own, for work that may bring an actor down; waits for one.

        Where there is no other to be had, the slot is in the lessee's own actor after all.
        """
        until = time.monotonic() + REMOTE_SLOT_TIMEOUT_S
        while time.monotonic() < until:
            leased = self._slots.lease(1, per_actor, lessee, excluding=lessee)
            if leased:
                return leased[0], self._handles[leased[0]]
            self._grow(1, per_actor)
            if not self._starting and not self._handles.keys() - {lessee}:
                break
            await asyncio.sleep(REMOTE_SLOT_POLL_S)
        return self._slots.overcommit_local(lessee)[0], self._handles.get(lessee)

    async def release(self, slots: list[str], lessee: str) -> None:
        """Return slots. A root's slot that is returned twice counts once."""
        now = time.monotonic()
        for actor in slots:
            self._slots.release(actor, lessee, now)
        self._root_leases.pop(lessee, None)
        self._serve_queue()
        if self._sessions(0) <= SESSIONS_TARGET * len(self._handles):
            self._crowded_since = None

    async def reacquire_slot(self, actor: str) -> None:
        """Take the slot of a parent in this actor again: it has its children's answers."""
        self._slots.mark_running(actor)

    async def workers(self, leaves: int) -> dict[str, Any]:
        """Return all actors, for a map of so many plain calls; grows the pool if that is many."""
        await self._is_configured.wait()
        self._start_actors(leaves, LEAVES_PER_ACTOR, lasting=True)
        now = time.monotonic()
        for actor in self._handles:
            self._slots.mark_used(actor, now)
        return dict(self._handles)

    async def outlook(self) -> Outlook:
        """Return how many actors there are, and how many are starting that work should be held back for."""
        return self._outlook()

    async def on_actor_died(self, actor: str) -> None:
        """Remove a dead actor: its permits and leases come back, and the sessions it had sent out are cancelled."""
        dead = self._handles.pop(actor, None)
        if dead is None:
            return
        _log.warning("session actor %s was lost", actor)
        ray.kill(dead)  # it may only have been out of reach, and would keep its CPU
        self._nodes.pop(actor, None)
        self._slots.remove(actor, time.monotonic())
        for handle in self._handles.values():
            handle.cancel_orphans.remote(actor)
        if self._waiting:
            self._serve_queue()
            self._grow(len(self._waiting), self._waiting[0][0])
        await self._return_permits(actor)

    async def scale_to(self, actors: int) -> None:
        """Start actors until there are so many (or as many as may be), and wait until they are ready.

        Raises `ClusterError` where none is at work in the end.
        """
        await self._is_configured.wait()
        for _ in range(min(actors - len(self._handles) - len(self._starting), self._headroom())):
            self._start_actor()
        while self._starting and len(self._handles) < actors:
            await asyncio.wait(list(self._starting.values()), return_when=asyncio.FIRST_COMPLETED)
        if not self._handles and actors:
            raise ClusterError(self._last_start_error or "no session actor could be started")

    async def waits_for(self, *, blocked_only: bool = False) -> str:
        """Say what those wait for who wait for a slot, and why; `blocked_only`: empty but where others hold the CPUs."""
        if self._handles:
            taken = (
                f"a session slot: {self._slots.at_work:,} sessions are at work in "
                f"{len(self._handles):,} session actor(s), {len(self._waiting):,} wait"
            )
            return "" if blocked_only else taken
        needed = self._cluster.cpus_per_actor
        held = await asyncio.to_thread(cpu_holders, needed) if self._starting else ""
        if held:
            return f"a session actor, which needs {needed:g} CPU: {held}"
        return "" if blocked_only else "a session actor: it starts"

    async def _await_slot(self, lease: str, waiter: asyncio.Future[tuple[str, Any]]) -> tuple[str, Any]:
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                await self.release([waiter.result()[0]], lease)  # it came too late for whoever waited
            raise

    def _serve_queue(self) -> None:
        while self._waiting:
            per_actor, lease, waiter = self._waiting[0]
            if waiter.done():
                self._waiting.popleft()
                continue
            leased = self._slots.lease(1, self._max_sessions_each(self._sessions(0), per_actor), lease)
            if not leased:
                return
            self._waiting.popleft()
            waiter.set_result(
                (leased[0], self._handles[leased[0]])
            )  # the actor may die before the waiter goes on

    def _grow(self, slots: int, per_actor: int) -> None:
        for _ in range(min(-(-slots // per_actor) - len(self._starting), self._headroom())):
            self._start_actor()

    def _sessions(self, more: int) -> int:
        return self._slots.at_work + len(self._waiting) + more

    def _spread(self, sessions: int, per_actor: int) -> None:
        """Start actors in the background where so many sessions are more than a few for each, and CPUs are free."""
        target, now = min(SESSIONS_TARGET, per_actor), time.monotonic()
        if sessions <= target * (len(self._handles) + len(self._starting)):
            self._crowded_since = None
            return
        if self._crowded_since is None:
            self._crowded_since = now
            asyncio.get_running_loop().call_later(CROWD_LASTS_S, self._spread_again, per_actor)
        self._start_actors(sessions, target, lasting=now - self._crowded_since >= CROWD_LASTS_S)

    def _spread_again(self, per_actor: int) -> None:
        self._spread(self._sessions(0), per_actor)

    def _start_actors(self, work: int, target: int, *, lasting: bool) -> None:
        actors = len(self._handles) + len(self._starting)
        if work <= target * actors or not actors:
            return  # the first one is not a matter of free CPUs
        capacity = self._free_capacity()
        started = growth(work, target, actors, capacity, is_lasting=lasting)
        for _ in range(started):
            self._start_actor()
        if started and capacity.new_nodes:
            self._growing_since = time.monotonic()
            held_s = MAX_HELD_STARTS * self._start_s
            asyncio.get_running_loop().call_later(held_s + CAPACITY_TTL_S, self._serve_queue)

    def _outlook(self) -> Outlook:
        grown_s = time.monotonic() - self._growing_since
        if not self._starting or grown_s > MAX_HELD_STARTS * self._start_s:
            return Outlook(len(self._handles))
        return Outlook(len(self._handles), len(self._starting), max(0.0, self._start_s - grown_s))

    def _max_sessions_each(self, sessions: int, per_actor: int) -> int:
        """Return how many sessions may begin in an actor now."""
        outlook = self._outlook()
        if not outlook.coming:
            return per_actor
        return min(per_actor, share(sessions, SESSIONS_TARGET, outlook.actors + outlook.coming))

    def _free_capacity(self) -> FreeCapacity:
        if time.monotonic() - self._capacity_checked_at >= CAPACITY_TTL_S:
            self._max_actors, self._free_cpus = max_actors(self._cluster), free_cpus()
            self._capacity_checked_at = time.monotonic()
        max_more = self._max_actors - len(self._handles) - len(self._starting)
        if max_more <= 0:
            return FreeCapacity()
        nodes, starting = set(self._nodes.values()), len(self._starting)
        return free_capacity(self._free_cpus, nodes, self._cluster.cpus_per_actor, starting, max_more)

    def _headroom(self) -> int:
        return max_actors(self._cluster) - len(self._handles) - len(self._starting)

    def _start_actor(self, actor: str = "", handle: Any = None) -> None:
        """Start an actor; or wait for this one, which has been asked for."""
        actor = actor or session_actor_name(str(next(self._numbers)))
        self._starting[actor] = asyncio.ensure_future(self._start(actor, handle))

    async def _start(self, actor: str, handle: Any) -> None:
        await self._has_environment.wait()
        if handle is None:
            pool = ray.get_runtime_context().current_actor
            handle = create_session_actor(actor, pool, self._cluster)
        try:
            started, environment, models = time.monotonic(), self._environment, self._models
            ready = handle.ready.remote(environment, models)
            node = await asyncio.wait_for(ready, START_TIMEOUT_S)
        except Exception as error:  # noqa: BLE001 - whatever it was, those who wait must hear of it
            is_placed = state.actors(handle._actor_id.hex()).get("State") == "ALIVE"  # noqa: SLF001 - as Ray's own tools do
            ray.kill(handle)
            self._starting.pop(actor)
            self._on_start_failed(error, is_placed=is_placed)
            return
        self._failed_starts, self._start_s = 0, time.monotonic() - started
        self._starting.pop(actor)
        self._handles[actor], self._nodes[actor] = handle, node
        if environment is not self._environment:
            handle.set_environment.remote(self._environment)
        if models is not self._models:
            handle.prepare.remote(self._models)
        self._slots.add(actor, time.monotonic())
        self._death_watches[actor] = asyncio.ensure_future(self._watch_death(actor, handle))
        self._serve_queue()

    async def _watch_death(self, actor: str, handle: Any) -> None:
        """Notice the actor's death when it happens, and not when somebody next needs it."""
        try:
            await handle.wait_forever.remote()
        except ray.exceptions.RayError:
            await self.on_actor_died(actor)
        finally:
            self._death_watches.pop(actor, None)

    def _on_start_failed(self, error: Exception, *, is_placed: bool) -> None:
        """Try again, for its node may have gone under it; after some attempts tell those who wait."""
        self._failed_starts += 1
        if self._failed_starts < START_ATTEMPTS and not isinstance(error, TimeoutError):
            self._start_actor()
            return
        self._failed_starts = 0
        self._last_start_error = _why_not_started(error, is_placed=is_placed)
        self._fail_queue(self._last_start_error)
        self._serve_queue()  # those that were held back for it

    def _fail_queue(self, why: str) -> None:
        if self._handles or self._starting:
            return  # another actor will serve them
        while self._waiting:
            *_, waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_exception(ClusterError(why))

    def _start_janitors(self) -> None:
        if not self._janitors:
            self._janitors = [
                asyncio.ensure_future(_repeat(SCALE_DOWN_INTERVAL_S, self._scale_down)),
                asyncio.ensure_future(_repeat(DRIVER_CHECK_INTERVAL_S, self.return_driverless)),
            ]

    async def _scale_down(self) -> None:
        idle = self._slots.idle(time.monotonic(), self._cluster.idle_timeout_s)
        leaving = idle[: max(0, len(self._handles) - self._cluster.min_actors)]
        # All are taken out before anything is awaited: no slot is leased in one that is about to end.
        await asyncio.gather(*[self._retire(actor, *self._take_out(actor)) for actor in leaving])

    async def return_driverless(self) -> None:
        """Take back the slots of runs that no driver has held for two checks, but for those whose session is at work.

        Such a session ends by itself. A driver whose connection to the admission broke holds its run again before the second.
        """
        runs = {run_id for _, run_id in self._root_leases.values()}
        if not runs:
            return
        try:
            left = await self._admission.driverless(tuple(runs))
        except ClusterError as error:
            _log.debug("whose drivers are gone is not known: %s", error)
            return
        before = self._driverless
        self._driverless = {lease for lease, (_, run_id) in self._root_leases.items() if run_id in left}
        due = {lease: self._root_leases[lease][0] for lease in before & self._driverless}
        for lease, actor in due.items():
            if not await self._has_begun(actor, lease):
                await self.release([actor], lease)

    async def _has_begun(self, actor: str, lease: str) -> bool:
        if actor not in self._handles:
            return False  # its leases are gone with it
        try:
            async with asyncio.timeout(RETIRE_S):
                return bool(await self._handles[actor].has_begun.remote(lease))
        except (TimeoutError, ray.exceptions.RayError):
            return False  # it hangs, or dies

    def _take_out(self, actor: str) -> tuple[Any, str]:
        self._slots.remove(actor, time.monotonic())
        return self._handles.pop(actor), self._nodes.pop(actor, "")

    async def _retire(self, actor: str, handle: Any, node: str) -> None:
        """End an idle actor. One that says it is at work stays: plain calls take no slot, and may last."""
        try:
            async with asyncio.timeout(RETIRE_S):
                is_retired = await handle.retire.remote()
        except (TimeoutError, ray.exceptions.RayError) as error:
            _log.warning("session actor %s did not end by itself: %s", actor, first_line(error) or "it hangs")
            is_retired = True
        if not is_retired:
            self._handles[actor], self._nodes[actor] = handle, node
            self._slots.add(actor, time.monotonic())
            self._serve_queue()
            return
        ray.kill(handle)
        await self._return_permits(actor)

    async def _return_permits(self, actor: str) -> None:
        """Tell the admission that an actor is gone."""
        try:
            await self._admission.forget_holder(actor)
        except ClusterError as error:  # it finds out by itself, later
            _log.warning("the permits of %s are not back yet: %s", actor, error)


async def _repeat(interval_s: float, work: Callable[[], Awaitable[None]]) -> None:
    """Do this again and again, whatever goes wrong with it."""
    while True:
        await asyncio.sleep(interval_s)
        try:
            await work()
        except Exception:  # noqa: BLE001 - whatever it was, the next time it may work
            _log.warning("a check of the pool failed", exc_info=True)


def session_actor_name(end: str) -> str:
    """Return a name unique in the cluster: the admission knows its holders of permits by the names of their actors."""
    return f"session-actor-{secrets.token_hex(3)}-{end}"


def create_session_actor(name: str, pool: Any, cluster: Cluster) -> Any:
    """Ask Ray for a session actor of this pool; returns its handle at once."""
    from rlm_ray.cluster.session_actor import SessionActor

    options = {
        "num_cpus": cluster.cpus_per_actor,
        "scheduling_strategy": "SPREAD",
        "max_concurrency": 100_000,
    }
    return ray.remote(SessionActor).options(**options).remote(name, pool)


def max_actors(cluster: Cluster) -> int:
    """Return how many session actors there may be: as configured, or as the CPUs of the cluster allow."""
    cpus = float(ray.cluster_resources().get("CPU", 1.0))
    return max(cluster.max_actors or max(1, int(cpus / (cluster.cpus_per_actor or 1))), cluster.min_actors)


def free_cpus() -> dict[str, float]:
    """Return the CPUs that nobody holds, by node; up to a fraction of a second old."""
    found = ray._private.state.available_resources_per_node()  # noqa: SLF001 - in Ray's developer API
    return {node: float(resources.get("CPU", 0.0)) for node, resources in found.items()}


def _why_not_started(error: BaseException, *, is_placed: bool) -> str:
    if isinstance(error, TimeoutError) and is_placed:
        return (
            f"a session actor has its CPU and was not ready within {START_TIMEOUT_S:g} s: other programs keep the machine busy, "
            "and Ray's workers run at niceness 15; stop them, or set RAY_worker_niceness=0 where Ray is started"
        )
    if isinstance(error, TimeoutError):
        held = cpu_holders()
        return (
            f"no session actor started within {START_TIMEOUT_S:g} s; the cluster has no free CPU for it "
            f"({held}): free some, add nodes, or lower cluster.cpus_per_actor"
        )
    cause = getattr(error, "cause", None) or error
    last_line = str(cause).strip().splitlines()[-1:]
    return f"a session actor could not be started: {''.join(last_line) or type(cause).__name__}"


MAX_NAMED = 5


def cpu_holders(needed: float = math.inf) -> str:
    """Say in a sentence how many CPUs are free, and which drivers have actors at work. Empty where `needed` are free."""
    total = float(ray.cluster_resources().get("CPU", 0.0))
    free = float(ray.available_resources().get("CPU", 0.0))
    if free >= needed:
        return ""
    own = ray.get_runtime_context().get_job_id()
    jobs = {job["JobID"]: job for job in state.jobs() if not job["IsDead"]}
    named = ray.util.list_named_actors(all_namespaces=True)
    without_cpu = {POOL_NAME, *(each["name"] for each in named if each["namespace"] == NAMESPACE)}
    counts: Counter[tuple[str, str]] = Counter()
    for actor in state.actors().values():
        if actor["State"] == "ALIVE" and actor["Name"] not in without_cpu and actor["JobID"] in jobs:
            counts[actor["JobID"], actor["ActorClassName"]] += 1
    holders = [
        f"{count} {_kind(cls)} of {'this driver' if job == own else _driver(jobs[job])}"
        for (job, cls), count in counts.most_common(MAX_NAMED)
    ]
    held = f"; at work are {', '.join(holders)}" if holders else ""
    return f"{free:g} of the {total:g} CPUs of the cluster are free{held}"


def _kind(cls: str) -> str:
    return "session actor(s)" if cls == "SessionActor" else f"actor(s) {cls.rpartition('.')[2]}"


def _driver(job: dict[str, object]) -> str:
    entrypoint = str(job.get("Entrypoint") or "").strip()
    command = f", {entrypoint[:80]}" if entrypoint else ""
    return f"the driver {job['DriverPid']} at {job['DriverIPAddress']}{command}"
