"""Puts answers right that do not match their schemas: direct answers, plain calls, rows and pieces.

The one place that decides how often the model is asked again. Only an answer that ends by itself is put right: what was
cut off at the token limit would be cut off again, and the model could only invent what is missing.

A session with a REPL is told in its next turn instead (`Session._check_answer`): there a repair is a turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from rlm_ray.core.llm import Message, ModelReply
from rlm_ray.core.repl_types import Failed, SubCallOutcome
from rlm_ray.core.reply import answered
from rlm_ray.structured.schema import AnswerSchema, ParsedAnswer
from rlm_ray.structured.validation import within_bounds

REPAIRS = 1
"""How often an answer is put right by the model."""
DIRECT_REPAIRS = 2
"""How often that of a whole run is, which has no other chance."""
CHECKED_ON_THE_LOOP = 50_000
"""A longer answer is checked in a thread: sessions of the same actor share the loop."""
ON_THE_LOOP_S = 0.02
"""And so is one whose schema takes longer than this."""


@dataclass(frozen=True, slots=True)
class TypedAnswer:
    """An answer that was checked, and put right where that went."""

    text: str
    """As the model gave it."""
    parsed: ParsedAnswer
    cut: str = ""
    """A sentence where it was cut off at the token limit."""

    @property
    def why(self) -> str:
        """Say in one sentence why the answer cannot be used; empty where it can."""
        return "" if self.parsed.fits else self.cut or self.parsed.misfit


@dataclass(frozen=True, slots=True)
class Misfit:
    """An answer to be put right."""

    at: int
    """Its place among the answers."""
    number: int
    """Of the repair: 1 for the first of this answer."""
    answer: str
    why: str


AskAgain: TypeAlias = Callable[[Sequence[Misfit]], Awaitable[Sequence[SubCallOutcome]]]
"""Asks the model again for each of these, side by side."""


async def conform(
    schemas: Sequence[AnswerSchema | None],
    outcomes: Sequence[SubCallOutcome],
    ask_again: AskAgain,
    repairs: int = REPAIRS,
) -> list[TypedAnswer | Failed]:
    """Return the answers in order, put right up to so many times; one may not match its schema even then.

    Without a schema every text is right. A call that failed, the first or a repair, is its failure.
    """
    found = [await _checked(schema, outcome) for schema, outcome in zip(schemas, outcomes, strict=True)]
    for number in range(1, repairs + 1):
        wrong = [
            Misfit(at, number, answer.text, answer.parsed.why)
            for at, answer in enumerate(found)
            if isinstance(answer, TypedAnswer) and not answer.parsed.fits and not answer.cut
        ]
        repaired = await ask_again(wrong) if wrong else ()
        for misfit, outcome in zip(wrong, repaired, strict=True):
            found[misfit.at] = await _checked(schemas[misfit.at], outcome)
    return found


async def conform_reply(
    schema: AnswerSchema,
    messages: Sequence[Message],
    reply: ModelReply,
    ask: Callable[[tuple[Message, ...], Misfit], Awaitable[ModelReply]],
    repairs: int = REPAIRS,
) -> TypedAnswer:
    """Return the answer of a reply to these messages, put right in the same conversation. Raises what `ask` raises."""
    said = tuple(messages)

    async def ask_again(misfits: Sequence[Misfit]) -> list[SubCallOutcome]:
        nonlocal said
        (misfit,) = misfits
        said = (*said, Message("assistant", misfit.answer), Message("user", schema.refusal(misfit.why)))
        return [answered(await ask(said, misfit))]

    (typed,) = await conform([schema], [answered(reply)], ask_again, repairs)
    assert isinstance(typed, TypedAnswer)
    return typed


async def check_answer(schema: AnswerSchema, answer: str) -> ParsedAnswer:
    """Check an answer; in a thread where that may take its time."""
    if len(answer) <= CHECKED_ON_THE_LOOP and schema.type_ is None:
        with within_bounds(ON_THE_LOOP_S) as bounds:
            parsed = schema.check(answer)
        if not bounds.are_passed:
            return parsed
    return await asyncio.to_thread(schema.check, answer)


async def _checked(schema: AnswerSchema | None, outcome: SubCallOutcome) -> TypedAnswer | Failed:
    if isinstance(outcome, Failed):
        return outcome
    text = outcome.text
    parsed = ParsedAnswer(text, "", text, text) if schema is None else await check_answer(schema, text)
    return TypedAnswer(text, parsed, outcome.cut)
