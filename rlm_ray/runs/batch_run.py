"""A job from any thread: many questions as one run, with one budget, one journal and one trace."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

from rlm_ray.config import Settings, settings_as_table
from rlm_ray.core.context import Context, Part, make_context
from rlm_ray.core.repl_types import Outcome
from rlm_ray.core.usage import RunUsage
from rlm_ray.errors import RLMError
from rlm_ray.journal.run_store import RunFolder
from rlm_ray.runs.run import new_run_id, traced_life
from rlm_ray.runs.run_history import Earlier, earlier_lives
from rlm_ray.util.batcher import Together

if TYPE_CHECKING:
    from rlm_ray.cluster.batch_driver import Job as ClusterJob
    from rlm_ray.cluster.driver import Engine
    from rlm_ray.cluster.run_attempt import Observer
    from rlm_ray.session.session import Completion


TOGETHER = 32
"""The most rows in one message. It comes back when the slowest of them is answered."""

Direct: TypeAlias = "Together[tuple[int, str, Context], Completion]"
"""Rows that are one plain call each."""


class Job:
    """A job under way; its methods may be called side by side."""

    def __init__(
        self, engine: Engine, job: ClusterJob, direct: Direct, trace_id: str, earlier: RunUsage
    ) -> None:
        self._engine, self._job, self._direct = engine, job, direct
        self.run_id = job.run_id
        self.trace_id = trace_id
        """Of its OpenTelemetry trace; empty where none is made."""
        self.earlier = earlier
        """What earlier lives of it have used."""

    @property
    def concurrency(self) -> int:
        """How many rows are worth having under way at once."""
        return self._job.concurrency

    async def ask(self, row: int, query: str, context: Context) -> Completion:
        """One session for this row, or one plain call where the settings say so, with its own `usage`; what is on
        record is not paid again.

        Raises the row's `RLMError`; `LimitReached` where the budget of the whole job is used up.
        """
        if self._job.answers_directly(context):
            return await self._direct.ask((row, query, context))
        return await self._engine.carry_out(self._job.ask(row, query, context))

    async def plain(self, row: int, number: int, query: str, text: str) -> str:
        """One plain call that belongs to a row."""
        return await self._engine.carry_out(self._job.plain(row, number, query, text))

    async def plain_many(self, calls: Sequence[tuple[int, int, str, Part, Context]]) -> list[Outcome]:
        """Plain calls side by side over all actors, in order: row, number, question, and what part of which context."""
        return await self._engine.carry_out(self._job.plain_many(calls))

    async def usage(self) -> RunUsage:
        """Of the whole job so far, earlier lives among it."""
        return await self._engine.carry_out(self._job.usage())


@asynccontextmanager
async def open_job(
    settings: Settings,
    query: str,
    *,
    run_id: str | None = None,
    observers: Sequence[Observer] = (),
    traceparent: str = "",
) -> AsyncIterator[Job]:
    """Begin a job, or with the `run_id` of one on record its next life; the end of the block ends it.

    `query` says what the job is about, for whoever reads its record.
    """
    from rlm_ray.cluster.batch_driver import Job as ClusterJob
    from rlm_ray.cluster.driver import Engine
    from rlm_ray.cluster.run_attempt import Order

    earlier = _earlier(settings, run_id or new_run_id())
    async with AsyncExitStack() as stack:
        engine = await Engine.connect(settings.cluster)
        traced = traced_life(earlier.run_id, settings, traceparent)
        watching = list(observers)
        if traced is not None:
            stack.callback(traced.close)
            watching.append(traced)
        order = Order(
            earlier.run_id,
            settings,
            query,
            make_context(""),
            settings_as_table(settings),
            traced.traceparent if traced is not None else traceparent,
            earlier.lives,
            earlier.usage,
        )
        opened = ClusterJob.open(engine, order, watching)
        job = await engine.carry_out(opened.__aenter__())

        async def end(*how: Any) -> bool | None:
            return await engine.carry_out(opened.__aexit__(*how))

        stack.push_async_exit(end)

        def answer(rows: Sequence[tuple[int, str, Context]]) -> Awaitable[list[Completion | RLMError]]:
            return engine.carry_out(job.answer(rows))

        direct: Direct = Together(
            answer, most=TOGETHER, room=lambda: job.direct_rows, size=lambda row: row[2].nbytes
        )
        await stack.enter_async_context(direct)
        yield Job(engine, job, direct, traced.trace_id if traced is not None else "", earlier.usage)


def _earlier(settings: Settings, run_id: str) -> Earlier:
    if not settings.run_dir:
        return Earlier(run_id)
    folder = RunFolder(settings.run_dir, run_id)
    return earlier_lives(folder) if folder.exists() else Earlier(run_id)
