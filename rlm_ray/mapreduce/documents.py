"""One answer for each document, however documents travel: several in a call, one in a call, or one in several.

- Of a call that holds several, every document has to be there exactly once; those that are not, or do not match the
  schema, are asked about alone, once.
- The answers about the parts of a document are merged in code (see `core/document_answers.py`); where they contradict each
  other, or what they make does not match the schema, the model is asked once over them.
- A document with a part that failed has failed: half of it would look like all of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from rlm_ray.core.chunking import Piece, document_of, documents_in
from rlm_ray.core.context import Context, Document, DocumentRange
from rlm_ray.core.document_answers import answers_by_id, merge_parts, merge_texts
from rlm_ray.core.prompts import truncate_middle
from rlm_ray.core.repl_types import Failed
from rlm_ray.mapreduce.piece_calls import NUMBERS, Ask, PieceAnswer, PieceCaller, Wrong, read_answer
from rlm_ray.mapreduce.plan import Plan
from rlm_ray.structured.schema import AnswerSchema

_Found: TypeAlias = "dict[int, PieceAnswer | Failed]"
"""Answers by the number of the document."""


def numbers_of(plan: Plan, context: Context) -> int:
    """How many numbers of calls this takes; see `piece_calls`."""
    return NUMBERS * (len(plan.pieces) + 2 * _documents(context))


async def answer_documents(asking: PieceCaller, plan: Plan, context: Context) -> list[PieceAnswer | Failed]:
    """Ask about every document of `plan.units`, in order. `context` has an id for each document."""
    return await _Documents(asking, plan, context).answer()


@dataclass(frozen=True, slots=True)
class _Documents:
    asking: PieceCaller
    plan: Plan
    context: Context

    async def answer(self) -> list[PieceAnswer | Failed]:
        found, parts = self._sort(await self.asking.each(list(self._first())))
        missing = [number for number in self._numbers() if number not in found and number not in parts]
        found |= zip(missing, await self.asking.each(list(map(self._alone, missing))), strict=True)
        disputed = []
        for number, answers in parts.items():
            if (merged := self._merged(answers)) is None:
                disputed.append(number)
            else:
                found[number] = merged
        asks = [self._over_parts(number, parts[number]) for number in disputed]
        found |= zip(disputed, await self.asking.each(asks), strict=True)
        return [found[number] for number in self._numbers()]

    def _numbers(self) -> list[int]:
        return [document_of(self.context, unit) for unit in self.plan.units]

    def _first(self) -> Iterator[Ask]:
        """Each piece once."""
        spec = self.plan.spec
        stretches = _stretches(self.context, self.plan.pieces)
        for at, piece in enumerate(self.plan.pieces):
            numbers = documents_in(self.context, piece)
            if len(numbers) > 1:
                names = _names(self.context, numbers)
                read = partial(_read_each, spec.schema, names)
                yield Ask(NUMBERS * at, spec.question_of_each(list(names)), piece.as_part, read)
            elif len(stretches.get(numbers[0], ())) > 1:
                part_schema = spec.schema.for_part() if spec.schema is not None else None
                yield Ask(NUMBERS * at, spec.part_question, piece.as_part, partial(read_answer, part_schema))
            else:
                yield Ask(NUMBERS * at, spec.map_question, piece.as_part, partial(read_answer, spec.schema))

    def _sort(
        self, answers: Sequence[PieceAnswer | Failed]
    ) -> tuple[_Found, dict[int, list[PieceAnswer | Failed]]]:
        """What is known of whole documents, and what the parts of the others say."""
        found: _Found = {}
        parts: dict[int, list[PieceAnswer | Failed]] = {}
        stretches = _stretches(self.context, self.plan.pieces)
        for piece, answer in zip(self.plan.pieces, answers, strict=True):
            numbers = documents_in(self.context, piece)
            if len(stretches.get(numbers[0], ())) > 1:
                parts.setdefault(numbers[0], []).append(answer)
            elif len(numbers) == 1:
                found[numbers[0]] = answer
            elif isinstance(answer, PieceAnswer):
                found |= {number: PieceAnswer(value) for number, value in answer.value.items()}
            elif answer.fatal_error is not None:
                found |= dict.fromkeys(numbers, answer)
        return found, parts

    def _alone(self, number: int) -> Ask:
        spec = self.plan.spec
        place = NUMBERS * (len(self.plan.pieces) + number)
        return Ask(
            place, spec.map_question, DocumentRange(number, number + 1), partial(read_answer, spec.schema)
        )

    def _merged(self, answers: Sequence[PieceAnswer | Failed]) -> PieceAnswer | Failed | None:
        """The answer about the document; None where the model has to be asked."""
        for at, answer in enumerate(answers, 1):
            if isinstance(answer, Failed):
                return Failed(answer.kind, f"part {at} of {len(answers)}: {answer.why}", answer.fatal_error)
        values = [answer.value for answer in answers if isinstance(answer, PieceAnswer)]
        spec = self.plan.spec
        ways = dict(spec.reduce.operations) if spec.reduce is not None else {}
        if spec.schema is None:
            value = merge_texts(values, ways.get("", ""))
            cut = next(
                (answer.cut for answer in answers if isinstance(answer, PieceAnswer) and answer.cut), ""
            )
            return None if value is None else PieceAnswer(value, cut)
        merged = merge_parts(values, ways)
        return None if merged is None else _fitting(spec.schema, merged)

    def _over_parts(self, number: int, answers: Sequence[PieceAnswer | Failed]) -> Ask:
        spec = self.plan.spec
        most = max(self.plan.call_chars // len(answers), 200)
        part: list[Document] = [
            {"id": str(at), "text": truncate_middle(answer.text, most)}
            for at, answer in enumerate(answers, 1)
            if isinstance(answer, PieceAnswer)
        ]
        place = NUMBERS * (len(self.plan.pieces) + _documents(self.context) + number)
        return Ask(place, spec.parts_question, part, partial(read_answer, spec.schema))


def _documents(context: Context) -> int:
    return len(context.offsets) - 1 if context.offsets is not None else 1


def _stretches(context: Context, pieces: Sequence[Piece]) -> dict[int, list[Piece]]:
    """The pieces that are only a part of a document, by its number."""
    found: dict[int, list[Piece]] = {}
    for piece in pieces:
        if piece.documents is None:
            found.setdefault(document_of(context, piece), []).append(piece)
    return found


def _names(context: Context, numbers: Sequence[int]) -> dict[str, int]:
    ids = context.ids or ()
    return {ids[number]: number for number in numbers}


def _read_each(schema: AnswerSchema | None, names: Mapping[str, int], text: str) -> PieceAnswer | Wrong:
    """By the number of the document what is said about it; without those that are missing or do not match."""
    found: dict[int, Any] = {}
    for name, readings in answers_by_id(text, list(names)).items():
        for reading in readings:
            value = _plain_text(reading) if schema is None else schema.check_value(reading).value
            if value is not None:
                found[names[name]] = value
                break
    return PieceAnswer(found)


def _plain_text(reading: Any) -> str | None:
    """An answer without a schema is a text."""
    if reading is None or reading == {}:
        return None
    return reading if isinstance(reading, str) else json.dumps(reading, ensure_ascii=False)


def _fitting(schema: AnswerSchema, merged: Mapping[str, Any]) -> PieceAnswer | None:
    """The merged answer as the schema wants it; what no part tells is missing, or null where it has to be there."""
    nulls = dict.fromkeys(schema.required)
    for value in (dict(merged), {**nulls, **merged}):
        if (checked := schema.check_value(value)).value is not None:
            return PieceAnswer(checked.value)
    return None
