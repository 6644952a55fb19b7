"""Child sessions of a map, in leased seats all over the pool.

A parent that waits is given one seat at least, so that a full pool never blocks, at any depth and width.

A seat for children: the right to run one child session at a time in one actor.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from rlm_ray.cluster.context_ref import pack_part
from rlm_ray.cluster.messages import SessionSpec
from rlm_ray.cluster.ray_calls import ACTOR_GONE, kept, owned
from rlm_ray.cluster.session_records import (
    SessionEntry,
    failed,
    identity_of,
    outcome_of_session,
    session_key,
    under_way,
)
from rlm_ray.cluster.slots import Outlook
from rlm_ray.cluster.subcalls.parent import Map, Parent
from rlm_ray.core.context import Input, input_of_part
from rlm_ray.core.repl_types import Failed
from rlm_ray.errors import LimitReached, RLMError
from rlm_ray.journal.replay import outcome_of
from rlm_ray.session.session import Completion, SubCall

TOP_UP_S = 0.1
"""How often a map that still has children to place asks for more seats."""
ATTEMPTS = 3
"""How often a child is started when its actors die."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Wave:
    """The children of one map."""

    pending: deque[int]
    total: int
    seats: int = 0
    """Those that work on it."""
    session_s: float | None = None
    """What the last one that ended took."""
    outlook: Outlook = field(default_factory=lambda: Outlook(1))

    @property
    def wanted(self) -> int:
        """How many may begin in the actors at work."""
        held = self.outlook.held_back(len(self.pending), self.total, self.session_s)
        return len(self.pending) - held


class Children:
    """Runs the child sessions of one session."""

    def __init__(self, parent: Parent) -> None:
        self._parent = parent
        self._host = parent.host
        self._alone = asyncio.Lock()

    async def __call__(self, map_: Map, indexes: list[int]) -> None:
        """Fill the slots of these calls."""
        pending = deque(self._not_on_record(map_, indexes))
        if not pending:
            return
        pool, name, per_actor = self._host.pool, self._host.name, self._parent.seats_per_actor
        try:
            await self._host.open_sessions(self._parent.spec.run, len(pending))
        except LimitReached as limit:
            map_.put(pending[0], failed(limit))
        leave = partial(_leave, self._parent)
        wave = _Wave(pending, len(pending))
        first = pool.lease.remote(len(pending), per_actor, name, waiting=True)
        try:
            async with asyncio.TaskGroup() as group:
                self._seat(group, map_, wave, await kept(first, leave))
                while pending:
                    await asyncio.sleep(TOP_UP_S)
                    if pending:
                        more = pool.lease.remote(wave.wanted, per_actor, name)
                        self._seat(group, map_, wave, await kept(more, leave))
        finally:
            pool.resume.remote(name)

    def _not_on_record(self, map_: Map, indexes: list[int]) -> list[int]:
        """Children whose answers an earlier life of the session has not got."""
        missing, replay = [], self._parent.replay
        for index in indexes:
            path, call = self._parent.path_of(map_.first + index), map_.calls[index]
            end = replay.end(path, self._key(call, self._input(call))) if replay.attempts(path) else None
            if end is None:
                missing.append(index)
            else:
                map_.put(index, outcome_of(end))
        return missing

    def _seat(
        self,
        group: asyncio.TaskGroup,
        map_: Map,
        wave: _Wave,
        leased: tuple[dict[str, tuple[int, Any]], Outlook],
    ) -> None:
        seats, wave.outlook = leased
        for name, (count, handle) in seats.items():
            for _ in range(count):
                seat = LeasedSeat(self._parent, name, handle)
                group.create_task(self._work_in(seat, map_, wave))

    async def _work_in(self, seat: LeasedSeat, map_: Map, wave: _Wave) -> None:
        """Run children in one leased seat until none is left for it, then give the seat back."""
        loop = asyncio.get_running_loop()
        wave.seats += 1
        try:
            # One seat goes on whatever is held back: a parent never waits for nothing.
            while wave.wanted or (wave.seats == 1 and wave.pending):
                started = loop.time()
                await self._child(map_, wave.pending.popleft(), seat)
                wave.session_s = loop.time() - started
        finally:
            wave.seats -= 1
            seat.leave()

    async def _child(self, map_: Map, index: int, seat: LeasedSeat) -> None:
        """Run a child; elsewhere where its actor dies. Its last chance it has alone: it may be what kills the actors."""
        path = self._parent.path_of(map_.first + index)
        if seat.at_home and self._is_suspect(path):
            await seat.move()
        for attempt in range(ATTEMPTS):
            last = attempt == ATTEMPTS - 1
            try:
                async with self._alone if last else nullcontext():
                    if attempt:
                        await seat.move()
                    result = await self._once(path, attempt, map_.calls[index], seat)
            except ACTOR_GONE:
                _log.warning("%s died under a child of session %s", seat.name, self._parent.spec.path)
                await self._host.pool.lost.remote(seat.name)
            else:
                map_.put(index, outcome_of_session(result))
                return
        why = f"the actors of this child died {ATTEMPTS} times; it may need more memory than a node has"
        map_.put(index, Failed("ClusterError", why))
        await seat.move()

    async def _once(
        self, path: tuple[int, ...], attempt: int, call: SubCall, seat: LeasedSeat
    ) -> Completion | RLMError:
        spec = self._spec(path, attempt, call)
        with self._under_way(spec, call, seat.name) as entry:
            entry.result = await seat.run(spec)
        assert entry.result is not None
        return entry.result

    def _spec(self, path: tuple[int, ...], attempt: int, call: SubCall) -> SessionSpec:
        parent = self._parent
        return SessionSpec(
            run=parent.spec.run,
            path=path,
            parent=self._host.name,
            query=call.query,
            context=pack_part(parent.spec.context, call.part),
            attempt=parent.replay.attempts(path) + attempt + 1,
        )

    def _is_suspect(self, path: tuple[int, ...]) -> bool:
        """It was under way more than once in this life of the run when the actor of its parent died."""
        node = self._parent.replay.tree.nodes.get(path)
        since = self._parent.spec.run.started
        begun = (opened.at >= since for opened in node.opened) if node is not None else ()
        return sum(begun) > 1

    def _under_way(
        self, spec: SessionSpec, call: SubCall, actor: str
    ) -> AbstractContextManager[SessionEntry]:
        given = self._input(call)
        return under_way(self._parent.scribe, spec, given, self._key(call, given), actor)

    def _input(self, call: SubCall) -> Input:
        return input_of_part(call.part, self._parent.context)

    def _key(self, call: SubCall, given: Input) -> str:
        spec = self._parent.spec
        identity = identity_of(given, call.part, self._parent.context)
        return session_key(spec.run, spec.depth + 1, call.query, identity)


def _leave(parent: Parent, leased: tuple[dict[str, tuple[int, Any]], Outlook]) -> None:
    seats, _ = leased
    for name, (count, _) in seats.items():
        for _ in range(count):
            parent.host.leave_seat(name)


class LeasedSeat:
    """One of those that a parent leased from the pool."""

    def __init__(self, parent: Parent, name: str, handle: Any) -> None:
        self.name = name
        """Of the actor."""
        self._parent = parent
        self._handle = handle

    @property
    def at_home(self) -> bool:
        """In the parent's own actor."""
        return self.name == self._parent.host.name

    async def run(self, spec: SessionSpec) -> Completion | RLMError:
        """Run a child here. Raises one of `ACTOR_GONE` where the actor dies."""
        result: Completion | RLMError
        if self.at_home:
            result = await self._parent.host.run(spec)
        else:
            result = await owned(self._handle.run.remote(spec))
        return result

    async def move(self) -> None:
        """Take another seat instead, and not at home: a child that brings its actor down would take its parent along."""
        host, left = self._parent.host, self.name
        there = host.pool.lease_elsewhere.remote(self._parent.seats_per_actor, host.name)
        self.name, self._handle = await owned(there, lambda late: host.leave_seat(late[0]))
        host.leave_seat(left)

    def leave(self) -> None:
        """Give it back."""
        self._parent.host.leave_seat(self.name)
