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

import re
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeAlias, TypeVar

from rlm_ray.core.context import Document
from rlm_ray.core.prompts import truncate_middle
from rlm_ray.core.reduce import MIN_GROUP, reduce_groups

_OF_A_PART = """

The context is one part of a larger input. Answer for this part alone, with all that is needed to put the answers of \
the parts together. If it holds nothing about the question, say only: nothing here."""

_TOGETHER = """\
The context holds answers to one question, each from another part of a large input; the number of the part stands \
before it in square brackets. Put them together into one answer: keep what matters, add up what belongs together, \
say where parts contradict each other, and leave out parts that hold nothing about the question."""

_CITE = " Write behind each statement the numbers of the parts it rests on, such as [3] or [3-5]."

_FIELDS = """

Answer with one JSON object and nothing else, with these fields: {fields}. Leave out what the context does not hold."""

_NOTHING = re.compile(r"\W*nothing here\W*", re.IGNORECASE)
_CITED = re.compile(r"\[(\d+)(?:\s*[-–]\s*(\d+))?\]")  # noqa: RUF001 - models write ranges either way


def map_prompt(query: str) -> str:
    """Return the question as it is asked of one part, where a model will put the answers together."""
    return query + _OF_A_PART


def field_prompt(query: str, fields: Sequence[str]) -> str:
    """Return the question whose answers code will put together, field by field."""
    return query + _FIELDS.format(fields=", ".join(fields)) if fields else query


def reduce_prompt(query: str, own: str = "", *, cite: bool = True) -> str:
    """Return what is asked about the answers; `own` words in place of ours."""
    return f"{own or _TOGETHER + (_CITE if cite else '')}\n\nThe question was: {query}"


def is_empty_answer(answer: str) -> bool:
    return _NOTHING.fullmatch(answer) is not None


def cited_parts(answer: str, parts: int) -> list[int]:
    """Return the parts an answer names, by number from 1; all of them where it names none."""
    named: set[int] = set()
    for first, last in _CITED.findall(answer):
        start, stop = int(first), int(last or first)
        if 1 <= start <= stop <= parts:
            named.update(range(start, stop + 1))
    return sorted(named) or list(range(1, parts + 1))


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
