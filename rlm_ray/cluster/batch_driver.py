"""A batch run: many questions as one run, with one budget, one journal and one trace.

The node at the root of the tree is the batch itself. A row is a session of depth 0 below it, sent to a slot of the pool
that is kept while there are rows left; or, where it is answered directly, one plain call, and many of those are sent in
one message. A row whose actor dies is run again from the record.

`RowUsage` computes what each session has used, from the records as they come; a plain call's usage comes with its answer. `SharedContexts` stores the context of many
calls once, and again where the object store loses it. Everything here runs on the Ray thread of the connection.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from rlm_ray.cluster.context_ref import ContextRef
from rlm_ray.cluster.driver import ClusterDriver, Slot, WaitTeller
from rlm_ray.cluster.messages import LeafCall, LeafCallBatch, SessionSpec, ShippedSchema
from rlm_ray.cluster.pool import max_actors
from rlm_ray.cluster.run_attempt import Observer, RunAttempt, RunSpec, open_run_attempt, wait_teller
from rlm_ray.cluster.session_records import run_recorded, session_finished, session_key
from rlm_ray.core.context import Context, ContextPart, make_context, summarize
from rlm_ray.core.repl_types import Failed, SubCallOutcome
from rlm_ray.core.reply import answered
from rlm_ray.errors import ActorLostError, ContextLostError, LimitReached, RLMError, SubCallError
from rlm_ray.events.records import CallEnded, Record, SessionEnded, SessionOpened
from rlm_ray.events.usage import RunUsage, UsageAccumulator, stats_from_call, usage_from_records
from rlm_ray.journal.replay import to_reply
from rlm_ray.llm.response_cache import request_key
from rlm_ray.llm.run_context import LATE_S, in_time
from rlm_ray.session.result import CUT, SessionResult
from rlm_ray.structured.schema import AnswerSchema

ATTEMPTS = 3
"""How often a row is started when its actors die."""
LEAVES_PER_MESSAGE = 64
"""The most plain calls in one message to an actor."""
DIRECT_ROWS_PER_ACTOR = 1024
"""So many rows that are one plain call each are worth having under way for each actor: they hold nothing but their text,
and how many requests are under way at once is for the admission to say."""
CLUSTER_SIZE_TTL_S = 1.0
"""How long a count of the cluster's CPUs is used."""

Row: TypeAlias = "tuple[int, str, Context]"
"""Its number, the question and the text."""
RowConsumer: TypeAlias = "Callable[[list[tuple[int, SessionResult | RLMError]]], None]"
"""Takes places of rows in a message, and their answers."""
RowCall: TypeAlias = "tuple[int, int, str, ContextPart, Context]"
"""A plain call: its row, its number there, the question, and what part of which context."""

_log = logging.getLogger(__name__)


PATIENCE_S = 10.0


class BatchDriver:
    """Drives one attempt of a batch run; made by `open`."""

    def __init__(
        self,
        engine: ClusterDriver,
        run_spec: RunSpec,
        run_attempt: RunAttempt,
        usage: RowUsage,
        tell: WaitTeller,
    ) -> None:
        self._engine = engine
        self._run_spec = run_spec
        self._run_attempt = run_attempt
        self._usage = usage
        self._tell = tell
        self._rows = 0
        self._end = SessionResult(None, "answered")
        self._actors, self._checked_at = 0, -CLUSTER_SIZE_TTL_S
        self._free_slots: asyncio.Queue[Slot | RLMError] = asyncio.Queue()
        self._acquiring: set[asyncio.Task[None]] = set()
        cluster = run_spec.settings.cluster
        self._row_slots = asyncio.Semaphore(self._most_actors() * cluster.sessions_per_actor)

    @classmethod
    @asynccontextmanager
    async def open(
        cls, engine: ClusterDriver, run_spec: RunSpec, observers: Sequence[Observer] = ()
    ) -> AsyncIterator[BatchDriver]:
        """Begin an attempt of the batch run; the end of the block ends it."""
        usage = RowUsage()
        async with open_run_attempt(engine, run_spec, [usage, *observers], root_path_length=1) as run_attempt:
            if run_attempt.run_context.replays:
                await run_attempt.recorder.load_history()
            job = cls(engine, run_spec, run_attempt, usage, wait_teller(observers))
            await engine.admission.open_run(run_attempt.run_context.policy())
            try:
                job._begin()
                yield job
            except RLMError as error:
                reason = error.reason if isinstance(error, LimitReached) else "error"
                job.end_as(reason, str(error))
                raise
            except BaseException:
                job.end_as("interrupted", "the driver was interrupted")
                raise
            finally:
                await job._aclose()

    @property
    def run_id(self) -> str:
        return self._run_spec.run_id

    def end_as(self, reason: str, why: str, answer: str | None = None) -> None:
        """Say how the batch as a whole ended, for its record; rows have their answers, a whole one only where they are reduced."""
        self._end = SessionResult(answer, reason, why)

    @property
    def concurrency(self) -> int:
        """Return how many rows are worth having under way at once."""
        settings = self._run_spec.settings
        each = settings.cluster.sessions_per_actor
        return self._most_actors() * (max(each, DIRECT_ROWS_PER_ACTOR) if settings.max_depth == 0 else each)

    def answers_directly(self, context: Context) -> bool:
        """Tell whether a row with this text is one plain call."""
        return self._run_spec.settings.answers_directly(context.info)

    @property
    def direct_rows(self) -> int:
        """Return how many rows of one plain call are worth having under way at once."""
        return self._most_actors() * DIRECT_ROWS_PER_ACTOR

    def _most_actors(self) -> int:
        if time.monotonic() - self._checked_at >= CLUSTER_SIZE_TTL_S:
            self._actors = max_actors(self._run_spec.settings.cluster)
            self._checked_at = time.monotonic()
        return self._actors

    async def ask(
        self, row: int, query: str, context: Context, schema: AnswerSchema | None = None
    ) -> SessionResult:
        """Run one session for this row, or return what is on record of it. Its `usage` is the row's own.

        Raises the row's `RLMError`; `LimitReached` where the budget of the whole run is used up.
        """
        path = (row,)
        wanted = ShippedSchema.of(schema)
        source = "" if wanted is None else wanted.source
        key = session_key(self._run_attempt.run_context, 0, query, context.fingerprint(), source)
        replay = self._run_attempt.recorder.replay
        known = replay.end(path, key) if replay.attempts(path) else None
        if known is not None:
            usage = usage_from_records(
                call for node in replay.tree.node(path).walk() for call in node.calls.values()
            )
            return SessionResult(
                known.answer,
                known.stop_reason,
                known.why,
                turns=known.turns,
                usage=usage,
                citations=known.citations,
            )
        self._rows += 1
        async with self._in_time(), self._row_slots:
            with self._usage.track([row]):
                completion = await self._run_with_retries(path, query, context, key, wanted)
                wait_s = PATIENCE_S if self._run_attempt.recorder.is_kept else 0.0
                return replace(completion, usage=await self._usage.usage_of(row, wait_s))

    async def answer_direct(self, rows: Sequence[Row], deliver: RowConsumer) -> None:
        """Answer rows that are one plain call each, in one message to an actor, or from the record.

        `deliver` gets their places and answers as they come.
        """
        known = {at: answer for at, row in enumerate(rows) if (answer := self._from_record(*row)) is not None}
        if known:
            deliver(list(known.items()))
        places = {number: at for at, (number, *_) in enumerate(rows) if at not in known}
        if not places:
            return
        leaves = tuple(LeafCall(number, rows[at][1], _by_value(rows[at][2])) for number, at in places.items())
        batch = LeafCallBatch(
            self._run_attempt.run_context, (), leaves, None, replays=self._run_attempt.run_context.replays
        )

        def pass_on(results: list[tuple[int, SubCallOutcome, RunUsage]]) -> None:
            deliver([(places[number], _row_result(outcome, usage)) for number, outcome, usage in results])

        async with self._in_time():
            await self._engine.run_leaf_calls(batch, pass_on, self._tell)

    def _from_record(self, row: int, query: str, context: Context) -> SessionResult | None:
        replay = self._run_attempt.recorder.replay
        if not replay.offset:
            return None
        request = self._run_attempt.run_context.leaf_request((row,), query, context.text())
        call = replay.call((row,), 1, request_key(request))
        if call is None:
            return None
        outcome = answered(to_reply(call))
        return SessionResult(
            outcome.text, CUT if outcome.cut else "answered", outcome.cut, usage=usage_from_records([call])
        )

    async def plain_many(self, calls: Sequence[RowCall]) -> list[SubCallOutcome]:
        """Make plain calls concurrently over all actors, in run_spec: row, number, question, and what part of which context."""
        outcomes: list[SubCallOutcome | None] = [None] * len(calls)
        shared_contexts = SharedContexts(self._engine)
        async with self._in_time(), asyncio.TaskGroup() as group:
            for indexes in _batches(calls):
                group.create_task(self._leaves(calls, shared_contexts, indexes, outcomes))
        return [outcome or Failed("Cancelled", "was not made") for outcome in outcomes]

    async def usage(self) -> RunUsage:
        """Return the usage of the whole run so far, earlier attempts included."""
        status = await self._engine.admission.status(self.run_id)
        return self._run_spec.usage + (status.usage if status is not None else RunUsage())

    def _in_time(self) -> AbstractAsyncContextManager[None]:
        """Bound a wait by the deadline. Actors end by themselves then; one that does not, or a slot that never comes free, is not
        waited for."""
        return in_time(self._run_attempt.run_context.deadline, LATE_S)

    async def _run_with_retries(
        self, path: tuple[int, ...], query: str, context: Context, key: str, wanted: ShippedSchema | None
    ) -> SessionResult:
        recorded = self._run_attempt.recorder.replay.attempts(path)
        for left in reversed(range(ATTEMPTS)):
            context_ref = await self._engine.pack(context)
            spec = SessionSpec(
                self._run_attempt.run_context, path, "", query, context_ref, recorded + ATTEMPTS - left,
                schemas=(wanted,) if wanted is not None else (),
            )  # fmt: skip
            try:
                async with self._slot() as slot:
                    work, recorder = self._engine.run(slot, spec), self._run_attempt.recorder
                    given = summarize(context)
                    result = await run_recorded(work, recorder, spec, given, key=key, actor=slot.name)
                    if isinstance(result, RLMError):
                        raise result
            except (ActorLostError, ContextLostError) as error:
                if not left:
                    raise
                _log.warning("row %s goes on from its record: %s", path, error)
            else:
                return result
        raise AssertionError

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[Slot]:
        """Hold the next free slot: one that another row leaves, or one more from the pool."""
        if self._free_slots.empty():
            taking = asyncio.create_task(self._take_one_more())
            self._acquiring.add(taking)
            taking.add_done_callback(self._acquiring.discard)
        slot = await self._free_slots.get()
        if isinstance(slot, RLMError):
            raise slot
        try:
            yield slot
        except ActorLostError:
            self._free_slots.put_nowait(slot)
            self._release_slots(slot.name)  # each would cost a row one of its attempts
            raise
        except BaseException:
            self._free_slots.put_nowait(slot)
            raise
        self._free_slots.put_nowait(slot)

    def _release_slots(self, actor: str = "") -> None:
        """Return the free slots to the pool, or only those in one actor."""
        for _ in range(self._free_slots.qsize()):
            slot = self._free_slots.get_nowait()
            if isinstance(slot, RLMError) or (actor and slot.name != actor):
                self._free_slots.put_nowait(slot)
            else:
                self._engine.release_slot(slot)

    async def _take_one_more(self) -> None:
        try:
            per_actor = self._run_spec.settings.cluster.sessions_per_actor
            slot = await self._engine.acquire_slot(per_actor, self.run_id, self._tell)
        except RLMError as error:
            self._free_slots.put_nowait(error)
        else:
            self._free_slots.put_nowait(slot)

    async def _leaves(
        self,
        calls: Sequence[RowCall],
        shared_contexts: SharedContexts,
        indexes: list[int],
        outcomes: list[SubCallOutcome | None],
    ) -> None:
        row, *_, context = calls[indexes[0]]
        leaves = tuple(LeafCall(calls[i][1], calls[i][2], calls[i][3]) for i in indexes)
        context_ref = await shared_contexts.get(context)
        for left in reversed(range(ATTEMPTS)):
            batch = LeafCallBatch(
                self._run_attempt.run_context,
                (row,),
                leaves,
                context_ref,
                replays=self._run_attempt.run_context.replays,
            )
            answered: dict[int, SubCallOutcome] = {}

            def keep(
                results: list[tuple[int, SubCallOutcome, RunUsage]],
                answered: dict[int, SubCallOutcome] = answered,
            ) -> None:
                answered.update((number, outcome) for number, outcome, _ in results)

            try:
                await self._engine.run_leaf_calls(batch, keep, self._tell)
            except ContextLostError as error:
                if not left:
                    raise
                _log.warning("plain calls of row %d go on: %s", row, error)
                context_ref = await shared_contexts.get(context, lost=context_ref)
            else:
                break
        for index in indexes:
            outcomes[index] = answered[calls[index][1]]

    def _begin(self) -> None:
        """Record the batch itself as the node at the root."""
        run_spec = self._run_spec
        given = summarize(run_spec.context)
        model, _ = run_spec.settings.model_at(0)
        attempt = run_spec.previous_attempts + 1
        at = self._run_attempt.started
        self._run_attempt.recorder.append(
            SessionOpened(at, (), run_spec.query, given, model, "driver", attempt)
        )

    async def _aclose(self) -> None:
        for taking in self._acquiring:
            taking.cancel()
        self._release_slots()
        usage = await self._engine.admission.usage(self.run_id)
        usage = self._run_spec.usage + replace(usage, sessions=usage.sessions - 1 + self._rows)
        done = replace(self._end, usage=usage)
        spec = SessionSpec(
            self._run_attempt.run_context,
            (),
            "",
            "",
            await self._engine.pack(make_context("")),
            self._run_spec.previous_attempts + 1,
        )
        entry: SessionEnded = session_finished(spec, done, "")
        self._run_attempt.recorder.append(entry)
        self._run_attempt.ended(done)


def _row_result(outcome: SubCallOutcome, usage: RunUsage) -> SessionResult | RLMError:
    if isinstance(outcome, Failed):
        return _to_exception(outcome)
    return SessionResult(outcome.text, CUT if outcome.cut else "answered", outcome.cut, usage=usage)


def _to_exception(failed: Failed) -> RLMError:
    return (
        failed.fatal_error
        if isinstance(failed.fatal_error, RLMError)
        else SubCallError(failed.kind, failed.why)
    )


def _by_value(context: Context) -> ContextPart:
    """Return the whole of a context, by value."""
    return context.text() if context.offsets is None else context.documents()


def _batches(calls: Sequence[RowCall]) -> list[list[int]]:
    """Group calls of one row over one context, so many in a message."""
    groups: dict[tuple[int, int], list[int]] = {}
    for index, (row, _, _, _, context) in enumerate(calls):
        groups.setdefault((row, id(context)), []).append(index)
    return [
        group[start : start + LEAVES_PER_MESSAGE]
        for group in groups.values()
        for start in range(0, len(group), LEAVES_PER_MESSAGE)
    ]


@dataclass(slots=True)
class _Row:
    usage: UsageAccumulator = field(default_factory=UsageAccumulator)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    sessions: int = 0


class RowUsage:
    """An observer that computes the usage of tracked rows; nothing is kept of others."""

    def __init__(self) -> None:
        self._rows: dict[int, _Row] = {}

    @contextmanager
    def track(self, rows: Iterable[int]) -> Iterator[None]:
        """Track these rows inside of the block."""
        watched = {row: _Row() for row in rows}
        self._rows |= watched
        try:
            yield
        finally:
            for row in watched:
                self._rows.pop(row, None)

    def add(self, record: Record) -> None:
        """Add a record. A row ends with its session."""
        if not isinstance(record, CallEnded | SessionEnded) or not record.path:
            return
        row = self._rows.get(record.path[0])
        if row is None:
            return
        depth = len(record.path) - 1
        if isinstance(record, SessionEnded):
            row.sessions += not depth
            if not depth:
                row.ended.set()
        elif not record.cache_hit:
            row.usage.add(record.model, depth, stats_from_call(record))

    async def usage_of(self, row: int, wait_s: float = PATIENCE_S) -> RunUsage:
        """Return the usage of a tracked row that has ended; waits until its last record has come, so long at most."""
        watched = self._rows[row]
        try:
            async with asyncio.timeout(wait_s):
                await watched.ended.wait()
        except TimeoutError:
            pass  # what has come so far
        return RunUsage(watched.usage.rows(), int(watched.sessions > 0))


class SharedContexts:
    """Stores contexts for one group of calls; the contexts must outlive it."""

    def __init__(self, engine: ClusterDriver) -> None:
        self._engine = engine
        self._packed: dict[int, ContextRef] = {}
        self._packing = asyncio.Lock()

    async def get(self, context: Context, lost: ContextRef | None = None) -> ContextRef | None:
        """Return the reference of a context, a new one in place of `lost`; None for an empty context."""
        if not context.info.chars:
            return None
        async with self._packing:
            context_ref = self._packed.get(id(context))
            if context_ref is None or context_ref is lost:
                context_ref = self._packed[id(context)] = await self._engine.pack(context)
        return context_ref
