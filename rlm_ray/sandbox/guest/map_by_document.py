"""`map_reduce` of the REPL where code puts answers together: one answer for each document, however documents travel.

The rules are those of `core.by_document`; a piece of a context that is one text counts as a document.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

from rlm_ray.core.document_answers import (
    answers_by_id,
    merge_parts,
    merge_texts,
    of_a_document_part,
    of_each,
    of_its_parts,
)
from rlm_ray.core.json_extraction import find_json_objects
from rlm_ray.core.map_reduce_prompts import field_prompt
from rlm_ray.core.prompts import truncate_middle
from rlm_ray.core.reduce import Reduction

Many: TypeAlias = "Callable[[Any, list[Any], Any], list[Any]]"
"""`recursive_map`."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What one sub-call reads."""

    part: Any
    documents: tuple[int, ...]
    """By number."""
    names: tuple[str, ...] = ()
    """Their ids."""
    is_stretch: bool = False
    """A part of its one document."""


@dataclass(frozen=True, slots=True)
class Unread:
    """Stands for an answer that cannot be used."""

    why: str


@dataclass(frozen=True, slots=True)
class CodeReduction:
    """Asks pieces, has an answer for each document, and puts them together."""

    many: Many
    way: Reduction
    query: str
    size: int
    on_error: str

    def value(self, pieces: Sequence[Piece]) -> Any:
        """What all documents say together. Raises for one without an answer, unless `on_error` is skip."""
        pieces = [piece for piece in pieces if len(piece.documents) != 1 or piece.part != ""]
        several = any(len(piece.documents) > 1 for piece in pieces)
        answers = self._ask(
            [self._question(piece) for piece in pieces], [piece.part for piece in pieces], several
        )
        if pieces and not any(isinstance(answer, str) for answer in answers):
            raise RuntimeError(f"all {len(pieces):,} pieces failed, the first with {answers[0]}")
        found: dict[int, Any] = {}
        parts: dict[int, list[Any]] = {}
        alone: list[tuple[int, Any]] = []
        for piece, answer in zip(pieces, answers, strict=True):
            if len(piece.documents) > 1:
                known = answers_by_id(answer, piece.names) if isinstance(answer, str) else {}
                for at, (number, name) in enumerate(zip(piece.documents, piece.names, strict=True)):
                    value = self._first_fitting(known.get(name, []))
                    if value is not None:
                        found[number] = value
                    elif _has_text(piece.part[at]):
                        alone.append((number, piece.part[at : at + 1]))
            elif piece.is_stretch:
                parts.setdefault(piece.documents[0], []).append(self._read(answer))
            else:
                found[piece.documents[0]] = self._read(answer)
        asked = self._ask([self._plain_question()] * len(alone), [part for _, part in alone])
        found |= {number: self._read(answer) for (number, _), answer in zip(alone, asked, strict=True)}
        return self._reduced(found | self._whole(parts))

    def _question(self, piece: Piece) -> str:
        if len(piece.documents) > 1:
            if not self.way.fields:
                return of_each(self.query, piece.names)
            return of_each(
                self.query, piece.names, f"<a JSON object with the fields: {', '.join(self.way.fields)}>"
            )
        if piece.is_stretch:
            query = of_a_document_part(self.query, in_fields=bool(self.way.fields))
            return field_prompt(query, self.way.fields)
        return self._plain_question()

    def _plain_question(self) -> str:
        return field_prompt(self.query, self.way.fields)

    def _ask(self, questions: list[str], parts: list[Any], several: bool = False) -> list[Any]:
        """A call about several documents may fail: they are asked about alone then."""
        if not parts:
            return []
        return self.many(questions, parts, "raise" if self.on_error == "raise" and not several else "return")

    def _read(self, answer: Any) -> Any:
        """The answer about one document; an object where fields are wanted."""
        if not isinstance(answer, str):
            return Unread(f"failed: {answer}")
        if not self.way.fields:
            return answer
        found = next(find_json_objects(answer), None)
        return Unread(f"holds no JSON object: {answer[:200]!r}") if found is None else found

    def _first_fitting(self, readings: Sequence[Any]) -> Any:
        """The first reading with all fields; where none are wanted, the first that says anything."""
        for reading in readings:
            if not self.way.fields:
                if reading is not None and reading != {}:
                    return reading
            elif isinstance(reading, dict) and any(field in reading for field in self.way.fields):
                return reading
        return None

    def _whole(self, parts: dict[int, list[Any]]) -> dict[int, Any]:
        """The answers about documents of which each was read in parts."""
        merged = {number: self._merged(answers) for number, answers in parts.items()}
        torn = [number for number, value in merged.items() if value is None]
        question = field_prompt(of_its_parts(self.query), self.way.fields)
        asked = self._ask([question] * len(torn), [self._shown(parts[number]) for number in torn])
        return merged | {number: self._read(answer) for number, answer in zip(torn, asked, strict=True)}

    def _merged(self, answers: list[Any]) -> Any:
        for at, answer in enumerate(answers, 1):
            if isinstance(answer, Unread):
                return Unread(f"part {at} of {len(answers)} {answer.why}")
        ways = dict(self.way.operations)
        return merge_parts(answers, ways) if self.way.fields else merge_texts(answers, ways.get("", ""))

    def _shown(self, answers: list[Any]) -> list[dict[str, str]]:
        most = max(self.size // len(answers), 200)
        return [
            {"id": str(at), "text": truncate_middle(str(answer), most)}
            for at, answer in enumerate(answers, 1)
        ]

    def _reduced(self, found: dict[int, Any]) -> Any:
        states = []
        for number, value in sorted(found.items()):
            if not isinstance(value, Unread):
                states.append(self.way.map_piece(number, value))
            elif self.on_error == "raise":
                self._refuse(number, value)
        return self.way.value(self.way.merge(states))

    def _refuse(self, number: int, value: Unread) -> NoReturn:
        raise ValueError(f"the answer about piece {number + 1} {value.why}")


def _has_text(document: Any) -> bool:
    return bool(document if isinstance(document, str) else document["text"])
