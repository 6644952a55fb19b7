"""The pieces of a question read into one context."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from rlm_ray.core.context import Context, Document, make_context
from rlm_ray.errors import InputError
from rlm_ray.serve.fetching import fetch
from rlm_ray.serve.files import FileStore
from rlm_ray.serve.question import FileData, FileRef, Named, Source, Text, Uri
from rlm_ray.serve.uris import Location, allowed_uris, locate
from rlm_ray.sources import decode


@dataclass(frozen=True, slots=True)
class Loader:
    """Blocking: call it from a thread."""

    files: FileStore
    context_uris: tuple[str, ...]
    """Folders whose URIs may be read."""
    most_bytes: int

    def check_uri(self, uri: str) -> tuple[Location, Location]:
        """What a URI leads to and the allowed folder it lies in. Raises `InputError` where there is none."""
        location = locate(uri)
        prefix = allowed_uris(self.context_uris).prefix_of(location)
        if prefix is None:
            raise InputError("context_uri", "is not among the URIs this service may read")
        return location, prefix

    def allows(self, uri: str) -> bool:
        """No climbing out of what is allowed."""
        try:
            self.check_uri(uri)
        except InputError:
            return False
        return True

    def load(self, key: str, pieces: Sequence[Named], until: float = math.inf) -> Context:
        """One piece is a text, several are documents. Raises `InputError`, also where it is not read `until` then,
        a time of `time.monotonic()`."""
        match pieces:
            case []:
                return make_context("")
            case [Named(name, source)]:
                return make_context(decode(self._bytes(key, source, until), name))
        return make_context(self._documents(key, pieces, until))

    def _documents(self, key: str, pieces: Sequence[Named], until: float) -> list[Document]:
        counts: dict[str, itertools.count[int]] = {}
        documents: list[Document] = []
        for piece in pieces:
            number = next(counts.setdefault(piece.name, itertools.count(1)))
            name = piece.name if number == 1 else f"{piece.name} ({number})"
            documents.append({"id": name, "text": decode(self._bytes(key, piece.source, until), name)})
        return documents

    def _bytes(self, key: str, source: Source, until: float) -> bytes:
        match source:
            case Text(text):
                return text.encode("utf-8", "replace")
            case FileData(_, data):
                return data
            case FileRef(file_id):
                return self.files.read(key, file_id)
            case Uri(uri):
                return fetch(*self.check_uri(uri), self.most_bytes, until)
