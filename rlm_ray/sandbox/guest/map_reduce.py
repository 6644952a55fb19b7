"""`map_reduce` of the REPL: the same question of every piece of the context, and the answers put together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

from rlm_ray.core.chunking import text_chunks
from rlm_ray.core.context import Document, document_header
from rlm_ray.core.document_answers import MAX_DOCUMENTS_PER_CALL, unique_ids
from rlm_ray.core.map_reduce_prompts import is_empty_answer, map_prompt, reduce_prompt
from rlm_ray.core.prompts import DEFAULT_LEAF_CHARS, truncate_middle
from rlm_ray.core.reduce import MIN_GROUP, parse_reduction, reduce_groups
from rlm_ray.sandbox.guest.context_parts import ContextReferences
from rlm_ray.sandbox.guest.map_by_document import CodeReduction, Piece
from rlm_ray.sandbox.guest.search import SearchHit

_BETWEEN_CHARS = 9
"""Between documents that are read together, with room to spare."""

RecursiveMap: TypeAlias = "Callable[[str, list[Any], Any], list[Any]]"
"""`recursive_map`."""
_LabelledAnswer: TypeAlias = "tuple[str, str]"
"""An answer under the numbers of the pieces it is about."""


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
        """The answer of a model (reduce="model"), or what `collect`, `count`, `union`, `sum` make of all answers."""
        if on_error not in ("raise", "skip"):
            raise ValueError(f"on_error must be 'raise' or 'skip', not {on_error!r}")
        if reduce != "model":
            pieces = list(self._split(contexts, size, MAX_DOCUMENTS_PER_CALL))
            return CodeReduction(self._many, parse_reduction(reduce), query, size, on_error).value(pieces)
        parts = [piece.part for piece in self._split(contexts, size)]
        answers = self._many(map_prompt(query), parts, "raise" if on_error == "raise" else "return")
        said = [(str(at), answer) for at, answer in enumerate(answers, 1) if isinstance(answer, str)]
        if parts and not said:
            raise RuntimeError(f"all {len(parts):,} pieces failed, the first with {answers[0]}")
        return self._reduce_with_model(query, said, size)

    def _split(self, contexts: Any, size: int, max_documents: int | None = None) -> Iterator[Piece]:
        """By reference where they are of the context: slices in order, documents, or stretches of documents."""
        whole = contexts is None or contexts is self._parts.content
        source = self._parts.original() if whole else contexts
        if isinstance(source, str):
            found = (source[start:stop] for start, stop in text_chunks(source, size))
            yield from (Piece(part, (number,)) for number, part in enumerate(found))
        elif whole:
            yield from _pack_documents(source, size, max_documents)
        else:
            for number, item in enumerate(contexts):
                text = _text_of(item)
                if text is not None and len(text) > size:
                    found = (text[start:stop] for start, stop in text_chunks(text, size))
                    yield from (Piece(part, (number,), is_stretch=True) for part in found)
                else:
                    yield Piece(item, (number,))

    def _reduce_with_model(self, query: str, said: Sequence[_LabelledAnswer], size: int) -> str:
        speaking = [each for each in said if not is_empty_answer(each[1])] or list(said[:1])
        while len(speaking) > 1:
            speaking = self._reduce_level(query, speaking, size)
        return speaking[0][1] if speaking else ""

    def _reduce_level(self, query: str, said: Sequence[_LabelledAnswer], size: int) -> list[_LabelledAnswer]:
        """Put together group by group; an answer alone stays as it is."""
        level = [
            said[group.start : group.stop] for group in reduce_groups([len(text) for _, text in said], size)
        ]
        most = size // MIN_GROUP
        parts = [
            [{"id": label, "text": truncate_middle(text, most)} for label, text in group]
            for group in level
            if len(group) > 1
        ]
        answers = iter(self._many(reduce_prompt(query), parts, "raise"))
        return [(_label(group), next(answers)) if len(group) > 1 else group[0] for group in level]


def _label(group: Sequence[_LabelledAnswer]) -> str:
    return f"{group[0][0].partition('-')[0]}-{group[-1][0].rpartition('-')[2]}"


def _text_of(item: Any) -> str | None:
    """Of a text or a document."""
    text = item.get("text") if type(item) is dict else item
    return text if isinstance(text, str) else None


def _pack_documents(documents: list[Document], size: int, max_documents: int | None) -> Iterator[Piece]:
    """Small neighbours together, large documents in stretches."""
    labels = unique_ids(
        [str(number) if isinstance(each, str) else each["id"] for number, each in enumerate(documents)]
    )
    first = chars = 0

    def together(stop: int) -> Piece:
        found, named = documents[first:stop], labels[first:stop]
        if len(found) > 1 and any(
            isinstance(each, str) or each["id"] != name for each, name in zip(found, named, strict=True)
        ):
            found = [
                {"id": name, "text": _text_of(each) or ""} for each, name in zip(found, named, strict=True)
            ]
        return Piece(found, tuple(range(first, stop)), named)

    for number, document in enumerate(documents):
        text = document if isinstance(document, str) else document["text"]
        alone = len(text) + (0 if isinstance(document, str) else len(document_header(document["id"])))
        wanted = len(text) + len(document_header(labels[number])) + _BETWEEN_CHARS
        if number > first and (chars + wanted > size or number - first == max_documents):
            yield together(number)
            first, chars = number, 0
        chars += wanted
        if alone > size:  # a stretch is read without its name
            for stretch in text_chunks(text, size):
                yield Piece(SearchHit(number, stretch, {"document": number}), (number,), is_stretch=True)
            first, chars = number + 1, 0
    if first < len(documents):
        yield together(len(documents))
