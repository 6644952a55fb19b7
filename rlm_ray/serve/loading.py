"""The pieces of a question read into one context."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from rlm_ray.core.context import Context, Document, make_context
from rlm_ray.errors import InputError
from rlm_ray.journal.storage import errors_of
from rlm_ray.serve.files import FileStore, TooLargeError
from rlm_ray.serve.question import FileData, FileRef, Named, Source, Text, Uri
from rlm_ray.sources import decode


@dataclass(frozen=True, slots=True)
class Loader:
    """Blocking: call it from a thread."""

    files: FileStore
    context_uris: tuple[str, ...]
    """How URIs begin that may be read."""
    most_bytes: int

    def allows(self, uri: str) -> bool:
        """No climbing out of what is allowed."""
        plain = unquote(uri)
        climbs = ".." in plain.replace("\\", "/").split("/") or "::" in plain
        return not climbs and any(plain.startswith(prefix) for prefix in self.context_uris)

    def load(self, key: str, pieces: Sequence[Named]) -> Context:
        """One piece is a text, several are documents. Raises `InputError`."""
        match pieces:
            case []:
                return make_context("")
            case [Named(name, source)]:
                return make_context(decode(self._bytes(key, source), name))
        return make_context(self._documents(key, pieces))

    def _documents(self, key: str, pieces: Sequence[Named]) -> list[Document]:
        counts: dict[str, itertools.count[int]] = {}
        documents: list[Document] = []
        for piece in pieces:
            number = next(counts.setdefault(piece.name, itertools.count(1)))
            name = piece.name if number == 1 else f"{piece.name} ({number})"
            documents.append({"id": name, "text": decode(self._bytes(key, piece.source), name)})
        return documents

    def _bytes(self, key: str, source: Source) -> bytes:
        match source:
            case Text(text):
                return text.encode("utf-8", "replace")
            case FileData(_, data):
                return data
            case FileRef(file_id):
                return self.files.read(key, file_id)
            case Uri(uri):
                return self._fetched(uri)

    def _fetched(self, uri: str) -> bytes:
        import fsspec

        if not self.allows(uri):
            raise InputError("context_uri", f"{uri!r} is not among the URIs this service may read")
        with errors_of(uri), fsspec.open(uri, "rb") as source:
            data: bytes = source.read(self.most_bytes + 1)
        if len(data) > self.most_bytes:
            raise TooLargeError("context_uri", f"names more than the {self.most_bytes:,} bytes allowed here")
        return data
