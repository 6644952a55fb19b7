"""Sends a session's sub-calls out over the cluster.

Plain calls go in batches to all actors of the pool, the session's own among them. Child sessions take leased seats;
a parent that waits is given one at least, so that a full pool never blocks, at any depth and width.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from rlm_ray.cache import request_key
from rlm_ray.cluster.entries import (
    SessionEntry,
    failed,
    identity_of,
    outcome_of_session,
    session_key,
    under_way,
)
from rlm_ray.cluster.gone import ACTOR_GONE
from rlm_ray.cluster.messages import Leaf, LeafBatch, SessionSpec
from rlm_ray.cluster.replies import kept, owned
from rlm_ray.cluster.store import pack_part
from rlm_ray.core.cell import Answered, Failed, Outcome
from rlm_ray.core.context import Context, Docs, Span, make_context
from rlm_ray.core.model import ModelRequest
from rlm_ray.core.prompts import leaf_messages
from rlm_ray.core.records import Input, input_of_part
from rlm_ray.errors import LimitReached, RLMError
from rlm_ray.gateway import Caller, Gateway
from rlm_ray.journal.calls import Place
from rlm_ray.journal.replay import outcome_of
from rlm_ray.session import Completion, SubCall

if TYPE_CHECKING:
    from rlm_ray.cluster.actors import SessionHost

ALONE = 8
"""So few plain calls are made by the session's own actor; spreading them costs more than it gains."""
BATCH = 64
"""The most plain calls in one message to a peer."""
TOP_UP_S = 0.1
"""How often a map that still has children to place asks for more seats."""
CHILD_ATTEMPTS = 3
"""How often a child is started again when its actor dies."""

_log = logging.getLogger(__name__)


class _SiblingFailed(Exception):  # noqa: N818 - a signal to cancel the others of a map, never seen outside
    """A sub-call of a map failed, and the map wants to hear of the first failure only."""


@dataclass(slots=True)
class _Seat:
    """The right to run one child at a time in one actor."""

    name: str
    handle: Any


class Spawner:
    """The `spawn` of one session."""

    def __init__(
        self, host: SessionHost, spec: SessionSpec, context: Context, gateway: Gateway, caller: Caller
    ) -> None:
        self._host = host
        self._spec = spec
        self._context = context
        self._gateway = gateway
        self._caller = caller
        self._alone = asyncio.Lock()

    async def __call__(
        self, calls: Sequence[SubCall], slots: list[Outcome | None], *, first: int, stop_on_error: bool
    ) -> None:
        """Fill `slots`, which stand for `calls`; leaves slots empty only where a sibling's failure ended the map."""
        map_ = _Map(calls, slots, first, stop_on_error=stop_on_error)
        wanted = [index for index in range(len(calls)) if not self._given_up(first + index)]
        leaves = [index for index in wanted if not calls[index].as_session]
        children = [index for index in wanted if calls[index].as_session]
        try:
            async with asyncio.TaskGroup() as group:
                if leaves:
                    group.create_task(self._leaves(map_, leaves))
                if children:
                    group.create_task(self._children(map_, children))
        except ExceptionGroup as group:
            _raise_unless_sibling(group)

    def _given_up(self, ordinal: int) -> bool:
        return self._caller.scribe.replay.given_up((*self._spec.path, ordinal))

    async def _leaves(self, map_: _Map, indexes: list[int]) -> None:
        if len(indexes) <= ALONE:
            await self._own_leaves(map_, indexes)
            return
        peers = await self._host.pool.peers.remote(len(indexes))
        peers.pop(self._host.name, None)
        share = -(-len(indexes) // (len(peers) + 1))
        async with asyncio.TaskGroup() as group:
            group.create_task(self._own_leaves(map_, indexes[:share]))
            for number, (name, handle) in enumerate(peers.items(), 1):
                theirs = indexes[number * share : (number + 1) * share]
                for start in range(0, len(theirs), BATCH):
                    group.create_task(self._peer_leaves(map_, theirs[start : start + BATCH], name, handle))

    async def _own_leaves(self, map_: _Map, indexes: list[int]) -> None:
        batch = self._batch(map_, indexes)
        async with asyncio.TaskGroup() as group:
            for index, leaf in zip(indexes, batch.leaves, strict=True):
                group.create_task(self._own_leaf(map_, index, batch, leaf))

    async def _own_leaf(self, map_: _Map, index: int, batch: LeafBatch, leaf: Leaf) -> None:
        map_.put(index, await leaf_outcome(self._gateway, self._caller, batch, leaf, self._context))

    async def _peer_leaves(self, map_: _Map, indexes: list[int], name: str, handle: Any) -> None:
        try:
            outcomes = await owned(handle.leaves.remote(self._batch(map_, indexes)))
        except ACTOR_GONE:
            await self._host.pool.lost.remote(name)
            await self._caller.scribe.recall()  # what it had answered is on record
            await self._own_leaves(map_, indexes)
            return
        for index, outcome in zip(indexes, outcomes, strict=True):
            map_.put(index, outcome)

    def _batch(self, map_: _Map, indexes: list[int]) -> LeafBatch:
        leaves = tuple(Leaf(map_.first + i, map_.calls[i].query, map_.calls[i].part) for i in indexes)
        by_reference = any(isinstance(leaf.part, Span | Docs) for leaf in leaves)
        spec = self._spec
        replays = spec.replays or self._caller.scribe.replay.offset > 0
        return LeafBatch(spec.run, spec.path, leaves, spec.context if by_reference else None, replays=replays)

    async def _children(self, map_: _Map, indexes: list[int]) -> None:
        pending = deque(self._not_on_record(map_, indexes))
        if not pending:
            return
        pool, name = self._host.pool, self._host.name
        try:
            await self._host.open_sessions(self._spec.run, len(pending))
        except LimitReached as limit:
            map_.put(pending[0], failed(limit))
        per_actor = self._spec.run.settings.cluster.sessions_per_actor
        leave = partial(_leave, self._host)
        first = pool.lease.remote(len(pending), per_actor, name, waiting=True)
        try:
            async with asyncio.TaskGroup() as group:
                self._seat(group, map_, pending, await kept(first, leave))
                while pending:
                    await asyncio.sleep(TOP_UP_S)
                    if pending:
                        more = pool.lease.remote(len(pending), per_actor, name)
                        self._seat(group, map_, pending, await kept(more, leave))
        finally:
            pool.resume.remote(name)

    def _not_on_record(self, map_: _Map, indexes: list[int]) -> list[int]:
        """Children whose answers an earlier life of the session has not got."""
        missing = []
        for index in indexes:
            path = (*self._spec.path, map_.first + index)
            call, replay = map_.calls[index], self._caller.scribe.replay
            end = replay.end(path, self._key(call, self._input(call))) if replay.attempts(path) else None
            if end is None:
                missing.append(index)
            else:
                map_.put(index, outcome_of(end))
        return missing

    def _under_way(
        self, spec: SessionSpec, call: SubCall, actor: str
    ) -> AbstractContextManager[SessionEntry]:
        given = self._input(call)
        return under_way(self._caller.scribe, spec, given, self._key(call, given), actor)

    def _input(self, call: SubCall) -> Input:
        return input_of_part(call.part, self._context)

    def _key(self, call: SubCall, given: Input) -> str:
        identity = identity_of(given, call.part, self._context)
        return session_key(self._spec.run, self._spec.depth + 1, call.query, identity)

    def _seat(
        self, group: asyncio.TaskGroup, map_: _Map, pending: deque[int], seats: dict[str, tuple[int, Any]]
    ) -> None:
        for name, (count, handle) in seats.items():
            for _ in range(count):
                group.create_task(self._work_in_seat(map_, pending, _Seat(name, handle)))

    async def _work_in_seat(self, map_: _Map, pending: deque[int], seat: _Seat) -> None:
        """Run children in one leased seat until none is left, then give the seat back."""
        try:
            while pending:
                await self._child(map_, pending.popleft(), seat)
        finally:
            self._host.leave_seat(seat.name)

    async def _child(self, map_: _Map, index: int, seat: _Seat) -> None:
        """Run a child; elsewhere where its actor dies. Its last chance it has alone: it may be what kills the actors."""
        if seat.name == self._host.name and self._is_suspect((*self._spec.path, map_.first + index)):
            await self._move(seat)
        for attempt in range(CHILD_ATTEMPTS):
            last = attempt == CHILD_ATTEMPTS - 1
            try:
                async with self._alone if last else nullcontext():
                    if attempt:
                        await self._move(seat)
                    result = await self._once(self._child_spec(map_, index, attempt), map_.calls[index], seat)
            except ACTOR_GONE:
                _log.warning("%s died under a child of session %s", seat.name, self._spec.path)
                await self._host.pool.lost.remote(seat.name)
            else:
                map_.put(index, outcome_of_session(result))
                return
        why = f"the actors of this child died {CHILD_ATTEMPTS} times; it may need more memory than a node has"
        map_.put(index, Failed("ClusterError", why))
        await self._move(seat)

    async def _once(self, spec: SessionSpec, call: SubCall, seat: _Seat) -> Completion | RLMError:
        with self._under_way(spec, call, seat.name) as entry:
            at_home = seat.name == self._host.name
            entry.result = await (self._host.run(spec) if at_home else owned(seat.handle.run.remote(spec)))
        assert entry.result is not None
        return entry.result

    async def _move(self, seat: _Seat) -> None:
        """Take another seat instead, and not at home: a child that brings its actor down would take its parent along."""
        home, left = self._host.name, seat.name
        per_actor = self._spec.run.settings.cluster.sessions_per_actor
        there = self._host.pool.lease_elsewhere.remote(per_actor, home)
        seat.name, seat.handle = await owned(there, lambda leased: self._host.leave_seat(leased[0]))
        self._host.leave_seat(left)

    def _is_suspect(self, path: tuple[int, ...]) -> bool:
        """It was under way more than once in this life of the run when the actor of its parent died."""
        node = self._caller.scribe.replay.tree.nodes.get(path)
        begun = (opened.at >= self._spec.run.started for opened in node.opened) if node is not None else ()
        return sum(begun) > 1

    def _child_spec(self, map_: _Map, index: int, attempt: int) -> SessionSpec:
        call = map_.calls[index]
        path = (*self._spec.path, map_.first + index)
        return SessionSpec(
            run=self._spec.run,
            path=path,
            parent=self._host.name,
            query=call.query,
            context=pack_part(self._spec.context, call.part),
            attempt=self._caller.scribe.replay.attempts(path) + attempt + 1,
        )


class _Map:
    """One map's calls and where their outcomes go."""

    def __init__(
        self, calls: Sequence[SubCall], slots: list[Outcome | None], first: int, *, stop_on_error: bool
    ) -> None:
        self.calls = calls
        self.first = first
        """The ordinal of its first sub-call in the session."""
        self._slots = slots
        self._stop_on_error = stop_on_error

    def put(self, index: int, outcome: Outcome) -> None:
        self._slots[index] = outcome
        if isinstance(outcome, Failed) and (self._stop_on_error or outcome.fatal is not None):
            raise _SiblingFailed


async def leaf_outcome(
    gateway: Gateway, caller: Caller, batch: LeafBatch, leaf: Leaf, context: Context | None
) -> Outcome:
    """Make one plain call."""
    path = (*batch.path, leaf.ordinal)
    settings = batch.run.settings
    model, params = settings.model_at(batch.run.depth(path))
    text = _leaf_text(leaf, context)
    request = ModelRequest(model, leaf_messages(leaf.query, text), settings.max_tokens, params)
    if (
        caller.scribe.replay.offset
        and (known := caller.scribe.replay.failure(path, request_key(request))) is not None
    ):
        return known
    try:
        place = Place(path, 1, "leaf", query=leaf.query, input=input_of_part(leaf.part, context))
        reply = await gateway.complete(request, caller, place)
    except RLMError as error:
        return failed(error)
    return Answered(reply.text)


def _leaf_text(leaf: Leaf, context: Context | None) -> str:
    if isinstance(leaf.part, str):
        return leaf.part
    if isinstance(leaf.part, Span | Docs):
        assert context is not None
        return context.part(leaf.part).text()
    return make_context(leaf.part).text()


def _raise_unless_sibling(group: ExceptionGroup[Exception]) -> None:
    """A failed sibling is told by its slot; anything else goes up, as itself and not as a group."""
    _, others = group.split(_SiblingFailed)
    while others is not None:
        first = others.exceptions[0]
        if not isinstance(first, ExceptionGroup):
            raise first from group
        others = first


def _leave(host: SessionHost, seats: dict[str, tuple[int, Any]]) -> None:
    for name, (count, _) in seats.items():
        for _ in range(count):
            host.leave_seat(name)
