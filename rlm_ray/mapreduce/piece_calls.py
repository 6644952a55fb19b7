"""The same question asked of many parts, side by side; what does not fit the schema is put right once.

All calls have row 0. The number of a call tells its place in the plan, and its repair has the next; so a run that
goes on from its record asks again only what it has no answer to.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from rlm_ray.core.context import Context, ContextPart
from rlm_ray.core.repl_types import Failed, SubCallOutcome
from rlm_ray.core.reply import marked
from rlm_ray.events.usage import RunUsage
from rlm_ray.structured.conform import REPAIRS, Misfit, TypedAnswer, conform
from rlm_ray.structured.schema import AnswerSchema

Calls = TypeVar("Calls")
Answer = TypeVar("Answer")
Result = TypeVar("Result")
_ROW = 0
NUMBERS = 1 + REPAIRS
"""Of each call: its own, and its repairs'."""


class CallBackend(Protocol):
    """Makes plain model calls."""

    async def llm_calls(
        self, calls: Sequence[tuple[int, int, str, ContextPart, Context]]
    ) -> list[SubCallOutcome]:
        """Make calls concurrently, answers in order: row, number, question, and what part of which context."""
        ...

    async def usage(self) -> RunUsage: ...


@dataclass(frozen=True, slots=True)
class PieceAnswer:
    """The answer about a part."""

    value: Any
    """By the schema; else the text, with a mark at its end where it was cut off."""
    cut: str = ""
    """A sentence where it was cut off at the token limit."""

    @property
    def text(self) -> str:
        return self.value if isinstance(self.value, str) else json.dumps(self.value, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Ask:
    """One call of a plan."""

    number: int
    """Its place in the plan; its repair has the next."""
    question: str
    part: ContextPart
    schema: AnswerSchema | None
    read: Callable[[str], Any] | None = None
    """Makes a value of a text that needs not match a schema."""


async def drive(
    steps: Generator[Calls, Sequence[Answer], Result], ask: Callable[[Calls], Awaitable[Sequence[Answer]]]
) -> Result:
    """Make the calls of each round of a map-reduce (see `core/map_reduce.py`), and return its result."""
    answers: Any = None  # nothing is sent before the first round
    while True:
        try:
            calls = steps.send(answers)
        except StopIteration as done:
            result: Result = done.value
            return result
        answers = await ask(calls)


class PieceCaller:
    """Asks many parts, and has what does not match the schema put right once."""

    def __init__(
        self, calls: CallBackend, schema: AnswerSchema | None, context: Context, first: int = 0
    ) -> None:
        self._calls, self._schema, self._context = calls, schema, context
        self._next = first
        """The number of the next call of `all`."""
        self.asked = self.cut = 0
        """Answers; those of them that were cut off at the token limit."""
        self.why_cut = ""

    async def call_all(self, question: str, parts: Sequence[ContextPart]) -> list[PieceAnswer | Failed]:
        """Ask one question of many parts; return the answers in order."""
        first = self._next
        self._next += NUMBERS * len(parts)
        numbers = range(first, self._next, NUMBERS)
        return await self.each(
            [Ask(number, question, part, self._schema) for number, part in zip(numbers, parts, strict=True)]
        )

    async def each(self, asks: Sequence[Ask]) -> list[PieceAnswer | Failed]:
        """Make the calls, and have put right what does not match the schema; return the answers in order."""

        async def ask_again(misfits: Sequence[Misfit]) -> list[SubCallOutcome]:
            return await self._send([_repair_of(asks[misfit.at], misfit) for misfit in misfits])

        outcomes = await self._send([(ask.number, ask.question, ask.part) for ask in asks])
        found = await conform([ask.schema for ask in asks], outcomes, ask_again)
        answers = list(map(_piece_answer, asks, found))
        cut = [answer.cut for answer in answers if isinstance(answer, PieceAnswer) and answer.cut]
        self.asked, self.cut = self.asked + len(answers), self.cut + len(cut)
        self.why_cut = self.why_cut or next(iter(cut), "")
        return answers

    async def _send(self, numbered: Sequence[tuple[int, str, ContextPart]]) -> list[SubCallOutcome]:
        calls = [(_ROW, number, question, part, self._context) for number, question, part in numbered]
        return await self._calls.llm_calls(calls) if calls else []


def _repair_of(ask: Ask, misfit: Misfit) -> tuple[int, str, ContextPart]:
    assert ask.schema is not None
    return ask.number + misfit.number, ask.schema.repair(misfit.answer, misfit.why), ""


def _piece_answer(ask: Ask, typed: TypedAnswer | Failed) -> PieceAnswer | Failed:
    if isinstance(typed, Failed):
        return typed
    if typed.why:
        return Failed("ReplyError" if typed.cut else "SchemaError", typed.why)
    value = typed.parsed.value if ask.read is None else ask.read(typed.text)
    # A text has lost its end; an object that can be read is whole.
    is_torn = bool(typed.cut) and isinstance(value, str)
    return PieceAnswer(marked(value), typed.cut) if is_torn else PieceAnswer(value)
