"""Runs the child sessions of a map in leased slots all over the pool.

A `LeasedSlot` is the right to run one child session at a time in one actor. A parent that waits is given one at least, so
that a full pool never blocks, at any depth and width.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from rlm_ray.cluster.context_ref import ref_of_part
from rlm_ray.cluster.messages import SessionSpec, ShippedSchema
from rlm_ray.cluster.ray_calls import ACTOR_DIED_ERRORS, await_or_cancel, await_or_undo
from rlm_ray.cluster.session_records import (
    failure_of,
    input_identity,
    run_recorded,
    session_key,
    to_outcome,
)
from rlm_ray.cluster.slots import Outlook
from rlm_ray.cluster.subcalls.dispatcher import MapCall, ParentSession
from rlm_ray.core.context import InputSummary, summarize_part
from rlm_ray.core.repl_types import Failed
from rlm_ray.core.secrets import redact
from rlm_ray.core.slices import SliceLocator
from rlm_ray.errors import LimitReached, RLMError
from rlm_ray.journal.replay import outcome_from_record
from rlm_ray.session.cell_requests import SubCall
from rlm_ray.session.result import SessionResult

SLOT_POLL_S = 0.1
"""How often a map that still has children to start asks for more slots."""
ATTEMPTS = 3
"""How often a child is started when its actors die."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Wave:
    """The children of one map."""

    pending: deque[int]
    total: int
    slots: int = 0
    """Slots that work on it."""
    session_s: float | None = None
    """What the last one that ended took."""
    outlook: Outlook = field(default_factory=lambda: Outlook(1))

    @property
    def wanted(self) -> int:
        """Return how many children may begin in the actors at work."""
        held = self.outlook.held_back(len(self.pending), self.total, self.session_s)
        return len(self.pending) - held


class ChildSessions:
    """Runs the child sessions of one session."""

    def __init__(self, parent: ParentSession) -> None:
        self._parent = parent
        self._host = parent.host
        self._quarantine = asyncio.Lock()
        self._slices = SliceLocator(parent.context)

    async def __call__(self, map_: MapCall, indexes: list[int]) -> None:
        """Run these calls and set their outcomes."""
        pending = deque(self._unrecorded(map_, indexes))
        if not pending:
            return
        pool, name, per_actor = self._host.pool, self._host.name, self._parent.sessions_per_actor
        try:
            await self._host.open_sessions(self._parent.spec.run, len(pending))
        except LimitReached as limit:
            map_.set_outcome(pending[0], failure_of(limit))
        leave = partial(_return_slots, self._parent)
        wave = _Wave(pending, len(pending))
        first = pool.lease_slots.remote(len(pending), per_actor, name, waiting=True)
        try:
            async with asyncio.TaskGroup() as group:
                self._start_workers(group, map_, wave, await await_or_undo(first, leave))
                while pending:
                    await asyncio.sleep(SLOT_POLL_S)
                    if pending:
                        more = pool.lease_slots.remote(wave.wanted, per_actor, name)
                        self._start_workers(group, map_, wave, await await_or_undo(more, leave))
        finally:
            pool.reacquire_slot.remote(name)

    def _unrecorded(self, map_: MapCall, indexes: list[int]) -> list[int]:
        """Set the outcomes that are on record; returns the indexes of the other children."""
        missing, replay = [], self._parent.replay
        for index in indexes:
            path, call = self._parent.path_of(map_.first_ordinal + index), map_.calls[index]
            end = replay.end(path, self._key(call, self._input(call))) if replay.attempts(path) else None
            if end is None:
                missing.append(index)
            else:
                map_.set_outcome(index, outcome_from_record(end))
        return missing

    def _start_workers(
        self,
        group: asyncio.TaskGroup,
        map_: MapCall,
        wave: _Wave,
        leased: tuple[dict[str, tuple[int, Any]], Outlook],
    ) -> None:
        slots, wave.outlook = leased
        for name, (count, handle) in slots.items():
            for _ in range(count):
                slot = LeasedSlot(self._parent, name, handle)
                group.create_task(self._drain_in_slot(slot, map_, wave))

    async def _drain_in_slot(self, slot: LeasedSlot, map_: MapCall, wave: _Wave) -> None:
        """Run children in one leased slot until none is left for it, then return the slot."""
        loop = asyncio.get_running_loop()
        wave.slots += 1
        try:
            # One slot goes on whatever is held back: a parent never waits for nothing.
            while wave.wanted or (wave.slots == 1 and wave.pending):
                started = loop.time()
                await self._run_with_retries(map_, wave.pending.popleft(), slot)
                wave.session_s = loop.time() - started
        finally:
            wave.slots -= 1
            slot.release()

    async def _run_with_retries(self, map_: MapCall, index: int, slot: LeasedSlot) -> None:
        """Run a child; elsewhere where its actor dies. Its last chance it has alone: it may be what kills the actors."""
        path = self._parent.path_of(map_.first_ordinal + index)
        if slot.is_local and self._is_suspected_killer(path):
            await slot.migrate()
        for attempt in range(ATTEMPTS):
            last = attempt == ATTEMPTS - 1
            try:
                async with self._quarantine if last else nullcontext():
                    if attempt:
                        await slot.migrate()
                    result = await self._attempt(path, attempt, map_.calls[index], slot)
            except ACTOR_DIED_ERRORS:
                _log.warning("%s died under a child of session %s", slot.name, self._parent.spec.path)
                await self._host.pool.on_actor_died.remote(slot.name)
            else:
                map_.set_outcome(index, to_outcome(result))
                return
        why = f"the actors of this child died {ATTEMPTS} times; it may need more memory than a node has"
        map_.set_outcome(index, Failed("ClusterError", why))
        await slot.migrate()

    async def _attempt(
        self, path: tuple[int, ...], attempt: int, call: SubCall, slot: LeasedSlot
    ) -> SessionResult | RLMError:
        parent, given = self._parent, self._input(call)
        spec = SessionSpec(
            run=parent.spec.run,
            path=path,
            parent=self._host.name,
            query=call.query,
            context=ref_of_part(parent.spec.context, call.part),
            attempt=parent.replay.attempts(path) + attempt + 1,
            model=call.model,
            schemas=(ShippedSchema(call.schema),) if call.schema else (),
        )
        work, key = slot.run(spec), self._key(call, given)
        place = self._slices.locate(call.part) if isinstance(call.part, str) else None
        if place is not None:  # for the record only: the key of a text of its own is its hash
            given = replace(given, start=place[0], stop=place[1])
        return await run_recorded(work, parent.recorder, spec, given, key=key, actor=slot.name)

    def _is_suspected_killer(self, path: tuple[int, ...]) -> bool:
        """Tell whether it was under way more than once in this attempt of the run when the actor of its parent died."""
        node = self._parent.replay.tree.nodes.get(path)
        since = self._parent.spec.run.started
        begun = (opened.at >= since for opened in node.session_starts) if node is not None else ()
        return sum(begun) > 1

    def _input(self, call: SubCall) -> InputSummary:
        return summarize_part(call.part, self._parent.context)

    def _key(self, call: SubCall, given: InputSummary) -> str:
        spec = self._parent.spec
        identity = input_identity(given, call.part, self._parent.context)
        return session_key(
            spec.run, spec.depth + 1, call.query, identity, call.schema, *self._model_key(call)
        )

    def _model_key(self, call: SubCall) -> list[str]:
        """Return what of the model that code chose shapes the answer."""
        settings = self._parent.spec.run.settings
        return [call.model, repr(redact(settings.model_named(call.model)))] if call.model else []


def _return_slots(parent: ParentSession, leased: tuple[dict[str, tuple[int, Any]], Outlook]) -> None:
    slots, _ = leased
    for name, (count, _) in slots.items():
        for _ in range(count):
            parent.host.return_slot(name)


class LeasedSlot:
    """A slot that a parent has leased from the pool, for one child session at a time."""

    def __init__(self, parent: ParentSession, name: str, handle: Any) -> None:
        self.name = name
        """Of the actor."""
        self._parent = parent
        self._handle = handle

    @property
    def is_local(self) -> bool:
        """Tell whether the slot is in the parent's own actor."""
        return self.name == self._parent.host.name

    async def run(self, spec: SessionSpec) -> SessionResult | RLMError:
        """Run a child here. Raises one of `ACTOR_DIED_ERRORS` where the actor dies."""
        result: SessionResult | RLMError
        if self.is_local:
            result = await self._parent.host.run(spec)
        else:
            result = await await_or_cancel(self._handle.run.remote(spec))
        return result

    async def migrate(self) -> None:
        """Move to a slot in another actor: a child that brings its actor down would take its parent along."""
        host, left = self._parent.host, self.name
        there = host.pool.lease_remote_slot.remote(self._parent.sessions_per_actor, host.name)
        self.name, self._handle = await await_or_cancel(there, lambda late: host.return_slot(late[0]))
        host.return_slot(left)

    def release(self) -> None:
        """Return the slot to the pool."""
        self._parent.host.return_slot(self.name)
