"""One answer for each document of a plan, however documents travel: several in a call, one in a call, or one in several.

The course of the calls is `core/map_reduce.py`; here is what each call is asked, how its answer is read, and its number in
the plan. A document with a part that failed has failed: half of it would look like all of it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from rlm_ray.core.chunking import document_of, documents_in
from rlm_ray.core.context import Context, DocumentRange
from rlm_ray.core.document_answers import answers_by_id, merge_parts, merge_texts, says_nothing
from rlm_ray.core.map_reduce import DocumentCall, DocumentPiece, answer_documents
from rlm_ray.core.repl_types import Failed
from rlm_ray.mapreduce.piece_calls import NUMBERS, Ask, PieceAnswer, PieceCaller, drive
from rlm_ray.mapreduce.plan import Plan
from rlm_ray.structured.schema import AnswerSchema


def numbers_of(plan: Plan, context: Context) -> int:
    """Return how many numbers of calls the documents of a plan take; see `piece_calls`."""
    return NUMBERS * (len(plan.pieces) + 2 * context.info.documents)


async def ask_documents(asking: PieceCaller, plan: Plan, context: Context) -> list[PieceAnswer | Failed]:
    """Ask about every document of `plan.units`, in order. `context` has an id for each document."""
    documents = _PlannedDocuments(plan, context)

    async def ask(calls: Sequence[DocumentCall]) -> list[PieceAnswer | Failed]:
        return await asking.each(list(map(documents.ask_of, calls)))

    steps = answer_documents(list(documents.pieces()), documents, plan.call_chars)
    found = await drive(steps, ask)
    return [found[document_of(context, unit)] for unit in plan.units]


@dataclass(frozen=True, slots=True)
class _PlannedDocuments:
    """The questions about the documents of a plan, and the reading of their answers."""

    plan: Plan
    context: Context

    def pieces(self) -> Iterator[DocumentPiece]:
        ids = self.context.ids or ()
        cut = Counter(
            document_of(self.context, piece) for piece in self.plan.pieces if piece.documents is None
        )
        for piece in self.plan.pieces:
            numbers = tuple(documents_in(self.context, piece))
            names = tuple(ids[number] for number in numbers)
            yield DocumentPiece(piece.as_part, numbers, names, is_part=cut[numbers[0]] > 1)

    def ask_of(self, call: DocumentCall) -> Ask:
        spec, pieces = self.plan.spec, len(self.plan.pieces)
        match call.kind:
            case "each":
                names = dict(zip(call.names, call.documents, strict=True))
                question = spec.question_of_each(list(call.names))
                read = partial(_read_each, spec.schema, names)
                return Ask(NUMBERS * call.place, question, call.part, None, read)
            case "part":
                schema = spec.schema.for_part() if spec.schema is not None else None
                return Ask(NUMBERS * call.place, spec.part_question, call.part, schema)
            case "document":
                return Ask(NUMBERS * call.place, spec.map_question, call.part, spec.schema)
            case "alone":
                return Ask(NUMBERS * (pieces + call.place), spec.map_question, call.part, spec.schema)
            case "over parts":
                number = NUMBERS * (pieces + self.context.info.documents + call.place)
                return Ask(number, spec.parts_question, call.part, spec.schema)

    def split(self, piece: DocumentPiece, answer: PieceAnswer | Failed) -> Mapping[int, PieceAnswer | Failed]:
        if isinstance(answer, PieceAnswer):
            return {number: PieceAnswer(value) for number, value in answer.value.items()}
        return dict.fromkeys(piece.documents, answer) if answer.fatal_error is not None else {}

    def part_of(self, piece: DocumentPiece, number: int) -> DocumentRange:  # noqa: ARG002 - by number alone
        return DocumentRange(number, number + 1)

    def text(self, answer: PieceAnswer | Failed) -> str:
        assert isinstance(
            answer, PieceAnswer
        )  # a part that failed has failed its document, and nobody reads the others
        return answer.text

    def merge(self, answers: Sequence[PieceAnswer | Failed]) -> PieceAnswer | Failed | None:
        for at, answer in enumerate(answers, 1):
            if isinstance(answer, Failed):
                return Failed(answer.kind, f"part {at} of {len(answers)}: {answer.why}", answer.fatal_error)
        whole = [answer for answer in answers if isinstance(answer, PieceAnswer)]
        values = [answer.value for answer in whole]
        spec = self.plan.spec
        ways = dict(spec.reduce.operations) if spec.reduce is not None else {}
        if spec.schema is None:
            value = merge_texts(values, ways.get("", ""))
            cut = next((answer.cut for answer in whole if answer.cut), "")
            return None if value is None else PieceAnswer(value, cut)
        merged = merge_parts(values, ways)
        return None if merged is None else _match_schema(spec.schema, merged)


def _read_each(schema: AnswerSchema | None, names: Mapping[str, int], text: str) -> dict[int, Any]:
    """Read by the number of the document what is said about it, without those that are missing or do not match."""
    said = answers_by_id(text, list(names))
    if schema is None:  # the first reading is what was asked for, the others are the element around it
        read = {name: _plain_text(readings[0]) for name, readings in said.items()}
    else:
        read = {name: _first_match(schema, readings) for name, readings in said.items()}
    return {names[name]: value for name, value in read.items() if value is not None}


def _first_match(schema: AnswerSchema, readings: Sequence[Any]) -> Any:
    values = (schema.check_value(reading).value for reading in readings)
    return next((value for value in values if value is not None), None)


def _plain_text(reading: Any) -> str | None:
    """Return an answer without a schema as a text; None where it says nothing."""
    if says_nothing(reading):
        return None
    return reading if isinstance(reading, str) else json.dumps(reading, ensure_ascii=False)


def _match_schema(schema: AnswerSchema, merged: Mapping[str, Any]) -> PieceAnswer | None:
    """Return the merged answer as the schema wants it; what no part tells is missing, or null where it has to be there."""
    nulls = dict.fromkeys(schema.required)
    for value in (dict(merged), {**nulls, **merged}):
        if (checked := schema.check_value(value)).value is not None:
            return PieceAnswer(checked.value)
    return None
