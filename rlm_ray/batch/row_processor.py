"""One row asked: from the row to what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

from rlm_ray.batch.results import Outcome, key_of
from rlm_ray.batch.source import Row
from rlm_ray.batch.template import Question
from rlm_ray.core.context import Context, make_context
from rlm_ray.core.refusals import Refusals
from rlm_ray.core.usage import RunUsage
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
from rlm_ray.session.session import CUT, Completion
from rlm_ray.structured.schema import Schema

JOB_LIMITS = frozenset({"cost_usd", "tokens", "calls", "sessions", "time_s"})
"""Stop reasons of a session that say that the whole job has nothing left."""
_OWN_FAULT = (ActorLostError, ContextLostError)
"""Kinds of `ClusterError` that are about one row: it was tried several times."""
_FATAL = (LimitReached, AuthenticationError, QuotaError, ConfigError, JournalError, ClusterError)
"""What the next row would meet, too."""
_REFUSED = (AuthenticationError, ConfigError)
"""Kinds that the next row need not meet where others were answered."""


class Asks(Protocol):
    """Answers for rows: all of them are one run with one budget."""

    @property
    def run_id(self) -> str: ...

    @property
    def trace_id(self) -> str: ...

    @property
    def concurrency(self) -> int:
        """How many rows are worth having under way now."""

    async def ask(self, row: int, query: str, context: Context) -> Completion:
        """One session. Raises the `RLMError` of the row, or `LimitReached` where the job has nothing left."""

    async def plain(self, row: int, number: int, query: str, text: str) -> str:
        """One plain call that belongs to a row."""

    async def usage(self) -> RunUsage:
        """Of the whole job."""


@dataclass(frozen=True, slots=True)
class Todo:
    """A row and what it shall be asked; or why it cannot be."""

    row: Row
    query: str = ""
    key: str = ""
    error: str = ""


def todo_of(row: Row, question: Question) -> Todo:
    """What a row is asked. One with neither a text nor a value for the question is not asked at all."""
    if row.error:
        return Todo(row, error=row.error)
    if not row.text.strip() and not any(row.values.get(name) not in (None, "") for name in question.columns):
        return Todo(row, error="has no text to ask about: it is empty")
    try:
        query = question.of(row.values)
    except InputError as error:
        return Todo(row, error=str(error))
    return Todo(row, query, key_of(query, row.id, row.text))


@dataclass(frozen=True, slots=True)
class Asking:
    """Makes outcomes of rows."""

    asks: Asks
    schema: Schema | None
    clock: Callable[[], float]
    refusals: Refusals = field(default_factory=Refusals)

    async def outcome(self, todo: Todo) -> Outcome:
        """What came of the row, its failure included.

        Raises `LimitReached` where the job has nothing left, and what the next row would meet, too.
        """
        if todo.error:
            return self.failed(todo, todo.error)
        started = self.clock()
        try:
            outcome = await self._answered(todo)
            self.refusals.answered()
        except RLMError as error:
            if self._ends_the_job(error):
                raise
            outcome = self.failed(todo, _told(error))
        return replace(outcome, seconds=self.clock() - started)

    def _ends_the_job(self, error: RLMError) -> bool:
        if isinstance(error, _REFUSED):
            return self.refusals.refused()
        return isinstance(error, _FATAL) and not isinstance(error, _OWN_FAULT)

    def failed(self, todo: Todo, why: str, stop_reason: str = "error", answer: str | None = None) -> Outcome:
        return replace(self._blank(todo), error=why, stop_reason=stop_reason, answer=answer)

    def _blank(self, todo: Todo) -> Outcome:
        row, asks = todo.row, self.asks
        return Outcome(row.number, row.id, key=todo.key, run_id=asks.run_id, trace_id=asks.trace_id)

    async def _answered(self, todo: Todo) -> Outcome:
        query = self.schema.ask(todo.query) if self.schema is not None else todo.query
        completion = await self.asks.ask(todo.row.number, query, make_context(todo.row.text))
        if completion.stop_reason in JOB_LIMITS:
            raise LimitReached(completion.stop_reason, completion.why, completion.answer)
        outcome = _outcome_of(completion, self._blank(todo))
        if self.schema is None or completion.answer is None:
            return outcome
        return await self._fitted(self.schema, outcome, completion.answer)

    async def _fitted(self, schema: Schema, outcome: Outcome, answer: str) -> Outcome:
        """The answer in the columns of the schema; put right by the model once where it does not fit."""
        checked = schema.check(answer)
        if checked.value is None and outcome.stop_reason == CUT:
            return outcome
        if checked.value is None:
            answer = await self.asks.plain(outcome.row, 1, schema.repair(answer, checked.why), "")
            checked = schema.check(answer)
        if checked.value is None:
            return replace(outcome, answer=answer, error=f"the answer does not fit the schema: {checked.why}")
        return replace(outcome, answer=answer, error=None, values=schema.row(checked.value))


def _told(error: RLMError) -> str:
    """With its kind; that of a plain call stands in it."""
    return str(error) if isinstance(error, SubCallError) else f"{type(error).__name__}: {error}"


def _outcome_of(completion: Completion, blank: Outcome) -> Outcome:
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
