"""Makes the plain calls of a map, in batches over all actors of the pool, the session's own among them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import cache
from typing import Any, TypeVar

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
from rlm_ray.events.records import CallEnded, NodePath, Record
from rlm_ray.events.usage import RunUsage, UsageAccumulator, stats_from_call
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
GATHER_S = 0.05
"""Outcomes of so long travel back together."""
MAX_TEXT_BYTES = 64_000_000
"""Of its contexts, in the plain calls of one process; a call holds its text a few times over: as text, as message, as body."""
HOLD_S = 1.0
"""The longest an outcome waits for others of its batch."""

T = TypeVar("T")


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
    async with text_room().hold(_text_bytes(leaf, context)):
        return await _run_leaf_call(gateway, recorder, batch, leaf, context)


async def _run_leaf_call(
    gateway: Gateway, recorder: NullRecorder, batch: LeafCallBatch, leaf: LeafCall, context: Context | None
) -> SubCallOutcome:
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


class TextRoom:
    """Bounds the bytes of text that plain calls hold at once, first come, first served. One that is larger than all of the
    room goes alone."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes, self._held = max_bytes, 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def hold(self, nbytes: int) -> AsyncIterator[None]:
        """Wait for room for so many bytes, and hold it inside of the block."""
        if nbytes and (self._waiting or not self._fits(nbytes)):
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((nbytes, turn))
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._give_back(nbytes)
                raise
        else:
            self._held += nbytes
        try:
            yield
        finally:
            self._give_back(nbytes)

    def _fits(self, nbytes: int) -> bool:
        return not self._held or self._held + nbytes <= self._max_bytes

    def _give_back(self, nbytes: int) -> None:
        self._held -= nbytes
        while self._waiting and (self._waiting[0][1].done() or self._fits(self._waiting[0][0])):
            wanted, turn = self._waiting.popleft()
            if not turn.done():
                self._held += wanted
                turn.set_result(None)


@cache
def text_room() -> TextRoom:
    """Return the room of this process."""
    return TextRoom(MAX_TEXT_BYTES)


async def run_counted_leaf_call(
    gateway: Gateway, recorder: NullRecorder, batch: LeafCallBatch, leaf: LeafCall, context: Context | None
) -> tuple[int, SubCallOutcome, RunUsage]:
    """Make one plain call; returns its ordinal, the outcome and what it used."""
    counting = UsageRecorder(recorder)
    outcome = await run_leaf_call(gateway, counting, batch, leaf, context)
    return leaf.ordinal, outcome, counting.usage((*batch.path, leaf.ordinal))


class UsageRecorder(NullRecorder):
    """Passes the records of one plain call on, and computes what it used."""

    def __init__(self, recorder: NullRecorder) -> None:
        self._recorder = recorder
        self._calls: list[CallEnded] = []
        self.replay = recorder.replay

    def append(self, record: Record) -> None:
        self._recorder.append(record)
        if isinstance(record, CallEnded):
            self._calls.append(record)

    @property
    def is_kept(self) -> bool:
        return self._recorder.is_kept

    def raise_if_failed(self) -> None:
        self._recorder.raise_if_failed()

    async def flush(self) -> None:
        await self._recorder.flush()

    def usage(self, path: NodePath) -> RunUsage:
        """Return the usage of the call; where nothing was recorded now, of what is on record."""
        node = self.replay.tree.nodes.get(path)
        calls = self._calls or (list(node.calls.values()) if node is not None else [])
        sums = UsageAccumulator()
        for call in calls:
            if not call.cache_hit:
                sums.add(call.model, len(path) - 1, stats_from_call(call))
        return RunUsage(sums.rows())


async def in_portions(tasks: Sequence[asyncio.Task[T]]) -> AsyncIterator[list[T]]:
    """Yield the results of tasks as they come: half of those that are left at a time, or what there is after `HOLD_S`, so
    that few messages carry them and yet none waits for the slowest. Raises the error of a task."""
    ended: asyncio.Queue[asyncio.Task[T]] = asyncio.Queue()
    for task in tasks:
        task.add_done_callback(ended.put_nowait)
    loop, left = asyncio.get_running_loop(), len(tasks)
    while left:
        portion = [await ended.get()]
        began = loop.time()
        for wait_s, enough in ((GATHER_S, left), (HOLD_S, -(-left // 2))):
            with suppress(TimeoutError):
                async with asyncio.timeout_at(began + wait_s):
                    while len(portion) < enough:
                        portion.append(await ended.get())
        left -= len(portion)
        yield [task.result() for task in portion]


def _text_bytes(leaf: LeafCall, context: Context | None) -> int:
    """Return the bytes of the text that the call makes of its context; 0 where it came with its message."""
    match leaf.part:
        case ByteRange(start, stop):
            return stop - start
        case DocumentRange(start, stop) if context is not None and context.offsets is not None:
            return context.offsets[stop] - context.offsets[start]
        case _:
            return 0


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
