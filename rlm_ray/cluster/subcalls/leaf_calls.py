"""Plain calls of a map, in batches to all actors of the pool, the session's own among them."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from rlm_ray.cluster.messages import Leaf, LeafBatch
from rlm_ray.cluster.ray_calls import ACTOR_GONE, owned
from rlm_ray.cluster.session_records import answered, failed
from rlm_ray.cluster.subcalls.parent import Map, Parent
from rlm_ray.core.context import Context, Docs, Span, input_of_part, make_context
from rlm_ray.core.repl_types import Outcome
from rlm_ray.errors import RLMError
from rlm_ray.journal.call_recorder import Place
from rlm_ray.llm.gateway import Caller, Gateway
from rlm_ray.llm.response_cache import request_key

ALONE = 8
"""So few plain calls are made by the session's own actor; spreading them costs more than it gains."""
BATCH = 64
"""The most plain calls in one message to a peer."""
TOP_UP_S = 0.1
"""How often a map that holds calls back looks whether the actors on their way have come."""


class Leaves:
    """Makes the plain calls of one session."""

    def __init__(self, parent: Parent) -> None:
        self._parent = parent

    async def __call__(self, map_: Map, indexes: list[int]) -> None:
        """Fill the slots of these calls."""
        if len(indexes) <= ALONE:
            await self._own(map_, indexes)
            return
        host = self._parent.host
        asked = host.pool.peers.remote(len(indexes)), host.pool.outlook.remote()
        peers, outlook = await asyncio.gather(*asked)
        peers[host.name] = None
        share = -(-len(indexes) // (len(peers) + outlook.coming))
        rest = deque(indexes)
        async with asyncio.TaskGroup() as group:
            for name, handle in peers.items():
                group.create_task(self._work(map_, _taken(rest, share), rest, name, handle))
            while rest:
                await asyncio.sleep(TOP_UP_S)
                asked = host.pool.peers.remote(0), host.pool.outlook.remote()
                more, outlook = await asyncio.gather(*asked)
                for name in more.keys() - peers.keys():
                    peers[name] = more[name]
                    group.create_task(self._work(map_, _taken(rest, share), rest, name, more[name]))
                if not outlook.coming:  # they did not come in time
                    group.create_task(self._work(map_, _taken(rest, len(rest)), rest, host.name, None))

    async def _work(
        self, map_: Map, indexes: list[int], rest: deque[int], name: str, handle: Any | None
    ) -> None:
        """Make these calls in one actor, None: the own one; then, batch by batch, what is left for others."""
        while indexes:
            async with asyncio.TaskGroup() as group:
                if handle is None:
                    group.create_task(self._own(map_, indexes))
                else:
                    for start in range(0, len(indexes), BATCH):
                        batch = indexes[start : start + BATCH]
                        group.create_task(self._peers(map_, batch, name, handle))
            indexes = _taken(rest, BATCH)

    async def _own(self, map_: Map, indexes: list[int]) -> None:
        batch = self._batch(map_, indexes)
        async with asyncio.TaskGroup() as group:
            for index, leaf in zip(indexes, batch.leaves, strict=True):
                group.create_task(self._one(map_, index, batch, leaf))

    async def _one(self, map_: Map, index: int, batch: LeafBatch, leaf: Leaf) -> None:
        parent = self._parent
        map_.put(index, await leaf_outcome(parent.gateway, parent.caller, batch, leaf, parent.context))

    async def _peers(self, map_: Map, indexes: list[int], name: str, handle: Any) -> None:
        try:
            outcomes = await owned(handle.leaves.remote(self._batch(map_, indexes)))
        except ACTOR_GONE:
            await self._parent.host.pool.lost.remote(name)
            await self._parent.scribe.recall()  # what it had answered is on record
            await self._own(map_, indexes)
            return
        for index, outcome in zip(indexes, outcomes, strict=True):
            map_.put(index, outcome)

    def _batch(self, map_: Map, indexes: list[int]) -> LeafBatch:
        leaves = tuple(Leaf(map_.first + i, map_.calls[i].query, map_.calls[i].part) for i in indexes)
        by_reference = any(isinstance(leaf.part, Span | Docs) for leaf in leaves)
        spec = self._parent.spec
        replays = spec.replays or self._parent.replay.offset > 0
        return LeafBatch(spec.run, spec.path, leaves, spec.context if by_reference else None, replays=replays)


def _taken(rest: deque[int], count: int) -> list[int]:
    return [rest.popleft() for _ in range(min(count, len(rest)))]


async def leaf_outcome(
    gateway: Gateway, caller: Caller, batch: LeafBatch, leaf: Leaf, context: Context | None
) -> Outcome:
    """Make one plain call."""
    path = (*batch.path, leaf.ordinal)
    request = batch.run.leaf_request(path, leaf.query, _text(leaf, context))
    replay = caller.scribe.replay
    known = replay.failure(path, request_key(request)) if replay.offset else None
    if known is not None:
        return known
    try:
        place = Place(path, 1, "leaf", query=leaf.query, input=input_of_part(leaf.part, context))
        reply = await gateway.complete(request, caller, place)
    except RLMError as error:
        return failed(error)
    return answered(reply)


def _text(leaf: Leaf, context: Context | None) -> str:
    if isinstance(leaf.part, str):
        return leaf.part
    if isinstance(leaf.part, Span | Docs):
        assert context is not None
        return context.part(leaf.part).text()
    return make_context(leaf.part).text()
