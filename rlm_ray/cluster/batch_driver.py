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

from rlm_ray.cluster.context_ref import ContextRef
from rlm_ray.cluster.driver import ClusterDriver, Slot
from rlm_ray.cluster.messages import LeafCall, LeafCallBatch, SessionSpec
from rlm_ray.cluster.run_attempt import Observer, RunAttempt, RunSpec, open_run_attempt
from rlm_ray.cluster.session_records import answered, record_session, session_finished, session_key
from rlm_ray.core.context import Context, ContextPart, make_context, summarize
from rlm_ray.core.repl_types import Failed, SubCallAnswer, SubCallOutcome
from rlm_ray.core.usage import RunUsage, UsageAccumulator
from rlm_ray.errors import ActorLostError, ContextLostError, RLMError, SubCallError
from rlm_ray.events.records import CallEnded, Record, SessionEnded, SessionOpened
from rlm_ray.events.usage import stats_from_call, usage_from_records
from rlm_ray.journal.replay import to_reply
from rlm_ray.llm.response_cache import request_key
from rlm_ray.session.session import CUT, SessionResult
from rlm_ray.util.deadline import LATE_S, in_time

ATTEMPTS = 3
"""How often a row is started when its actors die."""
LEAVES_PER_MESSAGE = 64
"""The most plain calls in one message to an actor."""
DIRECT_ROWS_PER_ACTOR = 512
"""So many rows that are one plain call each are worth having under way for each actor: they hold nothing but their text,
and how many requests are under way at once is for the admission to say."""
FIRST_CALL_ORDINAL = 1_000_000
"""Ordinals of a row's plain calls begin here: those of its session's own sub-calls stay below."""
CLUSTER_SIZE_TTL_S = 1.0
"""So often is looked how large the cluster is."""

Row: TypeAlias = "tuple[int, str, Context]"
"""Its number, the question and the text."""
RowCall: TypeAlias = "tuple[int, int, str, ContextPart, Context]"
"""A plain call: its row, its number there, the question, and what part of which context."""

_log = logging.getLogger(__name__)


class BatchDriver:
    """One life of a job; see `Job.open`."""

    def __init__(self, engine: ClusterDriver, order: RunSpec, life: RunAttempt, usage: RowUsage) -> None:
        self._engine = engine
        self._order = order
        self._life = life
        self._usage = usage
        self._rows = 0
        self._calls = 0
        """Plain calls under way."""
        self._actors, self._checked_at = 0, -CLUSTER_SIZE_TTL_S
        self._free_slots: asyncio.Queue[Slot | RLMError] = asyncio.Queue()
        self._acquiring: set[asyncio.Task[None]] = set()
        cluster = order.settings.cluster
        self._row_slots = asyncio.Semaphore(self._most_actors() * cluster.sessions_per_actor)

    @classmethod
    @asynccontextmanager
    async def open(
        cls, engine: ClusterDriver, order: RunSpec, observers: Sequence[Observer] = ()
    ) -> AsyncIterator[BatchDriver]:
        """Begin a life of the job; the end of the block ends it."""
        usage = RowUsage()
        async with open_run_attempt(engine, order, [usage, *observers], trunk=1) as life:
            if life.tag.replays:
                await life.scribe.load_history()
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
        return self._most_actors() * (max(each, DIRECT_ROWS_PER_ACTOR) if settings.max_depth == 0 else each)

    def answers_directly(self, context: Context) -> bool:
        """A row with this text is one plain call."""
        return self._order.settings.answers_directly(context.info.chars)

    @property
    def direct_rows(self) -> int:
        """How many of those are worth having under way at once."""
        return self._most_actors() * DIRECT_ROWS_PER_ACTOR

    def _most_actors(self) -> int:
        if time.monotonic() - self._checked_at >= CLUSTER_SIZE_TTL_S:
            self._actors, self._checked_at = (
                self._engine.max_actors(self._order.settings.cluster),
                time.monotonic(),
            )
        return self._actors

    async def ask(self, row: int, query: str, context: Context) -> SessionResult:
        """One session for this row, or what is on record of it. Its `usage` is the row's own.

        Raises the row's `RLMError`; `LimitReached` where the budget of the whole job is used up.
        """
        path = (row,)
        key = session_key(self._life.tag, 0, query, context.fingerprint())
        replay = self._life.scribe.replay
        known = replay.end(path, key) if replay.attempts(path) else None
        if known is not None:
            usage = usage_from_records(
                call for node in replay.tree.node(path).walk() for call in node.calls.values()
            )
            return SessionResult(known.answer, known.stop_reason, known.why, turns=known.turns, usage=usage)
        self._rows += 1
        async with self._in_time(), self._row_slots:
            with self._usage.track([row]):
                completion = await self._run_with_retries(path, query, context, key)
                return replace(completion, usage=await self._usage.usage_of(row))

    async def answer_direct(self, rows: Sequence[Row]) -> list[SessionResult | RLMError]:
        """Rows that are one plain call each, in order, in one message to an actor; or what is on record of them."""
        answers: list[SessionResult | RLMError | None] = [self._from_record(*row) for row in rows]
        missing = [at for at, answer in enumerate(answers) if answer is None]
        if missing:
            for at, answer in zip(
                missing, await self._call_direct([rows[at] for at in missing]), strict=True
            ):
                answers[at] = answer
        return [answer for answer in answers if answer is not None]

    def _from_record(self, row: int, query: str, context: Context) -> SessionResult | None:
        replay = self._life.scribe.replay
        if not replay.offset:
            return None
        request = self._life.tag.leaf_request((row,), query, context.text())
        call = replay.call((row,), 1, request_key(request))
        if call is None:
            return None
        outcome = answered(to_reply(call))
        return SessionResult(
            outcome.text, CUT if outcome.cut else "answered", outcome.cut, usage=usage_from_records([call])
        )

    async def _call_direct(self, rows: Sequence[Row]) -> list[SessionResult | RLMError]:
        leaves = tuple(LeafCall(number, query, _by_value(context)) for number, query, context in rows)
        batch = LeafCallBatch(self._life.tag, (), leaves, None, replays=self._life.tag.replays)
        with self._usage.track(leaf.ordinal for leaf in leaves):
            async with self._in_time():
                outcomes = await self._send(batch)
            numbers = [leaf.ordinal for leaf in leaves]
            return [await self._row_result(*each) for each in zip(numbers, outcomes, strict=True)]

    async def _row_result(self, row: int, outcome: SubCallOutcome) -> SessionResult | RLMError:
        if isinstance(outcome, Failed):
            return _to_exception(outcome)
        usage = await self._usage.usage_of(row)
        return SessionResult(outcome.text, CUT if outcome.cut else "answered", outcome.cut, usage=usage)

    async def llm_call(self, row: int, number: int, query: str, text: str) -> str:
        """One plain call that belongs to a row. Raises `SubCallError`, or what ends the job."""
        (outcome,) = await self.plain_many([(row, number, query, text, make_context(""))])
        if isinstance(outcome, SubCallAnswer):
            return outcome.text
        raise _to_exception(outcome)

    async def plain_many(self, calls: Sequence[RowCall]) -> list[SubCallOutcome]:
        """Plain calls side by side over all actors, in order: row, number, question, and what part of which context."""
        outcomes: list[SubCallOutcome | None] = [None] * len(calls)
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

    async def _run_with_retries(
        self, path: tuple[int, ...], query: str, context: Context, key: str
    ) -> SessionResult:
        recorded = self._life.scribe.replay.attempts(path)
        for left in reversed(range(ATTEMPTS)):
            parcel = await self._engine.pack(context)
            spec = SessionSpec(self._life.tag, path, "", query, parcel, recorded + ATTEMPTS - left)
            try:
                async with self._slot() as seat:
                    return await self._attempt(seat, spec, context, key)
            except (ActorLostError, ContextLostError) as error:
                if not left:
                    raise
                _log.warning("row %s goes on from its record: %s", path, error)
        raise AssertionError

    async def _attempt(self, seat: Slot, spec: SessionSpec, context: Context, key: str) -> SessionResult:
        with record_session(self._life.scribe, spec, summarize(context), key, seat.name) as entry:
            try:
                entry.result = completion = await self._engine.run(seat, spec)
            except (ActorLostError, ContextLostError):
                raise
            except RLMError as error:
                entry.result = error
                raise
        return completion

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[Slot]:
        """The next that is free: one that another row leaves, or one more from the pool."""
        if self._free_slots.empty():
            taking = asyncio.create_task(self._take_one_more())
            self._acquiring.add(taking)
            taking.add_done_callback(self._acquiring.discard)
        seat = await self._free_slots.get()
        if isinstance(seat, RLMError):
            raise seat
        try:
            yield seat
        except ActorLostError:
            await self._engine.release_slot(seat)
            raise
        except BaseException:
            self._free_slots.put_nowait(seat)
            raise
        self._free_slots.put_nowait(seat)

    async def _take_one_more(self) -> None:
        try:
            seat = await self._engine.acquire_slot(self._order.settings.cluster.sessions_per_actor)
        except RLMError as error:
            self._free_slots.put_nowait(error)
        else:
            self._free_slots.put_nowait(seat)

    async def _leaves(
        self,
        calls: Sequence[RowCall],
        parcels: Parcels,
        indexes: list[int],
        outcomes: list[SubCallOutcome | None],
    ) -> None:
        row, *_, context = calls[indexes[0]]
        leaves = tuple(LeafCall(calls[i][1], calls[i][2], calls[i][3]) for i in indexes)
        parcel = await parcels.get(context)
        for left in reversed(range(ATTEMPTS)):
            batch = LeafCallBatch(self._life.tag, (row,), leaves, parcel, replays=self._life.tag.replays)
            try:
                answered = await self._send(batch)
            except ContextLostError as error:
                if not left:
                    raise
                _log.warning("plain calls of row %d go on: %s", row, error)
                parcel = await parcels.get(context, lost=parcel)
            else:
                break
        for index, outcome in zip(indexes, answered, strict=True):
            outcomes[index] = outcome

    async def _send(self, batch: LeafCallBatch) -> list[SubCallOutcome]:
        beside, self._calls = self._calls, self._calls + len(batch.leaves)
        try:
            return await self._engine.run_leaf_calls(batch, beside)
        finally:
            self._calls -= len(batch.leaves)

    def _begin(self) -> None:
        """The job itself is the node at the root."""
        order = self._order
        given = summarize(order.context)
        model, _ = order.settings.model_at(0)
        attempt = order.previous_attempts + 1
        at = self._life.started
        self._life.scribe.append(SessionOpened(at, (), order.query, given, model, "driver", attempt))

    async def _aclose(self) -> None:
        for taking in self._acquiring:
            taking.cancel()
        while not self._free_slots.empty():
            seat = self._free_slots.get_nowait()
            if isinstance(seat, Slot):
                await self._engine.release_slot(seat)
        usage = await self._engine.close_run(self.run_id)
        usage = self._order.usage + replace(usage, sessions=usage.sessions - 1 + self._rows)
        done = SessionResult(None, "answered", usage=usage)
        spec = SessionSpec(
            self._life.tag,
            (),
            "",
            "",
            await self._engine.pack(make_context("")),
            self._order.previous_attempts + 1,
        )
        entry: SessionEnded = session_finished(spec, done, "")
        self._life.scribe.append(entry)
        self._life.ended(done)


def _to_exception(failed: Failed) -> RLMError:
    return (
        failed.fatal_error
        if isinstance(failed.fatal_error, RLMError)
        else SubCallError(failed.kind, failed.why)
    )


def _by_value(context: Context) -> ContextPart:
    """All of a context, by value."""
    return context.text() if context.offsets is None else context.documents()


def _batches(calls: Sequence[RowCall]) -> list[list[int]]:
    """Calls of one row over one context travel together, so many at a time."""
    groups: dict[tuple[int, int], list[int]] = {}
    for index, (row, _, _, _, context) in enumerate(calls):
        groups.setdefault((row, id(context)), []).append(index)
    return [
        group[start : start + LEAVES_PER_MESSAGE]
        for group in groups.values()
        for start in range(0, len(group), LEAVES_PER_MESSAGE)
    ]


PATIENCE_S = 10.0


@dataclass(slots=True)
class _Row:
    usage: UsageAccumulator = field(default_factory=UsageAccumulator)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    sessions: int = 0


class RowUsage:
    """An observer. Nothing is kept of rows that nobody watches."""

    def __init__(self) -> None:
        self._rows: dict[int, _Row] = {}

    @contextmanager
    def track(self, rows: Iterable[int]) -> Iterator[None]:
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
            row.usage.add(record.model, depth, stats_from_call(record))
        if not depth and (isinstance(record, SessionEnded) or record.role == "leaf"):
            row.ended.set()

    async def usage_of(self, row: int) -> RunUsage:
        """Of a watched row that has ended; waits until its last record has come."""
        watched = self._rows[row]
        try:
            async with asyncio.timeout(PATIENCE_S):
                await watched.ended.wait()
        except TimeoutError:
            pass  # what has come so far
        return RunUsage(watched.usage.rows(), int(watched.sessions > 0))


class Parcels:
    """Packs for one group of calls, whose contexts live at least as long."""

    def __init__(self, engine: ClusterDriver) -> None:
        self._engine = engine
        self._packed: dict[int, ContextRef] = {}
        self._packing = asyncio.Lock()

    async def get(self, context: Context, lost: ContextRef | None = None) -> ContextRef | None:
        """The parcel of a context, another one than that which was lost; None where there is nothing in it."""
        if not context.info.chars:
            return None
        async with self._packing:
            parcel = self._packed.get(id(context))
            if parcel is None or parcel is lost:
                parcel = self._packed[id(context)] = await self._engine.pack(context)
        return parcel
