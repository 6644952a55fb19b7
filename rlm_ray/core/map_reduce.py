"""The course of a map-reduce without IO: which calls come next, by what the calls before them answered.

`answer_documents` and `join_answers` are generators: each yields the calls of one round, is sent an answer for each of them
in order, and returns the result of all. Whoever drives them makes the calls: `rlm_ray/mapreduce/` over the cluster,
`map_reduce` of the REPL by `recursive_map`.

- Of a call that holds several documents, every document has to be there exactly once; those that are not are asked about
  alone, once.
- The answers about the parts of one document are merged in code; where they contradict each other, the model is asked once
  over them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeAlias, TypeVar

from rlm_ray.core.context import Document
from rlm_ray.core.map_reduce_prompts import is_empty_answer
from rlm_ray.core.prompts import truncate_middle
from rlm_ray.core.reduce import MIN_GROUP, reduce_groups

_MIN_SHOWN_CHARS = 200
"""The least of one answer that is shown where the model is asked over the answers about parts."""

Answer = TypeVar("Answer")
CallKind: TypeAlias = Literal["document", "each", "part", "alone", "over parts"]
"""What a call is asked: about its one document; each of several; a part of one; one that an earlier call left out; over the
answers about parts."""


@dataclass(frozen=True, slots=True)
class DocumentPiece:
    """What one call of the first round reads."""

    part: Any
    documents: tuple[int, ...]
    """By number."""
    names: tuple[str, ...] = ()
    """Their ids."""
    is_part: bool = False
    """It is a part of its one document."""

    @property
    def kind(self) -> CallKind:
        return "each" if len(self.documents) > 1 else "part" if self.is_part else "document"


@dataclass(frozen=True, slots=True)
class DocumentCall:
    """A call about documents."""

    kind: CallKind
    part: Any
    place: int
    """The piece by its number in the first round; then the document by its number."""
    documents: tuple[int, ...] = ()
    names: tuple[str, ...] = ()


class DocumentAnswers(Protocol[Answer]):
    """Reads and merges the answers."""

    def split(self, piece: DocumentPiece, answer: Answer) -> Mapping[int, Answer]:
        """Return by document what a call says about each of several; documents that are left out are missing."""

    def part_of(self, piece: DocumentPiece, number: int) -> Any:
        """Return one document of a piece, to be asked about alone; None where there is nothing to ask about."""

    def merge(self, answers: Sequence[Answer]) -> Answer | None:
        """Return the answer about a document by those about its parts; None where the model has to be asked."""

    def text(self, answer: Answer) -> str:
        """Return an answer as a model reads it."""


def answer_documents(
    pieces: Sequence[DocumentPiece], answers: DocumentAnswers[Answer], size: int
) -> Generator[list[DocumentCall], Sequence[Answer], dict[int, Answer]]:
    """Ask about all documents of the pieces; return an answer by the number of each. `size` bounds a call in characters."""
    found: dict[int, Answer] = {}
    parts: dict[int, list[Answer]] = {}
    missing: list[tuple[int, Any]] = []
    first = yield [
        DocumentCall(piece.kind, piece.part, at, piece.documents, piece.names)
        for at, piece in enumerate(pieces)
    ]
    for piece, answer in zip(pieces, first, strict=True):
        if piece.kind == "each":
            known = answers.split(piece, answer)
            found |= known
            left = [number for number in piece.documents if number not in known]
            missing += [(n, part) for n in left if (part := answers.part_of(piece, n)) is not None]
        elif piece.is_part:
            parts.setdefault(piece.documents[0], []).append(answer)
        else:
            found[piece.documents[0]] = answer
    again = yield [DocumentCall("alone", part, number) for number, part in missing]
    found |= {number: answer for (number, _), answer in zip(missing, again, strict=True)}
    merged = {number: answers.merge(given) for number, given in parts.items()}
    disputed = [number for number, answer in merged.items() if answer is None]
    over = yield [
        DocumentCall("over parts", _numbered(list(map(answers.text, parts[number])), size), number)
        for number in disputed
    ]
    found |= {number: answer for number, answer in merged.items() if answer is not None}
    return found | dict(zip(disputed, over, strict=True))


@dataclass(frozen=True, slots=True)
class JoinedAnswer(Generic[Answer]):
    """An answer about the pieces `first` to `last`, counted from 1."""

    answer: Answer
    first: int
    last: int

    @property
    def label(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


def join_answers(
    said: Sequence[tuple[int, Answer]], text: Callable[[Answer], str], size: int
) -> Generator[list[list[Document]], Sequence[Answer], tuple[Answer, set[int]]]:
    """Have a model put answers about numbered pieces together, level by level; at least one. Return the one that is left,
    and the pieces that said anything. One answer alone needs no call. `size` bounds a call in characters.
    """
    known = [JoinedAnswer(answer, at, at) for at, answer in said]
    level = [each for each in known if not is_empty_answer(text(each.answer))] or known[:1]
    speaking = {each.first for each in level}
    while len(level) > 1:
        ranges = reduce_groups([len(text(each.answer)) for each in level], size)
        groups = [level[found.start : found.stop] for found in ranges]
        joined = iter(
            (
                yield [
                    [
                        {"id": each.label, "text": truncate_middle(text(each.answer), size // MIN_GROUP)}
                        for each in group
                    ]
                    for group in groups
                    if len(group) > 1
                ]
            )
        )
        level = [
            JoinedAnswer(next(joined), group[0].first, group[-1].last) if len(group) > 1 else group[0]
            for group in groups
        ]
    return level[0].answer, speaking


def _numbered(texts: Sequence[str], size: int) -> list[Document]:
    most = max(size // len(texts), _MIN_SHOWN_CHARS)
    return [{"id": str(at), "text": truncate_middle(text, most)} for at, text in enumerate(texts, 1)]
