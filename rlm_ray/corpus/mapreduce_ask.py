"""The same question asked of many parts, side by side; what does not fit the schema is put right once.

All calls have row 0. The number of a call tells its place in the plan, and its repair has the next; so a run that
goes on from its record asks again only what it has no answer to.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from rlm_ray.core.cell import Failed, Outcome
from rlm_ray.core.context import Context, Part
from rlm_ray.core.usage import RunUsage
from rlm_ray.corpus.schema import Schema

_ROW = 0
_NUMBERS = 2
"""Of each call: its own, and its repair's."""


class Calls(Protocol):
    """Makes plain model calls."""

    async def plain_many(self, calls: Sequence[tuple[int, int, str, Part, Context]]) -> list[Outcome]:
        """Side by side, in order: row, number, question, and what part of which context."""
        ...

    async def usage(self) -> RunUsage: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """What a part says."""

    value: Any
    """By the schema; else the text."""

    @property
    def text(self) -> str:
        return self.value if isinstance(self.value, str) else json.dumps(self.value, ensure_ascii=False)


class Asking:
    """Asks the same of many parts, and has what does not fit the schema put right once."""

    def __init__(self, calls: Calls, schema: Schema | None, context: Context) -> None:
        self._calls, self._schema, self._context = calls, schema, context
        self._next = 0

    async def all(self, question: str, parts: Sequence[Part]) -> list[Answer | Failed]:
        """The answers in order."""
        first = self._next
        self._next += _NUMBERS * len(parts)
        numbered = [(first + _NUMBERS * at, question, part) for at, part in enumerate(parts)]
        answers = [self._read(outcome) for outcome in await self._ask(numbered)]
        wrong = [(at, answer) for at, answer in enumerate(answers) if isinstance(answer, _Wrong)]
        repairs = [(numbered[at][0] + 1, answer.repair, "") for at, answer in wrong]
        for (at, _), outcome in zip(wrong, await self._ask(repairs), strict=True):
            answers[at] = self._read(outcome)
        return [answer.failed if isinstance(answer, _Wrong) else answer for answer in answers]

    async def _ask(self, numbered: Sequence[tuple[int, str, Any]]) -> list[Outcome]:
        calls = [(_ROW, number, question, part, self._context) for number, question, part in numbered]
        return await self._calls.plain_many(calls) if calls else []

    def _read(self, outcome: Outcome) -> Answer | _Wrong | Failed:
        if isinstance(outcome, Failed):
            return outcome
        schema = self._schema
        if schema is None:
            return Answer(outcome.text)
        checked = schema.check(outcome.text)
        if checked.value is None:
            why = f"the answer does not match the schema: {checked.why}"
            return _Wrong(schema.repair(outcome.text, checked.why), Failed("SchemaError", why))
        return Answer(checked.value)


@dataclass(frozen=True, slots=True)
class _Wrong:
    """An answer that does not match the schema."""

    repair: str
    failed: Failed
