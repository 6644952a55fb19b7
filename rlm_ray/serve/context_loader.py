"""The pieces of a question read into one context.

Contexts are read in threads of their own, a few at a time for each key, each within a deadline.

A server or a storage that stalls costs the one who named it: its key's places, until the threads come back.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

from rlm_ray.core.context import Context, Document, make_context
from rlm_ray.documents.converter import ConversionLimits, DocumentReader, DocumentText
from rlm_ray.documents.files import ReadingReport
from rlm_ray.errors import InputError
from rlm_ray.serve.context_uris import Location, allowed_uris, locate
from rlm_ray.serve.fetching import fetch
from rlm_ray.serve.file_store import FileStore, PayloadTooLargeError
from rlm_ray.serve.prompt import FileData, FileRef, NamedContext, Source, Text, Uri


@dataclass(frozen=True, slots=True)
class ContextLoader:
    """Reads contexts. Blocking: call it from a thread."""

    files: FileStore
    context_uris: tuple[str, ...]
    """Folders whose URIs may be read."""
    max_bytes: int

    def check_uri(self, uri: str) -> tuple[Location, Location]:
        """Return where a URI leads and the allowed folder it lies in. Raises `InputError` where there is none."""
        location = locate(uri)
        prefix = allowed_uris(self.context_uris).prefix_of(location)
        if prefix is None:
            raise InputError("context_uri", "is not among the URIs this service may read")
        return location, prefix

    def allows(self, uri: str) -> bool:
        """Tell whether a URI lies in an allowed folder; there is no climbing out of it."""
        try:
            self.check_uri(uri)
        except InputError:
            return False
        return True

    def load(self, key: str, pieces: Sequence[NamedContext], until: float = math.inf) -> Context:
        """Read a context: one piece is a text, several are documents. Of several, one that cannot be read says so in its place.

        Raises `InputError`, also where it is not read `until` then, a time of `time.monotonic()`."""
        if not pieces:
            return make_context("")
        report = ReadingReport()
        limits = ConversionLimits()
        left_s = max(min(limits.timeout_s, until - time.monotonic()), 0.1)
        with DocumentReader(limits=replace(limits, timeout_s=left_s)) as reader:
            if len(pieces) == 1:
                (piece,) = pieces
                read = self._read(reader, key, piece.name, piece, until)
                _note(report, piece, piece.name, read)
                context = make_context(read.text)
            else:
                context = make_context(self._documents(reader, key, pieces, until, report))
        return replace(context, origin=report.line() if report.kinds or report.unread else "")

    def _documents(
        self,
        reader: DocumentReader,
        key: str,
        pieces: Sequence[NamedContext],
        until: float,
        report: ReadingReport,
    ) -> list[Document]:
        counts: dict[str, itertools.count[int]] = {}
        documents: list[Document] = []
        for piece in pieces:
            known = self._name(key, piece)
            number = next(counts.setdefault(known, itertools.count(1)))
            name = known if number == 1 else f"{known} ({number})"
            try:
                read = self._read(reader, key, name, piece, until)
            except InputError as error:
                if not isinstance(piece.source, FileRef | FileData) or isinstance(
                    error, PayloadTooLargeError
                ):
                    raise
                report.unread.append((name, error.why))
                documents.append({"id": name, "text": f"[this file was not read: it {error.why}]"})
            else:
                _note(report, piece, name, read)
                documents.append({"id": name, "text": read.text})
        if len(report.unread) == len(pieces):
            raise InputError(*report.unread[0])
        return documents

    def _read(
        self, reader: DocumentReader, key: str, name: str, piece: NamedContext, until: float
    ) -> DocumentText:
        match piece.source:
            case Text(text):
                return DocumentText(text, "text")
            case FileRef():
                suffix_of = self._name(key, piece)
            case FileData(given, _):
                suffix_of = given
            case Uri(uri):
                suffix_of = uri.partition("?")[0]
        return reader.read(self._bytes(key, piece.source, until), name, suffix_of=suffix_of or "file")

    def _name(self, key: str, piece: NamedContext) -> str:
        """Return what its document is called: an uploaded file by the name it came with."""
        if not isinstance(piece.source, FileRef):
            return piece.name
        stored = self.files.find(key, piece.source.file_id, 0.0)  # whether it has expired was asked before
        return piece.name if stored is None else stored.name

    def _bytes(self, key: str, source: Source, until: float) -> bytes:
        match source:
            case Text(text):
                return text.encode("utf-8", "replace")
            case FileData(_, data):
                return data
            case FileRef(file_id):
                return self.files.read(key, file_id)
            case Uri(uri):
                return fetch(*self.check_uri(uri), self.max_bytes, until)


def _note(report: ReadingReport, piece: NamedContext, name: str, read: DocumentText) -> None:
    """Put on record what was read of files."""
    if not isinstance(piece.source, Text):
        report.add(name, read)


MAX_THREADS = 64

T = TypeVar("T")


class LoadExecutor:
    """Runs the loads of one replica in threads, a few at a time for each key, each within a deadline."""

    def __init__(self, max_per_key: int, timeout_s: float, max_threads: int = MAX_THREADS) -> None:
        self._max_per_key, self._timeout_s = max_per_key, timeout_s
        self._pool = ThreadPoolExecutor(max_threads, "rlm_ray-load")
        self._places: dict[str, asyncio.Semaphore] = {}

    async def run(self, key: str, load: Callable[[float], T]) -> T:
        """Run `load(until)` in a thread and return its result; `until` is the deadline of `time.monotonic()`.

        Raises `InputError` at the deadline. The thread keeps its place until it returns."""
        until = time.monotonic() + self._timeout_s
        places = self._places.setdefault(key, asyncio.Semaphore(self._max_per_key))
        try:
            async with asyncio.timeout(self._timeout_s):
                await places.acquire()
                work = asyncio.get_running_loop().run_in_executor(self._pool, load, until)
                work.add_done_callback(lambda done: _give_back(places, done))
                return await asyncio.shield(work)
        except TimeoutError:
            why = f"was not read within {self._timeout_s:g} s; try again, or upload it as a file"
            raise InputError("context", why) from None


def _give_back(places: asyncio.Semaphore, done: asyncio.Future[T]) -> None:
    places.release()
    if not done.cancelled():
        done.exception()  # nobody may wait for it any more
