"""How a value that code hands to a sub-call travels: pieces of the context by reference.

Only what can be told cheaply is: the context itself, its documents by identity, and large slices
of a text that stand where the last slice ended or a search for their first characters finds them.
Everything else travels as text.
"""

from __future__ import annotations

import json
from array import array
from typing import Any, TypeAlias

from rlm_ray.core.context import ByteRange, ContextPart, Document, DocumentRange
from rlm_ray.sandbox.guest.search import DocumentSearch, SearchHit

Content: TypeAlias = "str | list[Document]"
"""The context as the REPL shows it."""

_SLICE_CHARS = 65_536
_DOCUMENT_BYTES = 4_096
_PROBE_CHARS = 256
_STEP_CHARS = 1 << 20


def to_text(value: object) -> str:
    """Return any value as a text: a str as it is, lists and dicts as JSON where that is possible."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, (dict, list, tuple)):
        try:
            return json.dumps(value, ensure_ascii=False)
        except (TypeError, ValueError, RecursionError):
            return str(value)
    return str(value)


class TextReferences:
    """Pieces of a context that is one text."""

    def __init__(self, context: str) -> None:
        self.content = context
        self._next = 0
        """Where the last piece ended, in characters."""
        self._known = (0, 0)
        """A position in characters and the same in bytes."""

    def original(self) -> Content:
        """Return the context as it was given."""
        return self.content

    def texts(self) -> tuple[str, ...]:
        return (self.content,)

    def to_part(self, value: object) -> ContextPart:
        if value is self.content:
            return ByteRange(0, self._bytes_before(len(self.content)))
        if type(value) is str and len(value) >= _SLICE_CHARS:
            start = self._find(value)
            if start >= 0:
                self._next = start + len(value)
                return ByteRange(self._bytes_before(start), self._bytes_before(self._next))
        return by_value(value)

    def _find(self, piece: str) -> int:
        context, probe = self.content, piece[:_PROBE_CHARS]
        if context.startswith(piece, self._next):
            return self._next
        # Overlapping chunks begin a little before the last one ended; any other slice anywhere.
        near = context.find(probe, max(0, self._next - len(piece)), self._next + len(piece))
        for start in (near, context.find(probe)):
            if start >= 0 and context.startswith(piece, start):
                return start
        return -1

    def _bytes_before(self, position: int) -> int:
        if self.content.isascii():
            return position
        chars, size = self._known if self._known[0] <= position else (0, 0)
        while chars < position:
            stop = min(chars + _STEP_CHARS, position)
            size += len(self.content[chars:stop].encode("utf-8", "replace"))
            chars = stop
        self._known = (chars, size)
        return size


class DocumentReferences:
    """Pieces of a context that is a list of documents.

    Made in the zygote where it can be: looking at each document once more in every child would
    write its reference count, and so copy the page it stands on.
    """

    def __init__(self, documents: list[Document]) -> None:
        self.content = documents
        self._documents = tuple(documents)
        self._texts = tuple(d if isinstance(d, str) else d["text"] for d in documents)
        self._ids = tuple(None if isinstance(d, str) else d["id"] for d in documents)
        self._numbers: dict[int, int] = {}
        """`id()` of a document's text → its number; the texts are kept, so an id means one text."""
        self._offsets = array("q", [0])
        for number, text in enumerate(self._texts):
            self._numbers.setdefault(id(text), number)
            self._offsets.append(self._offsets[-1] + _bytes(text))

    def to_part(self, value: object) -> ContextPart:
        if isinstance(value, list) and value:
            return self._list([self._resolve_hit(item) for item in value])
        if type(value) is SearchHit:
            return self._part_of_hit(value)
        number = self._number(value)
        if number is None:
            return by_value(value)
        start, stop = self._offsets[number], self._offsets[number + 1]
        return ByteRange(start, stop) if stop - start >= _DOCUMENT_BYTES else self._texts[number]

    def original(self) -> Content:
        """Return the context as it was given, whatever code has done to the list since."""
        return list(self._documents)

    def texts(self) -> tuple[str, ...]:
        return self._texts

    def number_of(self, document: object) -> int | None:
        """Return the number of a document given by its id, its number, a hit, or itself; None where there is none."""
        if type(document) is SearchHit:
            return document.number
        if isinstance(document, int) and not isinstance(document, bool):
            return document if 0 <= document < len(self._texts) else None
        name = document.get("id") if isinstance(document, dict) else document
        if isinstance(name, str) and name in self._ids:
            return self._ids.index(name)
        return self._number(document)

    def finder(self) -> DocumentSearch:
        """Return what looks through the documents as they were given."""
        return DocumentSearch(self._documents, self._texts)

    def restore(self) -> None:
        """Give the list back the documents it had, as the objects they were."""
        self.content[:] = self._documents

    def was_modified(self) -> bool:
        return len(self.content) != len(self._documents)

    def _part_of_hit(self, hit: SearchHit) -> ContextPart:
        if hit.stretch is None:
            return self.to_part(self._texts[hit.number])
        text, base = self._texts[hit.number], self._offsets[hit.number]
        start = base + _bytes(text[: hit.stretch[0]])
        return ByteRange(start, start + _bytes(text[slice(*hit.stretch)]))

    def _resolve_hit(self, item: Any) -> Any:
        """Resolve a hit: among documents, what was found stands for its document, or the stretch of it."""
        if type(item) is not SearchHit:
            return item
        document = self._documents[item.number]
        if item.stretch is None:
            return document
        text = self._texts[item.number][slice(*item.stretch)]
        return text if isinstance(document, str) else {"id": document["id"], "text": text}

    def _list(self, values: list[Any]) -> ContextPart:
        first = self._number(values[0])
        if first is not None and all(
            number < len(self._texts) and self._is_unchanged(value, number)
            for number, value in enumerate(values, first)
        ):
            return DocumentRange(first, first + len(values))
        return by_value(values)

    def _number(self, value: object) -> int | None:
        text = value.get("text") if type(value) is dict else value
        return self._numbers.get(id(text)) if type(text) is str else None

    def _is_unchanged(self, value: object, number: int) -> bool:
        """Tell whether it is the document itself, not one that was changed since."""
        if type(value) is dict:
            return value.get("text") is self._texts[number] and value.get("id") == self._ids[number]
        return value is self._texts[number] and self._ids[number] is None


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


ContextReferences: TypeAlias = "TextReferences | DocumentReferences"


def parts_of(content: Content) -> ContextReferences:
    return TextReferences(content) if isinstance(content, str) else DocumentReferences(content)


def by_value(value: object) -> ContextPart:
    """Return a value that is not a piece of the context as it travels: documents stay documents, all else is a text."""
    if isinstance(value, (list, tuple)) and value:
        if all(type(item) is str for item in value):
            return list(value)
        if all(_is_document(item) for item in value):
            return [{"id": to_text(item["id"]), "text": item["text"]} for item in value]
    if _is_document(value):
        return str(value["text"])  # type: ignore[index]
    return to_text(value)


def _is_document(value: object) -> bool:
    return type(value) is dict and "id" in value and type(value.get("text")) is str and len(value) == 2
