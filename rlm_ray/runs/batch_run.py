"""A batch run, usable from any thread: many questions as one run, with one budget, one journal and one trace."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from rlm_ray.config import Settings, settings_to_dict
from rlm_ray.core.context import Context, ContextPart, make_context
from rlm_ray.core.repl_types import SubCallOutcome
from rlm_ray.errors import RLMError
from rlm_ray.events.usage import RunUsage
from rlm_ray.journal.run_store import RunStore
from rlm_ray.llm.model_check import check_before_start
from rlm_ray.runs.run import maybe_start_tracing, new_run_id
from rlm_ray.runs.run_history import RunHistory, load_run_history
from rlm_ray.util.batcher import Respond, StreamingBatcher
from rlm_ray.util.log_format import log_run

if TYPE_CHECKING:
    from rlm_ray.cluster.batch_driver import BatchDriver
    from rlm_ray.cluster.driver import ClusterDriver
    from rlm_ray.cluster.run_attempt import Observer
    from rlm_ray.session.result import SessionResult
    from rlm_ray.structured.schema import AnswerSchema


LINGER_S = 0.005
ROWS_PER_MESSAGE = 32
"""The most rows in one message."""

DirectRowBatcher: TypeAlias = "StreamingBatcher[tuple[int, str, Context], SessionResult]"
"""Rows that are one plain call each."""


class BatchRun:
    """A batch run under way; its methods may be called concurrently."""

    def __init__(
        self,
        engine: ClusterDriver,
        driver: BatchDriver,
        direct: DirectRowBatcher,
        trace_id: str,
    ) -> None:
        self._engine, self._driver, self._direct = engine, driver, direct
        self.run_id = driver.run_id
        self.trace_id = trace_id
        """Of its OpenTelemetry trace; empty where none is made."""

    @property
    def concurrency(self) -> int:
        """Return how many rows are worth having under way at once."""
        return self._driver.concurrency

    async def ask(
        self, row: int, query: str, context: Context, schema: AnswerSchema | None = None
    ) -> SessionResult:
        """Run one session for this row, or one plain call where the settings say so, with its own `usage`; what is on
        record is not paid again.

        With a `schema` the answer is a JSON text that matches it. Raises the row's `RLMError`; `LimitReached` where the budget of the whole run is used up.
        """
        if schema is None and self._driver.answers_directly(context):
            return await self._direct.submit((row, query, context))
        return await self._engine.run_on_ray_thread(self._driver.ask(row, query, context, schema))

    async def llm_calls(
        self, calls: Sequence[tuple[int, int, str, ContextPart, Context]]
    ) -> list[SubCallOutcome]:
        """Make plain calls concurrently over all actors, in order: row, number, question, and what part of which context."""
        return await self._engine.run_on_ray_thread(self._driver.plain_many(calls))

    def end_as(self, reason: str, why: str, answer: str | None = None) -> None:
        """Say how the batch as a whole ended, for its record: `answered`, or what stopped it, and its one answer if any."""
        self._driver.end_as(reason, why, answer)

    async def usage(self) -> RunUsage:
        """Return the usage of the whole run so far, earlier attempts included."""
        return await self._engine.run_on_ray_thread(self._driver.usage())


@asynccontextmanager
async def open_batch_run(
    settings: Settings,
    query: str,
    *,
    run_id: str | None = None,
    observers: Sequence[Observer] = (),
    traceparent: str = "",
) -> AsyncIterator[BatchRun]:
    """Begin a batch run, or with the `run_id` of one on record resume it; the end of the block ends it.

    `query` says what the run is about, for readers of its record.
    """
    from rlm_ray.cluster.batch_driver import BatchDriver
    from rlm_ray.cluster.driver import ClusterDriver
    from rlm_ray.cluster.run_attempt import RunSpec, wait_teller

    history = _load_history(settings, run_id or new_run_id())
    settings = history.keep_prompts(settings)
    await asyncio.to_thread(check_before_start, settings, os.environ)
    async with AsyncExitStack() as stack:
        engine = await ClusterDriver.connect(settings.cluster, wait_teller(observers), settings.all_models())
        traced = maybe_start_tracing(history.run_id, settings, traceparent)
        watching = list(observers)
        if traced is not None:
            stack.callback(traced.close)
            watching.append(traced)
        stack.enter_context(log_run(history.run_id, (lambda: traced.trace_id) if traced is not None else ""))
        run_spec = RunSpec(
            history.run_id,
            settings,
            query,
            make_context(""),
            settings_to_dict(settings),
            traced.traceparent if traced is not None else traceparent,
            history.previous_attempts,
            history.usage,
        )
        opened = BatchDriver.open(engine, run_spec, watching)
        driver = await engine.run_on_ray_thread(opened.__aenter__())

        async def end(*how: Any) -> bool | None:
            return await engine.run_on_ray_thread(opened.__aexit__(*how))

        stack.push_async_exit(end)

        loop = asyncio.get_running_loop()

        async def answer(rows: Sequence[tuple[int, str, Context]], respond: Respond[SessionResult]) -> None:
            def respond_to_all(answers: list[tuple[int, SessionResult | RLMError]]) -> None:
                # Answers first: whoever hears of a failure may end the others.
                for place, answer in sorted(answers, key=lambda each: isinstance(each[1], Exception)):
                    respond(place, answer)

            def deliver(answers: list[tuple[int, SessionResult | RLMError]]) -> None:
                loop.call_soon_threadsafe(partial(respond_to_all, answers))

            await engine.run_on_ray_thread(driver.answer_direct(rows, deliver))

        direct: DirectRowBatcher = StreamingBatcher(
            answer,
            linger_s=LINGER_S,
            max_items=ROWS_PER_MESSAGE,
            capacity=lambda: driver.direct_rows,
            size_of=lambda row: row[2].nbytes,
        )
        await stack.enter_async_context(direct)
        yield BatchRun(engine, driver, direct, traced.trace_id if traced is not None else "")


def _load_history(settings: Settings, run_id: str) -> RunHistory:
    if not settings.run_dir:
        return RunHistory(run_id)
    folder = RunStore(settings.run_dir, run_id)
    return load_run_history(folder) if folder.exists() else RunHistory(run_id)
