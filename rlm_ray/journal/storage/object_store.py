"""The files of a run in an object store, which knows neither appending nor locks:

    <run_dir>/<run_id>/journal/00000001.jsonl   a segment: written once, whole, and never changed
                       lock                     who writes, for those who are refused
                       context.bin ...          blobs

The journal is its segments in order. A segment is created only where none of that number is, so of two writers one
finds its number taken and is refused: nothing is mixed or lost, also if a dead writer was not quite dead. Opening takes
the next number with an empty segment, which shuts the writer before out.

A storage without conditions is asked before whether the segment exists; a moment is left unguarded then.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

from rlm_ray.errors import JournalError
from rlm_ray.journal.storage.base import Writer, WriterIdentity, check_lines, map_storage_errors, writer_busy

SEGMENTS = "journal"
LOCK = "lock"
WRITER_TIMEOUT_S = 60.0
"""A writer on another host that wrote nothing for so long may be dead: its right can be taken over."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of the journal."""

    path: str
    start: int
    """Of its first byte in the journal."""
    stop: int


class ObjectStore:
    """The objects below a URL."""

    def __init__(self, fs: Any, root: str, address: str) -> None:
        self.address = address
        self.fs = fs
        self._root = root

    def exists(self) -> bool:
        return bool(self.segments())

    def size(self) -> int:
        segments = self.segments()
        return segments[-1].stop if segments else 0

    def read(self, start: int, stop: int | None) -> bytes:
        wanted = [
            s
            for s in self.segments()
            if s.stop > start and (stop is None or s.start < stop) and s.stop > s.start
        ]
        if not wanted:
            return b""
        with map_storage_errors(self.address):
            found = self.fs.cat([segment.path for segment in wanted])
        data = b"".join(found[segment.path] for segment in wanted)
        first = wanted[0].start
        return data[max(0, start - first) : None if stop is None else stop - first]

    def save(self, name: str, data: bytes | bytearray | memoryview) -> None:
        with map_storage_errors(self.address):
            self.fs.pipe_file(f"{self._root}/{name}", bytes(data))

    def load(self, name: str) -> bytes | None:
        with map_storage_errors(self.address), contextlib.suppress(FileNotFoundError):
            data: bytes = self.fs.cat_file(f"{self._root}/{name}")
            return data
        return None

    def discard(self, name: str) -> None:
        with map_storage_errors(self.address), contextlib.suppress(FileNotFoundError):
            self.fs.rm_file(f"{self._root}/{name}")

    def delete(self) -> None:
        with map_storage_errors(self.address):
            self.fs.rm(self._root, recursive=True)

    def holder(self) -> WriterIdentity | None:
        """Return who writes; of another host it is only known that it wrote not long ago."""
        claim = WriterIdentity.from_bytes(self.load(LOCK))
        if claim is None:
            return None
        is_alive = (
            claim.is_alive
            if claim.is_of_this_host
            else time.time() - self._last_seen(claim) < WRITER_TIMEOUT_S
        )
        return claim if is_alive else None

    def writer(self, owner: str) -> Writer:
        return ObjectWriter(self, owner)

    def segments(self) -> list[Segment]:
        """List the segments in order, as they are now."""
        with map_storage_errors(self.address):
            found = sorted((item["name"], item["size"]) for item in self._listing())
        segments: list[Segment] = []
        for number, (path, size) in enumerate(found, 1):
            if _name(number) != path.rpartition("/")[2]:
                raise JournalError(
                    self.address, f"segment {_name(number)} is missing; bring it back, or start the run again"
                )
            start = segments[-1].stop if segments else 0
            segments.append(Segment(path, start, start + size))
        return segments

    def create(self, path: str, data: bytes, *, is_conditional: bool = True) -> None:
        """Create an object where there is none yet; else `FileExistsError`."""
        if is_conditional:
            self.fs.pipe_file(path, data, mode="create")
            return
        self.fs.invalidate_cache(path)
        if self.fs.exists(path):
            raise FileExistsError(path)
        self.fs.pipe_file(path, data)

    def segment_path(self, number: int) -> str:
        return f"{self._root}/{SEGMENTS}/{_name(number)}"

    def _listing(self) -> list[dict[str, Any]]:
        folder = f"{self._root}/{SEGMENTS}"
        self.fs.invalidate_cache(folder)
        with contextlib.suppress(FileNotFoundError):
            return [item for item in self.fs.ls(folder, detail=True) if item["name"].endswith(".jsonl")]
        return []

    def _last_seen(self, claim: WriterIdentity) -> float:
        segments = self.segments()
        if not segments:
            return claim.since
        with map_storage_errors(self.address):
            modified: float = self.fs.modified(segments[-1].path).timestamp()
        return max(modified, claim.since)


class ObjectWriter:
    """Appends with one object each."""

    def __init__(self, store: ObjectStore, owner: str) -> None:
        self.warnings: list[str] = []
        self._store = store
        self._claim = WriterIdentity.of_this_process(owner)
        self._check_free(store.holder())
        segments = store.segments()
        self._size = segments[-1].stop if segments else 0
        self._number = len(segments) + 1
        self._is_open = True
        self._unconfirmed: deque[bytes] = deque(maxlen=8)
        with map_storage_errors(store.address):
            self._is_conditional = self._fence()
        if not self._is_conditional:
            log.warning("%s: this storage cannot hold two writers apart by itself", store.address)
        self._number += 1
        store.save(LOCK, self._claim.to_bytes())

    @property
    def size(self) -> int:
        return self._size

    def append(self, data: bytes) -> int:
        check_lines(data)
        if not self._is_open:
            raise JournalError(self._store.address, "this writer is closed")
        # A request whose reply was lost may have made the segment: what then stands there is our own.
        self._unconfirmed.append(data)
        written = b""
        while written != data:
            with map_storage_errors(self._store.address):
                written = self._put(data)
            self._unconfirmed = deque([data] if written != data else [], maxlen=8)
            self._size += len(written)
            self._number += 1
        return self._size

    def close(self) -> None:
        holder = WriterIdentity.from_bytes(self._store.load(LOCK)) if self._is_open else None
        self._is_open = False
        if holder is not None and holder.token == self._claim.token:
            self._store.save(LOCK, b"")

    def _check_free(self, holder: WriterIdentity | None) -> None:
        if holder is None or (not holder.is_of_this_host and holder.owner == self._claim.owner):
            return
        what = "wait for its end, or stop it first"
        if not holder.is_of_this_host:
            what += f"; if it is dead, try again when it has been silent for {WRITER_TIMEOUT_S:.0f} s"
        raise writer_busy(self._store.address, holder, what)

    def _fence(self) -> bool:
        """Shut the writer before out. Whether the storage can hold two writers apart by itself."""
        path = self._store.segment_path(self._number)
        try:
            knows = self._create_first(path)
        except FileExistsError as error:
            raise self._fenced_error() from error
        if not knows:
            return False
        try:  # some storages accept a condition and ignore it
            self._store.create(path, b"")
        except FileExistsError:
            return True
        return False

    def _create_first(self, path: str) -> bool:
        try:
            self._store.create(path, b"")
        except OSError as error:
            if error.errno != errno.ENOSYS:
                raise
            self._store.create(path, b"", is_conditional=False)
            return False
        return True

    def _put(self, data: bytes) -> bytes:
        """Write under the number; returns what stands there: `data`, or what an earlier append may have written."""
        path = self._store.segment_path(self._number)
        try:
            self._store.create(path, data, is_conditional=self._is_conditional)
        except FileExistsError as error:
            found: bytes = self._store.fs.cat_file(path)
            if found not in self._unconfirmed:
                raise self._fenced_error() from error
            return found
        return data

    def _fenced_error(self) -> JournalError:
        holder = WriterIdentity.from_bytes(self._store.load(LOCK))
        return writer_busy(self._store.address, holder, "this writer was shut out and writes no more")


def _name(number: int) -> str:
    return f"{number:08d}.jsonl"
