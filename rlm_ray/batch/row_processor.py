"""One row asked: from the row to what came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from rlm_ray.batch.results import RowResult, key_of
from rlm_ray.batch.source import Row
from rlm_ray.batch.template import QueryTemplate
from rlm_ray.core.context import Context, ContextPart, make_context
from rlm_ray.core.repl_types import Failed, SubCallAnswer, SubCallOutcome
from rlm_ray.core.retry_after import Refusals
from rlm_ray.errors import (
    ActorLostError,
    AuthenticationError,
    ClusterError,
    ConfigError,
    ContextLostError,
    InputError,
    JournalError,
    LimitReached,
    QuotaError,
    RLMError,
    SubCallError,
)
from rlm_ray.events.usage import RunUsage
from rlm_ray.session.result import CUT, SessionResult
from rlm_ray.structured.conform import Misfit, conform
from rlm_ray.structured.schema import AnswerSchema

BUDGET_STOP_REASONS = frozenset({"cost_usd", "tokens", "calls", "sessions", "time_s"})
"""Stop reasons of a session that say that the whole job has nothing left."""
ROW_LOCAL_ERRORS = (ActorLostError, ContextLostError)
"""Kinds of `ClusterError` that are about one row: it was tried several times."""
JOB_FATAL_ERRORS = (LimitReached, AuthenticationError, QuotaError, ConfigError, JournalError, ClusterError)
"""What the next row would meet, too."""
_NOTHING = make_context("")
_REFUSED = (AuthenticationError, ConfigError)
"""Kinds that the next row need not meet where others were answered."""


class RowBackend(Protocol):
    """Answers for rows: all of them are one run with one budget."""

    @property
    def run_id(self) -> str: ...

    @property
    def trace_id(self) -> str: ...

    @property
    def concurrency(self) -> int:
        """Return how many rows are worth having under way now."""

    async def ask(self, row: int, query: str, context: Context) -> SessionResult:
        """Run one session. Raises the `RLMError` of the row, or `LimitReached` where the job has nothing left."""

    async def llm_calls(
        self, calls: Sequence[tuple[int, int, str, ContextPart, Context]]
    ) -> list[SubCallOutcome]:
        """Make plain calls that belong to rows, answers in order: row, number, question, and what part of which context."""

    async def usage(self) -> RunUsage:
        """Return the usage of the whole job."""

    def end_as(self, reason: str, why: str) -> None:
        """Say how the whole job ended."""


@dataclass(frozen=True, slots=True)
class RowTask:
    """A row and what it shall be asked; or why it cannot be."""

    row: Row
    query: str = ""
    key: str = ""
    error: str = ""


def make_task(row: Row, question: QueryTemplate) -> RowTask:
    """Return what a row is asked. One with neither a text nor a value for the question is not asked at all."""
    if row.error:
        return RowTask(row, error=row.error)
    if not row.text.strip() and not any(row.values.get(name) not in (None, "") for name in question.columns):
        return RowTask(row, error="has no text to ask about: it is empty")
    try:
        query = question.render(row.values)
    except InputError as error:
        return RowTask(row, error=str(error))
    return RowTask(row, query, key_of(query, row.id, row.text))


@dataclass(frozen=True, slots=True)
class RowProcessor:
    """Asks rows, and turns what comes back into results."""

    backend: RowBackend
    schema: AnswerSchema | None
    clock: Callable[[], float]
    refusals: Refusals = field(default_factory=Refusals)

    async def process(self, row_task: RowTask) -> RowResult:
        """Ask a row and return its result, a failure included.

        Raises `LimitReached` where the job has nothing left, and what the next row would meet, too.
        """
        if row_task.error:
            return self.failed(row_task, row_task.error)
        started = self.clock()
        try:
            outcome = await self._answered(row_task)
            self.refusals.answered()
        except RLMError as error:
            if self._ends_the_job(error):
                raise
            outcome = self.failed(row_task, _format_error(error))
        return replace(outcome, seconds=self.clock() - started)

    def _ends_the_job(self, error: RLMError) -> bool:
        if isinstance(error, _REFUSED):
            return self.refusals.refused()
        return isinstance(error, JOB_FATAL_ERRORS) and not isinstance(error, ROW_LOCAL_ERRORS)

    def failed(
        self, row_task: RowTask, why: str, stop_reason: str = "error", answer: str | None = None
    ) -> RowResult:
        return replace(self._empty_result(row_task), error=why, stop_reason=stop_reason, answer=answer)

    def _empty_result(self, row_task: RowTask) -> RowResult:
        row, backend = row_task.row, self.backend
        return RowResult(
            row.number, row.id, key=row_task.key, run_id=backend.run_id, trace_id=backend.trace_id
        )

    async def _answered(self, row_task: RowTask) -> RowResult:
        query = self.schema.ask(row_task.query) if self.schema is not None else row_task.query
        completion = await self.backend.ask(row_task.row.number, query, make_context(row_task.row.text))
        if completion.stop_reason in BUDGET_STOP_REASONS:
            raise LimitReached(completion.stop_reason, completion.why, completion.answer)
        outcome = _outcome_of(completion, self._empty_result(row_task))
        if self.schema is None or completion.answer is None:
            return outcome
        return await self._conform_to_schema(self.schema, outcome, completion.answer)

    async def _conform_to_schema(self, schema: AnswerSchema, outcome: RowResult, answer: str) -> RowResult:
        """Put the answer into the columns of the schema, put right by the model where it does not match."""
        cut = outcome.error or "" if outcome.stop_reason == CUT else ""

        async def ask_again(misfits: Sequence[Misfit]) -> list[SubCallOutcome]:
            repairs = [(misfit.number, schema.repair(misfit.answer, misfit.why)) for misfit in misfits]
            return await self.backend.llm_calls([(outcome.row, *repair, "", _NOTHING) for repair in repairs])

        (typed,) = await conform([schema], [SubCallAnswer(answer, cut)], ask_again)
        if isinstance(typed, Failed):
            raise typed.fatal_error or SubCallError(typed.kind, typed.why)
        if typed.why:
            return replace(outcome, answer=typed.text, error=typed.why)
        try:
            values = schema.row(typed.parsed.value)
        except InputError as error:
            return replace(outcome, answer=typed.text, error=str(error))
        return replace(outcome, answer=typed.text, error=None, values=values)


def _format_error(error: RLMError) -> str:
    """Return an error with its kind; that of a plain call stands in it."""
    return str(error) if isinstance(error, SubCallError) else f"{type(error).__name__}: {error}"


def _outcome_of(completion: SessionResult, blank: RowResult) -> RowResult:
    total = completion.usage.total
    is_whole = completion.answer is not None and completion.stop_reason != CUT
    return replace(
        blank,
        answer=completion.answer,
        error=None if is_whole else completion.why or "the model gave no answer",
        stop_reason=completion.stop_reason,
        calls=total.calls,
        input_tokens=total.input_tokens,
        output_tokens=total.output_tokens,
        cost_usd=None if total.unpriced else total.cost_usd,
        turns=completion.turns,
    )
