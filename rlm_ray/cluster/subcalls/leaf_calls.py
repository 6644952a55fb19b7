"""Makes the plain calls of a map, in batches over all actors of the pool, the session's own among them."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import replace
from typing import Any

from rlm_ray.cluster.messages import LeafCall, LeafCallBatch
from rlm_ray.cluster.ray_calls import ACTOR_DIED_ERRORS, await_or_cancel
from rlm_ray.cluster.session_records import failure_of
from rlm_ray.cluster.subcalls.dispatcher import MapCall, ParentSession
from rlm_ray.core.context import (
    ByteRange,
    Context,
    DocumentRange,
    InputSummary,
    make_context,
    summarize_part,
)
from rlm_ray.core.llm import Message, ModelReply
from rlm_ray.core.repl_types import Failed, SubCallAnswer, SubCallOutcome
from rlm_ray.core.reply import answered
from rlm_ray.core.slices import SliceLocator
from rlm_ray.errors import RLMError, SchemaError
from rlm_ray.journal.call_recorder import CallSite
from rlm_ray.journal.recorder import NullRecorder
from rlm_ray.llm.gateway import Gateway
from rlm_ray.llm.response_cache import request_key
from rlm_ray.structured.conform import Misfit, conform_reply
from rlm_ray.structured.schema import AnswerSchema

LOCAL_THRESHOLD = 8
"""So few plain calls are made by the session's own actor; spreading them costs more than it gains."""
YIELD_EVERY = 16
"""After so many texts that were looked for in the context, others have their turn."""
BATCH = 64
"""The most plain calls in one message to a peer."""
TOP_UP_S = 0.1
"""How often a map that holds calls back checks whether starting actors are ready."""


class LeafCalls:
    """Makes the plain calls of one session."""

    def __init__(self, parent: ParentSession) -> None:
        self._parent = parent
        self._slices = SliceLocator(parent.context)
        self._places: dict[int, tuple[int, int]] = {}
        """By ordinal."""

    async def __call__(self, map_: MapCall, indexes: list[int]) -> None:
        """Make these calls and set their outcomes."""
        await self._locate(map_, indexes)
        if len(indexes) <= LOCAL_THRESHOLD:
            await self._run_locally(map_, indexes)
            return
        host = self._parent.host
        asked = host.pool.workers.remote(len(indexes)), host.pool.outlook.remote()
        peers, outlook = await asyncio.gather(*asked)
        peers[host.name] = None
        share = -(-len(indexes) // (len(peers) + outlook.coming))
        rest = deque(indexes)
        async with asyncio.TaskGroup() as group:
            for name, handle in peers.items():
                group.create_task(self._work(map_, _taken(rest, share), rest, name, handle))
            while rest:
                await asyncio.sleep(TOP_UP_S)
                asked = host.pool.workers.remote(0), host.pool.outlook.remote()
                more, outlook = await asyncio.gather(*asked)
                for name in more.keys() - peers.keys():
                    peers[name] = more[name]
                    group.create_task(self._work(map_, _taken(rest, share), rest, name, more[name]))
                if not outlook.coming:  # they did not come in time
                    group.create_task(self._work(map_, _taken(rest, len(rest)), rest, host.name, None))

    async def _locate(self, map_: MapCall, indexes: list[int]) -> None:
        """Find the slices of the context among the texts, in their order; others of the actor run in between."""
        for count, index in enumerate(indexes, 1):
            part = map_.calls[index].part
            if isinstance(part, ByteRange):
                self._slices.follow(part.start, part.stop)
            place = self._slices.locate(part) if isinstance(part, str) else None
            if place is not None:
                self._places[map_.first_ordinal + index] = place
            if count % YIELD_EVERY == 0:
                await asyncio.sleep(0)

    async def _work(
        self, map_: MapCall, indexes: list[int], rest: deque[int], name: str, handle: Any | None
    ) -> None:
        """Make these calls in one actor (`handle` None: this one); then, batch by batch, what others have left."""
        while indexes:
            async with asyncio.TaskGroup() as group:
                if handle is None:
                    group.create_task(self._run_locally(map_, indexes))
                else:
                    for start in range(0, len(indexes), BATCH):
                        batch = indexes[start : start + BATCH]
                        group.create_task(self._run_remotely(map_, batch, name, handle))
            indexes = _taken(rest, BATCH)

    async def _run_locally(self, map_: MapCall, indexes: list[int]) -> None:
        batch = self._make_batch(map_, indexes)
        async with asyncio.TaskGroup() as group:
            for index, leaf in zip(indexes, batch.leaves, strict=True):
                group.create_task(self._run_one(map_, index, batch, leaf))

    async def _run_one(self, map_: MapCall, index: int, batch: LeafCallBatch, leaf: LeafCall) -> None:
        parent = self._parent
        map_.set_outcome(
            index, await run_leaf_call(parent.gateway, parent.recorder, batch, leaf, parent.context)
        )

    async def _run_remotely(self, map_: MapCall, indexes: list[int], name: str, handle: Any) -> None:
        try:
            outcomes = await await_or_cancel(handle.run_leaf_calls.remote(self._make_batch(map_, indexes)))
        except ACTOR_DIED_ERRORS:
            await self._parent.host.pool.on_actor_died.remote(name)
            await self._parent.recorder.load_history()  # what it had answered is on record
            await self._run_locally(map_, indexes)
            return
        for index, outcome in zip(indexes, outcomes, strict=True):
            map_.set_outcome(index, outcome)

    def _make_batch(self, map_: MapCall, indexes: list[int]) -> LeafCallBatch:
        leaves = tuple(
            LeafCall(ordinal, call.query, call.part, call.schema, call.model, self._places.get(ordinal))
            for i in indexes
            for call, ordinal in [(map_.calls[i], map_.first_ordinal + i)]
        )
        by_reference = any(isinstance(leaf.part, ByteRange | DocumentRange) for leaf in leaves)
        spec = self._parent.spec
        replays = spec.replays or self._parent.replay.offset > 0
        return LeafCallBatch(
            spec.run, spec.path, leaves, spec.context if by_reference else None, replays=replays
        )


def _taken(rest: deque[int], count: int) -> list[int]:
    return [rest.popleft() for _ in range(min(count, len(rest)))]


async def run_leaf_call(
    gateway: Gateway, recorder: NullRecorder, batch: LeafCallBatch, leaf: LeafCall, context: Context | None
) -> SubCallOutcome:
    """Make one plain call."""
    path = (*batch.path, leaf.ordinal)
    schema = AnswerSchema.parse(leaf.schema, trusted=False) if leaf.schema else None
    query = leaf.query if schema is None else schema.ask(leaf.query)
    request = batch.run.leaf_request(path, query, _text(leaf, context), leaf.model)
    replay = recorder.replay
    known = replay.seen_failure(path, request_key(request)) if replay.offset else None
    if known is not None:
        return known
    place = CallSite(path, 1, "leaf", query=leaf.query, input=_given(leaf, context))

    async def ask(messages: tuple[Message, ...], misfit: Misfit) -> ModelReply:
        again = replace(place, call=1 + misfit.number, refused=misfit.why)
        return await gateway.complete(replace(request, messages=messages), batch.run, again, recorder)

    try:
        reply = await gateway.complete(request, batch.run, place, recorder)
        if schema is None:
            return answered(reply)
        typed = await conform_reply(schema, request.messages, reply, ask)
    except RLMError as error:
        return failure_of(error)
    return Failed(SchemaError.__name__, typed.why) if typed.why else SubCallAnswer(typed.parsed.text)


def _given(leaf: LeafCall, context: Context | None) -> InputSummary:
    given = summarize_part(leaf.part, context)
    return given if leaf.place is None else replace(given, start=leaf.place[0], stop=leaf.place[1])


def _text(leaf: LeafCall, context: Context | None) -> str:
    if isinstance(leaf.part, str):
        return leaf.part
    if isinstance(leaf.part, ByteRange | DocumentRange):
        assert context is not None
        return context.slice(leaf.part).text()
    return make_context(leaf.part).text()
