"""Contexts: the long input as UTF-8 bytes and document offsets, and what a prompt may know of it.

A context is a text or a list of documents. Its bytes may live anywhere that speaks the buffer
protocol (bytes, a memory map, a numpy array in Ray's object store); nothing here copies them
except `text()` and `documents()`, which decode.

A **part** is how code in a REPL names what a sub-call shall read: a text of its own, or a piece
of the context the session already has, which then travels by reference.

An `InputSummary` says what a node of the recursion tree was given to read, for its records; never the text itself.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise
from typing import Any, TypeAlias

from rlm_ray.errors import InputError

SAMPLE_CHARS = 1_000
"""How much of the head of a context a prompt shows."""

Document: TypeAlias = "str | dict[str, str]"
"""A text, or `{"id": ..., "text": ...}`."""


INPUT_SAMPLE_CHARS = 200


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes `start` to `stop` of the session's context, read as one text."""

    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class DocumentRange:
    """Documents `start` to `stop` of the session's context, still as documents."""

    start: int
    stop: int


ContextPart: TypeAlias = "str | ByteRange | DocumentRange | list[Document]"


@dataclass(frozen=True, slots=True)
class ContextInfo:
    """All that a prompt may know of a context."""

    kind: str
    """`text` or `documents`."""
    chars: int
    documents: int
    """How many documents; 1 for a text."""
    with_ids: bool
    """Documents are `{"id", "text"}` mappings, not bare texts."""
    sample: str
    """The head of the text, or of the first document."""

    @property
    def fits_in_prompt(self) -> bool:
        """Tell whether the prompt's sample is the whole context: there is nothing left to look for."""
        return self.documents <= 1 and len(self.sample) >= self.chars


@dataclass(frozen=True, slots=True)
class Context:
    """A text or documents as UTF-8 bytes."""

    data: Any
    """A bytes-like object; documents stand one after another without a separator."""
    info: ContextInfo
    offsets: array[int] | None = None
    """Byte offsets of the documents, one more than there are; None for a text."""
    ids: tuple[str, ...] | None = None
    key: str = ""
    """Names the content across processes, so that it is decoded once in each; empty: private."""
    root_offset: int | None = None
    """Where its first byte stands in the root's context; None for a text of its own."""
    origin: str = ""
    """What it was read from and what could not be, in one line, for records; empty where it was no files."""

    def __repr__(self) -> str:
        many = f"{self.info.documents:,} documents, " if self.offsets is not None else ""
        return f"Context({many}{self.info.chars:,} characters)"

    @property
    def nbytes(self) -> int:
        return memoryview(self.data).nbytes

    def text(self) -> str:
        """Return the whole context as one text; documents are joined by blank lines. Copies."""
        if self.offsets is None:
            return _decode(self.data)
        return "\n\n".join(
            document_header(document["id"]) + document["text"] if isinstance(document, dict) else document
            for document in self.documents()
        )

    def documents(self) -> list[Document]:
        """Return the documents as the REPL shows them. Copies."""
        view = memoryview(self.data)
        bounds = self.offsets if self.offsets is not None else array("q", (0, len(view)))
        texts = [_decode(view[a:b]) for a, b in pairwise(bounds)]
        if self.ids is None:
            return list(texts)
        return [{"id": name, "text": text} for name, text in zip(self.ids, texts, strict=True)]

    def fingerprint(self) -> str:
        """Names the content, the same in every process. Reads all of it."""
        digest = hashlib.blake2b(memoryview(self.data).cast("B"), digest_size=16)
        if self.offsets is not None:
            digest.update(repr((self.offsets.tolist(), self.ids)).encode())
        return digest.hexdigest()

    def slice(self, part: ContextPart) -> Context:
        """Return the context of a sub-call. A `ByteRange` or `DocumentRange` shares these bytes; anything else is new."""
        match part:
            case ByteRange(start, stop):
                return self._text(start, stop)
            case DocumentRange(start, stop):
                return self._documents(start, stop)
            case _:
                return make_context(part)

    def _text(self, start: int, stop: int) -> Context:
        if self.offsets is None and (start, stop) == (0, self.nbytes):
            return self
        data = memoryview(self.data)[start:stop]
        info = _text_info(data, ascii_only=self._is_ascii)
        return Context(data, info, key=self._key_of(start, stop, "t"), root_offset=self.root_offset_of(start))

    @property
    def _is_ascii(self) -> bool:
        return self.info.chars == self.nbytes

    def _documents(self, start: int, stop: int) -> Context:
        if self.offsets is None:
            raise InputError("Docs", "this context is one text, it has no documents")
        first, last = self.offsets[start], self.offsets[stop]
        if (start, stop) == (0, len(self.offsets) - 1):
            return self
        data = memoryview(self.data)[first:last]
        offsets = array("q", (offset - first for offset in self.offsets[start : stop + 1]))
        ids = self.ids[start:stop] if self.ids is not None else None
        first_document = data[: offsets[1]] if stop > start else data[:0]
        chars = _count_chars(data, ascii_only=self._is_ascii)
        info = ContextInfo("documents", chars, stop - start, ids is not None, _head(first_document))
        return Context(data, info, offsets, ids, self._key_of(start, stop, "d"), self.root_offset_of(first))

    def root_offset_of(self, start: int) -> int | None:
        """Return where this byte stands in the root's context."""
        return None if self.root_offset is None else self.root_offset + start

    def _key_of(self, start: int, stop: int, kind: str) -> str:
        return f"{self.key}/{kind}{start}-{stop}" if self.key else ""


def document_header(name: str) -> str:
    """Return what stands above a document that has an id, where it is read as a text."""
    return f"[{name}]\n"


def make_context(source: Any, *, key: str = "") -> Context:
    """Make a `Context` of bytes (UTF-8), a text, or a list of texts or `{"id", "text"}` documents.

    Raises `InputError` for anything else, and for bytes that are not UTF-8 with the offset.
    """
    if isinstance(source, Context):
        return source
    if isinstance(source, str):
        data = encoded(source, "context")
        return Context(data, ContextInfo("text", len(source), 1, False, source[:SAMPLE_CHARS]), key=key)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _from_bytes(source, key)
    if isinstance(source, Sequence):
        return join_documents(source, key=key)
    raise InputError(
        "context",
        f"a context is a str, UTF-8 bytes, or a list of texts or of {{'id', 'text'}} documents, "
        f"not {type(source).__name__}",
    )


def encoded(text: str, what: str) -> bytes:
    """Return the text in UTF-8. Raises `InputError` where it holds what no provider can be sent."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            what,
            f"holds half of a surrogate pair ({text[error.start]!a} at character {error.start:,}), which no UTF-8 can hold; "
            "read it with errors='replace', or take it out",
        ) from error


def _from_bytes(source: bytes | bytearray | memoryview, key: str) -> Context:
    try:
        text = _decode(source, "strict")
    except UnicodeDecodeError as error:
        raise InputError(
            "context",
            f"the bytes are not UTF-8 (byte 0x{error.object[error.start]:02x} at offset {error.start}); "
            "decode them to str first",
        ) from error
    return Context(source, ContextInfo("text", len(text), 1, False, text[:SAMPLE_CHARS]), key=key)


def join_documents(source: Iterable[Any], *, key: str = "") -> Context:
    """Make a `Context` of texts or documents as `make_context` does, which may come one by one: each is dropped once its bytes
    are taken, so that a corpus is in memory once."""
    ids: list[str] = []
    offsets, data = array("q", [0]), BytesIO()
    chars, sample = 0, ""
    for number, item in enumerate(source):
        name, text = _document(item, number)
        data.write(encoded(text, f"document {number}"))
        offsets.append(data.tell())
        chars, sample = chars + len(text), sample if number else text[:SAMPLE_CHARS]
        if name is not None:
            ids.append(name)
    count = len(offsets) - 1
    if ids and len(ids) != count:
        raise InputError("context", "either all documents or none must have an id")
    info = ContextInfo("documents", chars, count, bool(ids), sample)
    return Context(data.getvalue(), info, offsets, tuple(ids) if ids else None, key)


def _document(item: Any, number: int) -> tuple[str | None, str]:
    if isinstance(item, str):
        return None, item
    if isinstance(item, dict) and isinstance(item.get("text"), str) and "id" in item:
        name = str(item["id"])
        encoded(name, f"the id of document {number}")
        return name, item["text"]
    raise InputError(
        "context", f"document {number} is neither a str nor a mapping with 'id' and 'text' (a str)"
    )


def _text_info(data: memoryview, *, ascii_only: bool) -> ContextInfo:
    return ContextInfo("text", _count_chars(data, ascii_only=ascii_only), 1, False, _head(data))


def _head(data: memoryview) -> str:
    return _decode(data[: 4 * SAMPLE_CHARS], "ignore")[:SAMPLE_CHARS]


def _count_chars(data: memoryview, *, ascii_only: bool) -> int:
    """Count the characters in UTF-8 bytes; where all of them are ASCII, nothing has to be decoded for that."""
    return data.nbytes if ascii_only else len(_decode(data))


def _decode(data: Any, errors: str = "replace") -> str:
    return str(memoryview(data), "utf-8", errors)


@dataclass(frozen=True, slots=True)
class InputSummary:
    """What a node was given to read."""

    kind: str = "text"
    """`text` or `documents`."""
    chars: int = 0
    documents: int = 1
    start: int | None = None
    """Where it begins in the root's context, in bytes; None where it is a text of its own."""
    stop: int | None = None
    sample: str = ""
    """Its head."""
    origin: str = ""
    """Of the root: what it was read from and what could not be, in one line."""


def summarize(context: Context) -> InputSummary:
    """Return what a node reads that gets the whole of a context."""
    info, origin = context.info, context.root_offset
    stop = None if origin is None else origin + context.nbytes
    head = info.sample[:INPUT_SAMPLE_CHARS]
    return InputSummary(info.kind, info.chars, info.documents, origin, stop, head, context.origin)


def summarize_part(part: ContextPart, context: Context | None) -> InputSummary:
    """Return what a sub-call reads: a piece of its session's context, or a text of its own.

    Of a piece, `chars` are bytes where the context has characters of several bytes; counting would mean decoding.
    """
    match part:
        case ByteRange(start, stop):
            assert context is not None
            return _piece("text", 1, start, stop, context)
        case DocumentRange(start, stop):
            assert context is not None
            offsets = context.offsets
            assert offsets is not None
            return _piece("documents", stop - start, offsets[start], offsets[stop], context)
        case str():
            return InputSummary("text", len(part), sample=part[:INPUT_SAMPLE_CHARS])
        case _:
            texts = [item if isinstance(item, str) else item["text"] for item in part]
            head = texts[0][:INPUT_SAMPLE_CHARS] if texts else ""
            return InputSummary("documents", sum(map(len, texts)), len(texts), sample=head)


def _piece(kind: str, documents: int, start: int, stop: int, context: Context) -> InputSummary:
    head = bytes(memoryview(context.data)[start : min(stop, start + INPUT_SAMPLE_CHARS)])
    bounds = (context.root_offset_of(start), context.root_offset_of(stop))
    return InputSummary(kind, stop - start, documents, *bounds, head.decode("utf-8", "ignore"))
