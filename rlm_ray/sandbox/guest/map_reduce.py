"""`map_reduce` of the REPL: the same question of every piece of the context, and the answers put together.

The course of the calls is `core/map_reduce.py`. Where code puts answers together there is one answer for each document,
however documents travel; a piece of a context that is one text counts as a document.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from rlm_ray.core.chunking import text_chunks
from rlm_ray.core.context import Document, document_header
from rlm_ray.core.document_answers import (
    MAX_DOCUMENTS_PER_CALL,
    answers_by_id,
    merge_parts,
    merge_texts,
    of_a_document_part,
    of_each,
    of_its_parts,
    says_nothing,
    unique_ids,
)
from rlm_ray.core.json_extraction import find_json_objects
from rlm_ray.core.map_reduce import (
    DocumentCall,
    DocumentPiece,
    answer_documents,
    field_prompt,
    join_answers,
    map_prompt,
    reduce_prompt,
)
from rlm_ray.core.prompts import DEFAULT_LEAF_CHARS
from rlm_ray.core.reduce import Reduction, parse_reduction
from rlm_ray.sandbox.guest.context_parts import ContextReferences
from rlm_ray.sandbox.guest.search import SearchHit

_BETWEEN_CHARS = 9
"""Between documents that are read together, with room to spare."""

RecursiveMap: TypeAlias = "Callable[[Any, list[Any], Any], list[Any]]"
"""`recursive_map`."""


class MapReduce:
    """Made for one session's context."""

    def __init__(self, many: RecursiveMap, parts: ContextReferences) -> None:
        self._many = many
        self._parts = parts

    def names(self) -> dict[str, Any]:
        return {"map_reduce": self.map_reduce}

    def map_reduce(
        self,
        query: str,
        contexts: Any = None,
        reduce: Any = "model",
        size: int = DEFAULT_LEAF_CHARS,
        on_error: str = "raise",
    ) -> Any:
        """Return the answer of a model (reduce="model"), or what `collect`, `count`, `union`, `sum` make of all answers."""
        if on_error not in ("raise", "skip"):
            raise ValueError(f"on_error must be 'raise' or 'skip', not {on_error!r}")
        if reduce != "model":
            pieces = list(self._split(contexts, size, MAX_DOCUMENTS_PER_CALL))
            return CodeReduction(self._many, parse_reduction(reduce), query, size, on_error).value(pieces)
        parts = [piece.part for piece in self._split(contexts, size)]
        answers = self._many(map_prompt(query), parts, "raise" if on_error == "raise" else "return")
        said = [(at, answer) for at, answer in enumerate(answers, 1) if isinstance(answer, str)]
        if parts and not said:
            raise RuntimeError(f"all {len(parts):,} pieces failed, the first with {answers[0]}")
        if not said:
            return ""
        steps = join_answers(said, str, size)
        answer, _ = _drive(steps, lambda joined: self._many(reduce_prompt(query), joined, "raise"))
        return answer

    def _split(self, contexts: Any, size: int, max_documents: int | None = None) -> Iterator[DocumentPiece]:
        """Split, by reference where they are of the context: slices in order, documents, or stretches of documents."""
        whole = contexts is None or contexts is self._parts.content
        source = self._parts.original() if whole else contexts
        if isinstance(source, str):
            found = (source[start:stop] for start, stop in text_chunks(source, size))
            yield from (DocumentPiece(part, (number,)) for number, part in enumerate(found))
        elif whole:
            yield from _pack_documents(source, size, max_documents)
        else:
            for number, item in enumerate(contexts):
                text = _text_of(item)
                if text is not None and len(text) > size:
                    found = (text[start:stop] for start, stop in text_chunks(text, size))
                    yield from (DocumentPiece(part, (number,), is_part=True) for part in found)
                else:
                    yield DocumentPiece(item, (number,))


def _text_of(item: Any) -> str | None:
    """Return the text of a text or a document."""
    text = item.get("text") if type(item) is dict else item
    return text if isinstance(text, str) else None


def _pack_documents(
    documents: list[Document], size: int, max_documents: int | None
) -> Iterator[DocumentPiece]:
    """Pack small neighbours together, large documents in stretches."""
    labels = unique_ids(
        [str(number) if isinstance(each, str) else each["id"] for number, each in enumerate(documents)]
    )
    first = chars = 0

    def piece_until(stop: int) -> DocumentPiece:
        found, named = documents[first:stop], labels[first:stop]
        if len(found) > 1 and any(
            isinstance(each, str) or each["id"] != name for each, name in zip(found, named, strict=True)
        ):
            found = [
                {"id": name, "text": _text_of(each) or ""} for each, name in zip(found, named, strict=True)
            ]
        return DocumentPiece(found, tuple(range(first, stop)), named)

    for number, document in enumerate(documents):
        text = document if isinstance(document, str) else document["text"]
        alone = len(text) + (0 if isinstance(document, str) else len(document_header(document["id"])))
        wanted = len(text) + len(document_header(labels[number])) + _BETWEEN_CHARS
        if number > first and (chars + wanted > size or number - first == max_documents):
            yield piece_until(number)
            first, chars = number, 0
        chars += wanted
        if alone > size:  # a stretch is read without its name
            for stretch in text_chunks(text, size):
                yield DocumentPiece(SearchHit(number, stretch, {"document": number}), (number,), is_part=True)
            first, chars = number + 1, 0
    if first < len(documents):
        yield piece_until(len(documents))


def _drive(steps: Generator[Any, Any, Any], ask: Callable[[Any], list[Any]]) -> Any:
    """Make the calls of each round, and return the result of all."""
    answers = None
    while True:
        try:
            calls = steps.send(answers)
        except StopIteration as done:
            return done.value
        answers = ask(calls)


@dataclass(frozen=True, slots=True)
class Unread:
    """Stands for an answer that cannot be used."""

    why: str


@dataclass(frozen=True, slots=True)
class CodeReduction:
    """Asks about documents and puts their answers together in code."""

    many: RecursiveMap
    way: Reduction
    query: str
    size: int
    on_error: str

    def value(self, pieces: Sequence[DocumentPiece]) -> Any:
        """Return what all documents say together. Raises for one without an answer, unless `on_error` is skip."""
        pieces = [piece for piece in pieces if len(piece.documents) != 1 or piece.part != ""]
        found = _drive(answer_documents(pieces, self, self.size), self._ask)
        states = []
        for number, value in sorted(found.items()):
            if not isinstance(value, Unread):
                states.append(self.way.map_piece(number, value))
            elif self.on_error == "raise":
                raise ValueError(f"the answer about piece {number + 1} {value.why}")
        return self.way.value(self.way.merge(states))

    def _ask(self, calls: Sequence[DocumentCall]) -> list[Any]:
        if not calls:
            return []
        several = any(call.kind == "each" for call in calls)
        on_error = "raise" if self.on_error == "raise" and not several else "return"
        answers = self.many(list(map(self._question, calls)), [call.part for call in calls], on_error)
        is_first = calls[0].kind in ("document", "each", "part")
        if is_first and not any(isinstance(answer, str) for answer in answers):
            raise RuntimeError(f"all {len(calls):,} pieces failed, the first with {answers[0]}")
        return [
            answer if call.kind == "each" else self._read(answer)
            for call, answer in zip(calls, answers, strict=True)
        ]

    def _question(self, call: DocumentCall) -> str:
        fields = self.way.fields
        match call.kind:
            case "each" if fields:
                return of_each(
                    self.query, call.names, f"<a JSON object with the fields: {', '.join(fields)}>"
                )
            case "each":
                return of_each(self.query, call.names)
            case "part":
                return field_prompt(of_a_document_part(self.query, in_fields=bool(fields)), fields)
            case "over parts":
                return field_prompt(of_its_parts(self.query), fields)
            case _:
                return field_prompt(self.query, fields)

    def _read(self, answer: Any) -> Any:
        """Return the answer about one document; an object where fields are wanted."""
        if not isinstance(answer, str):
            return Unread(f"failed: {answer}")
        if not self.way.fields:
            return answer
        found = next(find_json_objects(answer), None)
        return Unread(f"holds no JSON object: {answer[:200]!r}") if found is None else found

    def split(self, piece: DocumentPiece, answer: Any) -> dict[int, Any]:
        known = answers_by_id(answer, piece.names) if isinstance(answer, str) else {}
        found = {
            number: self._first_fitting(known.get(name, []))
            for number, name in zip(piece.documents, piece.names, strict=True)
        }
        return {number: value for number, value in found.items() if value is not None}

    def part_of(self, piece: DocumentPiece, number: int) -> Any:
        at = piece.documents.index(number)
        return piece.part[at : at + 1] if _text_of(piece.part[at]) else None

    def merge(self, answers: Sequence[Any]) -> Any:
        for at, answer in enumerate(answers, 1):
            if isinstance(answer, Unread):
                return Unread(f"part {at} of {len(answers)} {answer.why}")
        ways = dict(self.way.operations)
        return merge_parts(answers, ways) if self.way.fields else merge_texts(answers, ways.get("", ""))

    def text(self, answer: Any) -> str:
        return str(answer)

    def _first_fitting(self, readings: Sequence[Any]) -> Any:
        """Return the first reading with a wanted field. Where none are wanted, only the first is what was asked for: the others
        are the element around it."""
        if not self.way.fields:
            return next((reading for reading in readings[:1] if not says_nothing(reading)), None)
        return next(
            (
                reading
                for reading in readings
                if isinstance(reading, dict) and any(field in reading for field in self.way.fields)
            ),
            None,
        )
