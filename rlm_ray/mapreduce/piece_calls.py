"""The same question asked of many parts, side by side; what does not fit the schema is put right once.

All calls have row 0. The number of a call tells its place in the plan, and its repair has the next; so a run that
goes on from its record asks again only what it has no answer to.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

from rlm_ray.core.context import Context, ContextPart
from rlm_ray.core.repl_types import Failed, SubCallOutcome
from rlm_ray.core.reply import marked
from rlm_ray.core.usage import RunUsage
from rlm_ray.structured.schema import AnswerSchema

Calls = TypeVar("Calls")
Answer = TypeVar("Answer")
Result = TypeVar("Result")
_ROW = 0
NUMBERS = 2
"""Of each call: its own, and its repair's."""


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
class Wrong:
    """An answer that does not match the schema."""

    repair: str
    failed: Failed


@dataclass(frozen=True, slots=True)
class Ask:
    """One call of a plan."""

    number: int
    """Its place in the plan; its repair has the next."""
    question: str
    part: ContextPart
    read: Callable[[str], PieceAnswer | Wrong]


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
        read = partial(read_answer, self._schema)
        return await self.each(
            [Ask(first + NUMBERS * at, question, part, read) for at, part in enumerate(parts)]
        )

    async def each(self, asks: Sequence[Ask]) -> list[PieceAnswer | Failed]:
        """Make the calls, and repair once what does not match the schema; return the answers in order."""
        sent = await self._send([(ask.number, ask.question, ask.part) for ask in asks])
        answers = list(map(_read, asks, sent))
        wrong = [(at, answer) for at, answer in enumerate(answers) if isinstance(answer, Wrong)]
        repairs = await self._send([(asks[at].number + 1, answer.repair, "") for at, answer in wrong])
        for (at, _), outcome in zip(wrong, repairs, strict=True):
            answers[at] = _read(asks[at], outcome)
        cut = [answer.cut for answer in answers if isinstance(answer, PieceAnswer) and answer.cut]
        self.asked, self.cut = self.asked + len(answers), self.cut + len(cut)
        self.why_cut = self.why_cut or next(iter(cut), "")
        return [answer.failed if isinstance(answer, Wrong) else answer for answer in answers]

    async def _send(self, numbered: Sequence[tuple[int, str, ContextPart]]) -> list[SubCallOutcome]:
        calls = [(_ROW, number, question, part, self._context) for number, question, part in numbered]
        return await self._calls.llm_calls(calls) if calls else []


def _read(ask: Ask, outcome: SubCallOutcome) -> PieceAnswer | Wrong | Failed:
    if isinstance(outcome, Failed):
        return outcome
    answer = ask.read(outcome.text)
    if not outcome.cut:
        return answer
    if isinstance(answer, Wrong):  # the model could only invent what is missing
        return Failed("ReplyError", outcome.cut)
    # A text has lost its end; an object that can be read is whole.
    return PieceAnswer(marked(answer.value), outcome.cut) if isinstance(answer.value, str) else answer


def read_answer(schema: AnswerSchema | None, text: str) -> PieceAnswer | Wrong:
    """Return what a call says, by the schema where there is one."""
    if schema is None:
        return PieceAnswer(text)
    checked = schema.check(text)
    if checked.value is None:
        why = f"the answer does not match the schema: {checked.why}"
        return Wrong(schema.repair(text, checked.why), Failed("SchemaError", why))
    return PieceAnswer(checked.value)
