"""`map_reduce` of the REPL: the same question of every piece of the context, and the answers put together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

from rlm_ray.core.boundaries import stretches
from rlm_ray.core.context import Document, heading
from rlm_ray.core.json_objects import objects_in
from rlm_ray.core.map_prompts import of_a_part, of_fields, says_nothing, together
from rlm_ray.core.prompts import PIECE_CHARS, bounded
from rlm_ray.core.reduce import Reduction, reduction
from rlm_ray.core.reduce_tree import FEWEST, groups
from rlm_ray.sandbox.documents import Hit
from rlm_ray.sandbox.parts import Parts

_BETWEEN_CHARS = 9
"""Between documents that are read together, with room to spare."""

Many: TypeAlias = "Callable[[str, list[Any], Any], list[Any]]"
"""`recursive_map`."""
_Said: TypeAlias = "tuple[str, str]"
"""An answer under the numbers of the pieces it is about."""


class MapReduce:
    """Made for one session's context."""

    def __init__(self, many: Many, parts: Parts) -> None:
        self._many = many
        self._parts = parts

    def names(self) -> dict[str, Any]:
        return {"map_reduce": self.map_reduce}

    def map_reduce(
        self,
        query: str,
        contexts: Any = None,
        reduce: Any = "model",
        size: int = PIECE_CHARS,
        on_error: str = "raise",
    ) -> Any:
        """The answer of a model (reduce="model"), or what `collect`, `count`, `union`, `sum` make of all answers."""
        if on_error not in ("raise", "skip"):
            raise ValueError(f"on_error must be 'raise' or 'skip', not {on_error!r}")
        way = None if reduce == "model" else reduction(reduce)
        question = of_a_part(query) if way is None else of_fields(query, way.fields)
        pieces = list(self._pieces(contexts, size))
        answers = self._many(question, pieces, "raise" if on_error == "raise" else "return")
        said = [(str(at), answer) for at, answer in enumerate(answers, 1) if isinstance(answer, str)]
        if pieces and not said:
            raise RuntimeError(f"all {len(pieces):,} pieces failed, the first with {answers[0]}")
        if way is not None:
            return _in_code(way, said, on_error)
        return self._by_model(query, said, size)

    def _pieces(self, contexts: Any, size: int) -> Iterator[Any]:
        """By reference where they are of the context: slices in order, documents, or stretches of documents."""
        whole = contexts is None or contexts is self._parts.content
        source = self._parts.whole() if whole else contexts
        if isinstance(source, str):
            yield from (source[start:stop] for start, stop in stretches(source, size))
        elif whole:
            yield from _packed(source, size)
        else:
            for item in contexts:
                text = _text_of(item)
                yield from self._pieces(text, size) if text is not None and len(text) > size else [item]

    def _by_model(self, query: str, said: Sequence[_Said], size: int) -> str:
        speaking = [each for each in said if not says_nothing(each[1])] or list(said[:1])
        while len(speaking) > 1:
            speaking = self._level(query, speaking, size)
        return speaking[0][1] if speaking else ""

    def _level(self, query: str, said: Sequence[_Said], size: int) -> list[_Said]:
        """Put together group by group; an answer alone stays as it is."""
        level = [said[group.start : group.stop] for group in groups([len(text) for _, text in said], size)]
        most = size // FEWEST
        parts = [
            [{"id": label, "text": bounded(text, most)} for label, text in group]
            for group in level
            if len(group) > 1
        ]
        answers = iter(self._many(together(query), parts, "raise"))
        return [(_label(group), next(answers)) if len(group) > 1 else group[0] for group in level]


def _label(group: Sequence[_Said]) -> str:
    return f"{group[0][0].partition('-')[0]}-{group[-1][0].rpartition('-')[2]}"


def _in_code(way: Reduction, said: Sequence[_Said], on_error: str) -> Any:
    states = []
    for at, answer in said:
        value = next(objects_in(answer), None) if way.fields else answer
        if value is not None:
            states.append(way.lift(int(at), value))
        elif on_error == "raise":
            raise ValueError(f"the answer about piece {at} holds no JSON object: {answer[:200]!r}")
    return way.value(way.merge(states))


def _text_of(item: Any) -> str | None:
    """Of a text or a document."""
    text = item.get("text") if type(item) is dict else item
    return text if isinstance(text, str) else None


def _packed(documents: list[Document], size: int) -> Iterator[Any]:
    """Small neighbours together, large documents in stretches."""
    first = chars = 0
    for number, document in enumerate(documents):
        text = document if isinstance(document, str) else document["text"]
        alone = len(text) + (0 if isinstance(document, str) else len(heading(document["id"])))
        wanted = alone + _BETWEEN_CHARS
        if number > first and chars + wanted > size:
            yield documents[first:number]
            first, chars = number, 0
        chars += wanted
        if alone > size:  # a stretch is read without its name
            yield from (Hit(number, stretch, {"document": number}) for stretch in stretches(text, size))
            first, chars = number + 1, 0
    if first < len(documents):
        yield documents[first:]
