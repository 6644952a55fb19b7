"""A job: many questions as one run, with one budget, one journal and one trace.

The node at the root of the tree is the job itself. A row is a session of depth 0 below it, sent to a seat of the pool
that the job keeps while it has rows left; or, where it is answered directly, one plain call, and many of those travel
in one message. A row whose actor dies is run again from the record.

Everything here runs on the Ray thread of the connection.

What each row of a job has used, from the records as they come.

The contexts of many calls, packed once for all who share one, and again where the object store loses it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from rlm_ray.cluster.context_ref import Parcel
from rlm_ray.cluster.driver import Engine, Seat
from rlm_ray.cluster.messages import Leaf, LeafBatch, SessionSpec
from rlm_ray.cluster.run_attempt import Life, Observer, Order, life_of
from rlm_ray.cluster.session_records import answered, ended, session_key, under_way
from rlm_ray.core.context import Context, Part, input_of, make_context
from rlm_ray.core.repl_types import Answered, Failed, Outcome
from rlm_ray.core.usage import RunUsage, Tallies
from rlm_ray.errors import ActorLostError, ContextLostError, RLMError, SubCallError
from rlm_ray.events.records import CallEnded, Record, SessionEnded, SessionOpened
from rlm_ray.events.usage import tally_of, usage_of
from rlm_ray.journal.replay import reply_of
from rlm_ray.llm.response_cache import request_key
from rlm_ray.session.session import CUT, Completion
from rlm_ray.util.deadline import LATE_S, in_time

ATTEMPTS = 3
"""How often a row is started when its actors die."""
BATCH = 64
"""The most plain calls in one message to an actor."""
DIRECT = 512
"""So many rows that are one plain call each are worth having under way for each actor: they hold nothing but their text,
and how many requests are under way at once is for the admission to say."""
PLAIN_FROM = 1_000_000
"""Ordinals of a row's plain calls begin here: those of its session's own sub-calls stay below."""
LOOK_S = 1.0
"""So often is looked how large the cluster is."""

Row: TypeAlias = "tuple[int, str, Context]"
"""Its number, the question and the text."""
Plain: TypeAlias = "tuple[int, int, str, Part, Context]"
"""A plain call: its row, its number there, the question, and what part of which context."""

_log = logging.getLogger(__name__)


class Job:
    """One life of a job; see `Job.open`."""

    def __init__(self, engine: Engine, order: Order, life: Life, usage: RowUsage) -> None:
        self._engine = engine
        self._order = order
        self._life = life
        self._usage = usage
        self._rows = 0
        self._calls = 0
        """Plain calls under way."""
        self._actors, self._looked = 0, -LOOK_S
        self._free: asyncio.Queue[Seat | RLMError] = asyncio.Queue()
        self._taking: set[asyncio.Task[None]] = set()
        cluster = order.settings.cluster
        self._place = asyncio.Semaphore(self._most_actors() * cluster.sessions_per_actor)

    @classmethod
    @asynccontextmanager
    async def open(
        cls, engine: Engine, order: Order, observers: Sequence[Observer] = ()
    ) -> AsyncIterator[Job]:
        """Begin a life of the job; the end of the block ends it."""
        usage = RowUsage()
        async with life_of(engine, order, [usage, *observers], trunk=1) as life:
            if life.tag.replays:
                await life.scribe.recall()
            job = cls(engine, order, life, usage)
            await engine.open_run(life.tag)
            try:
                job._begin()
                yield job
            finally:
                await job._aclose()

    @property
    def run_id(self) -> str:
        return self._order.run_id

    @property
    def concurrency(self) -> int:
        """How many rows are worth having under way at once."""
        settings = self._order.settings
        each = settings.cluster.sessions_per_actor
        return self._most_actors() * (max(each, DIRECT) if settings.max_depth == 0 else each)

    def answers_directly(self, context: Context) -> bool:
        """A row with this text is one plain call."""
        return self._order.settings.answers_directly(context.info.chars)

    @property
    def direct_rows(self) -> int:
        """How many of those are worth having under way at once."""
        return self._most_actors() * DIRECT

    def _most_actors(self) -> int:
        if time.monotonic() - self._looked >= LOOK_S:
            self._actors, self._looked = self._engine.actors(self._order.settings.cluster), time.monotonic()
        return self._actors

    async def ask(self, row: int, query: str, context: Context) -> Completion:
        """One session for this row, or what is on record of it. Its `usage` is the row's own.

        Raises the row's `RLMError`; `LimitReached` where the budget of the whole job is used up.
        """
        path = (row,)
        key = session_key(self._life.tag, 0, query, context.fingerprint())
        replay = self._life.scribe.replay
        known = replay.end(path, key) if replay.attempts(path) else None
        if known is not None:
            usage = usage_of(call for node in replay.tree.node(path).walk() for call in node.calls.values())
            return Completion(known.answer, known.stop_reason, known.why, turns=known.turns, usage=usage)
        self._rows += 1
        async with self._in_time(), self._place:
            with self._usage.watching([row]):
                completion = await self._insist(path, query, context, key)
                return replace(completion, usage=await self._usage.of(row))

    async def answer(self, rows: Sequence[Row]) -> list[Completion | RLMError]:
        """Rows that are one plain call each, in order, in one message to an actor; or what is on record of them."""
        answers: list[Completion | RLMError | None] = [self._recorded(*row) for row in rows]
        missing = [at for at, answer in enumerate(answers) if answer is None]
        if missing:
            for at, answer in zip(missing, await self._answered([rows[at] for at in missing]), strict=True):
                answers[at] = answer
        return [answer for answer in answers if answer is not None]

    def _recorded(self, row: int, query: str, context: Context) -> Completion | None:
        replay = self._life.scribe.replay
        if not replay.offset:
            return None
        request = self._life.tag.leaf_request((row,), query, context.text())
        call = replay.call((row,), 1, request_key(request))
        if call is None:
            return None
        outcome = answered(reply_of(call))
        return Completion(
            outcome.text, CUT if outcome.cut else "answered", outcome.cut, usage=usage_of([call])
        )

    async def _answered(self, rows: Sequence[Row]) -> list[Completion | RLMError]:
        leaves = tuple(Leaf(number, query, _whole(context)) for number, query, context in rows)
        batch = LeafBatch(self._life.tag, (), leaves, None, replays=self._life.tag.replays)
        with self._usage.watching(leaf.ordinal for leaf in leaves):
            async with self._in_time():
                outcomes = await self._sent(batch)
            numbers = [leaf.ordinal for leaf in leaves]
            return [await self._completion(*each) for each in zip(numbers, outcomes, strict=True)]

    async def _completion(self, row: int, outcome: Outcome) -> Completion | RLMError:
        if isinstance(outcome, Failed):
            return _error(outcome)
        usage = await self._usage.of(row)
        return Completion(outcome.text, CUT if outcome.cut else "answered", outcome.cut, usage=usage)

    async def plain(self, row: int, number: int, query: str, text: str) -> str:
        """One plain call that belongs to a row. Raises `SubCallError`, or what ends the job."""
        (outcome,) = await self.plain_many([(row, number, query, text, make_context(""))])
        if isinstance(outcome, Answered):
            return outcome.text
        raise _error(outcome)

    async def plain_many(self, calls: Sequence[Plain]) -> list[Outcome]:
        """Plain calls side by side over all actors, in order: row, number, question, and what part of which context."""
        outcomes: list[Outcome | None] = [None] * len(calls)
        parcels = Parcels(self._engine)
        async with self._in_time(), asyncio.TaskGroup() as group:
            for indexes in _batches(calls):
                group.create_task(self._leaves(calls, parcels, indexes, outcomes))
        return [outcome or Failed("Cancelled", "was not made") for outcome in outcomes]

    async def usage(self) -> RunUsage:
        """Of the whole job so far, earlier lives among it."""
        status = await self._engine.status(self.run_id)
        return self._order.usage + (status.usage if status is not None else RunUsage())

    def _in_time(self) -> AbstractAsyncContextManager[None]:
        """Actors end at the deadline of themselves; one that does not, or a seat that never comes, is not waited for."""
        return in_time(self._life.tag.deadline, LATE_S)

    async def _insist(self, path: tuple[int, ...], query: str, context: Context, key: str) -> Completion:
        recorded = self._life.scribe.replay.attempts(path)
        for left in reversed(range(ATTEMPTS)):
            parcel = await self._engine.pack(context)
            spec = SessionSpec(self._life.tag, path, "", query, parcel, recorded + ATTEMPTS - left)
            try:
                async with self._seat() as seat:
                    return await self._once(seat, spec, context, key)
            except (ActorLostError, ContextLostError) as error:
                if not left:
                    raise
                _log.warning("row %s goes on from its record: %s", path, error)
        raise AssertionError

    async def _once(self, seat: Seat, spec: SessionSpec, context: Context, key: str) -> Completion:
        with under_way(self._life.scribe, spec, input_of(context), key, seat.name) as entry:
            try:
                entry.result = completion = await self._engine.run(seat, spec)
            except (ActorLostError, ContextLostError):
                raise
            except RLMError as error:
                entry.result = error
                raise
        return completion

    @asynccontextmanager
    async def _seat(self) -> AsyncIterator[Seat]:
        """The next that is free: one that another row leaves, or one more from the pool."""
        if self._free.empty():
            taking = asyncio.create_task(self._take_one_more())
            self._taking.add(taking)
            taking.add_done_callback(self._taking.discard)
        seat = await self._free.get()
        if isinstance(seat, RLMError):
            raise seat
        try:
            yield seat
        except ActorLostError:
            await self._engine.leave_seat(seat)
            raise
        except BaseException:
            self._free.put_nowait(seat)
            raise
        self._free.put_nowait(seat)

    async def _take_one_more(self) -> None:
        try:
            seat = await self._engine.take_seat(self._order.settings.cluster.sessions_per_actor)
        except RLMError as error:
            self._free.put_nowait(error)
        else:
            self._free.put_nowait(seat)

    async def _leaves(
        self, calls: Sequence[Plain], parcels: Parcels, indexes: list[int], outcomes: list[Outcome | None]
    ) -> None:
        row, *_, context = calls[indexes[0]]
        leaves = tuple(Leaf(calls[i][1], calls[i][2], calls[i][3]) for i in indexes)
        parcel = await parcels.of(context)
        for left in reversed(range(ATTEMPTS)):
            batch = LeafBatch(self._life.tag, (row,), leaves, parcel, replays=self._life.tag.replays)
            try:
                answered = await self._sent(batch)
            except ContextLostError as error:
                if not left:
                    raise
                _log.warning("plain calls of row %d go on: %s", row, error)
                parcel = await parcels.of(context, lost=parcel)
            else:
                break
        for index, outcome in zip(indexes, answered, strict=True):
            outcomes[index] = outcome

    async def _sent(self, batch: LeafBatch) -> list[Outcome]:
        beside, self._calls = self._calls, self._calls + len(batch.leaves)
        try:
            return await self._engine.leaves(batch, beside)
        finally:
            self._calls -= len(batch.leaves)

    def _begin(self) -> None:
        """The job itself is the node at the root."""
        order = self._order
        given = input_of(order.context)
        model, _ = order.settings.model_at(0)
        attempt = order.lives + 1
        at = self._life.started
        self._life.scribe.put(SessionOpened(at, (), order.query, given, model, "driver", attempt))

    async def _aclose(self) -> None:
        for taking in self._taking:
            taking.cancel()
        while not self._free.empty():
            seat = self._free.get_nowait()
            if isinstance(seat, Seat):
                await self._engine.leave_seat(seat)
        usage = await self._engine.close_run(self.run_id)
        usage = self._order.usage + replace(usage, sessions=usage.sessions - 1 + self._rows)
        done = Completion(None, "answered", usage=usage)
        spec = SessionSpec(
            self._life.tag, (), "", "", await self._engine.pack(make_context("")), self._order.lives + 1
        )
        entry: SessionEnded = ended(spec, done, "")
        self._life.scribe.put(entry)
        self._life.ended(done)


def _error(failed: Failed) -> RLMError:
    return failed.fatal if isinstance(failed.fatal, RLMError) else SubCallError(failed.kind, failed.why)


def _whole(context: Context) -> Part:
    """All of a context, by value."""
    return context.text() if context.offsets is None else context.documents()


def _batches(calls: Sequence[Plain]) -> list[list[int]]:
    """Calls of one row over one context travel together, so many at a time."""
    groups: dict[tuple[int, int], list[int]] = {}
    for index, (row, _, _, _, context) in enumerate(calls):
        groups.setdefault((row, id(context)), []).append(index)
    return [
        group[start : start + BATCH] for group in groups.values() for start in range(0, len(group), BATCH)
    ]


PATIENCE_S = 10.0


@dataclass(slots=True)
class _Row:
    sums: Tallies = field(default_factory=Tallies)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    sessions: int = 0


class RowUsage:
    """An observer. Nothing is kept of rows that nobody watches."""

    def __init__(self) -> None:
        self._rows: dict[int, _Row] = {}

    @contextmanager
    def watching(self, rows: Iterable[int]) -> Iterator[None]:
        """These rows are asked inside of the block."""
        watched = {row: _Row() for row in rows}
        self._rows |= watched
        try:
            yield
        finally:
            for row in watched:
                self._rows.pop(row, None)

    def add(self, record: Record) -> None:
        """Take a record in. A row ends with its session, or with the one plain call that it is."""
        if not isinstance(record, CallEnded | SessionEnded) or not record.path:
            return
        row = self._rows.get(record.path[0])
        if row is None:
            return
        depth = len(record.path) - 1
        if isinstance(record, SessionEnded):
            row.sessions += not depth
        elif not record.cache_hit:
            row.sums.add(record.model, depth, tally_of(record))
        if not depth and (isinstance(record, SessionEnded) or record.role == "leaf"):
            row.ended.set()

    async def of(self, row: int) -> RunUsage:
        """Of a watched row that has ended; waits until its last record has come."""
        watched = self._rows[row]
        try:
            async with asyncio.timeout(PATIENCE_S):
                await watched.ended.wait()
        except TimeoutError:
            pass  # what has come so far
        return RunUsage(watched.sums.rows(), int(watched.sessions > 0))


class Parcels:
    """Packs for one group of calls, whose contexts live at least as long."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._packed: dict[int, Parcel] = {}
        self._packing = asyncio.Lock()

    async def of(self, context: Context, lost: Parcel | None = None) -> Parcel | None:
        """The parcel of a context, another one than that which was lost; None where there is nothing in it."""
        if not context.info.chars:
            return None
        async with self._packing:
            parcel = self._packed.get(id(context))
            if parcel is None or parcel is lost:
                parcel = self._packed[id(context)] = await self._engine.pack(context)
        return parcel
