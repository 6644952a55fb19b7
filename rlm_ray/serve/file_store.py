"""Uploaded files, in the run store, each under the key that owns it.

`<run_dir>/serve/files/<key>/<file id>` and a `.json` beside it, written last: a file without is no file yet.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO

from rlm_ray.errors import InputError, JournalError
from rlm_ray.journal.storage.base import filesystem, map_storage_errors
from rlm_ray.serve.registry_actor import FOLDER

CHUNK = 1 << 20
DAY_S = 24 * 3600.0

_log = logging.getLogger(__name__)

_FILE_ID = re.compile(r"file-[0-9a-f]{24}")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """An uploaded file."""

    id: str
    name: str
    purpose: str
    nbytes: int
    created: float
    expires: float


class PayloadTooLargeError(InputError):
    """A file or a context is larger than the service takes."""


class FileStore:
    """Stores uploaded files. Blocking: call it from a thread. Raises `JournalError` where the storage fails."""

    def __init__(self, run_dir: str, max_bytes: int, days: float) -> None:
        self._address = f"{run_dir.rstrip('/')}/{FOLDER}/files"
        self._fs, self._root = filesystem(self._address)
        self._max_bytes = max_bytes
        self._keep_s = days * DAY_S

    def save(self, key: str, name: str, purpose: str, stream: BinaryIO, now: float) -> StoredFile:
        """Keep what a stream holds; it is never in memory as a whole."""
        file_id = f"file-{secrets.token_hex(12)}"
        path = self._path(key, file_id)
        with map_storage_errors(self._address):
            self._fs.makedirs(f"{self._root}/{key}", exist_ok=True)
            try:
                nbytes = self._copy(stream, path)
                stored = StoredFile(file_id, name, purpose, nbytes, now, now + self._keep_s)
                self._fs.pipe_file(f"{path}.json", json.dumps(asdict(stored)).encode())
            except BaseException:
                self._discard(path)
                raise
        return stored

    def find(self, key: str, file_id: str, now: float) -> StoredFile | None:
        """Return a file; None where this key has no such file, or has it no more."""
        if not _FILE_ID.fullmatch(file_id):
            return None
        with map_storage_errors(self._address):
            try:
                stored = StoredFile(**json.loads(self._fs.cat_file(f"{self._path(key, file_id)}.json")))
            except (FileNotFoundError, ValueError, TypeError):  # none, or torn: whoever wrote it died
                return None
            if stored.expires > now:
                return stored
            self._discard(self._path(key, file_id))
        return None

    def list_files(self, key: str, now: float) -> list[StoredFile]:
        """Return the files of a key, the newest first."""
        found = (self.find(key, file_id, now) for file_id in self._ids(key))
        return sorted((stored for stored in found if stored), key=lambda stored: -stored.created)

    def read(self, key: str, file_id: str) -> bytes:
        """Read a whole file."""
        with map_storage_errors(self._address):
            data: bytes = self._fs.cat_file(self._path(key, file_id))
        return data

    def chunks(self, key: str, file_id: str) -> Iterator[bytes]:
        """Yield a file in pieces."""
        with map_storage_errors(self._address), self._fs.open(self._path(key, file_id), "rb") as source:
            while chunk := source.read(CHUNK):
                yield chunk

    def delete(self, key: str, file_id: str) -> None:
        with map_storage_errors(self._address):
            self._discard(self._path(key, file_id))

    def delete_expired(self, now: float) -> None:
        """Drop what has expired, of all keys, and what died while it was kept. What cannot be looked at is left for the next time."""
        with map_storage_errors(self._address):
            keys = self._names(self._root)
        for key in keys:
            try:
                file_ids = self._ids(key)
            except JournalError as error:
                _log.warning("files of %s are not swept: %s", key, error)
                continue
            for file_id in file_ids:
                try:
                    if self.find(key, file_id, now) is None:
                        self._delete_torn(self._path(key, file_id), now)
                except JournalError as error:
                    _log.warning("file %s of %s is not swept: %s", file_id, key, error)

    def _ids(self, key: str) -> list[str]:
        with map_storage_errors(self._address):
            names = self._names(f"{self._root}/{key}")
        return list(dict.fromkeys(name.removesuffix(".json") for name in names))

    def _names(self, path: str) -> list[str]:
        try:
            self._fs.invalidate_cache(path)
            found: list[Any] = self._fs.ls(path, detail=False)
        except FileNotFoundError:
            return []
        return [str(entry).rstrip("/").rpartition("/")[2] for entry in found]

    def _copy(self, stream: BinaryIO, path: str) -> int:
        nbytes = 0
        with self._fs.open(path, "wb") as target:
            while chunk := stream.read(CHUNK):
                nbytes += len(chunk)
                if nbytes > self._max_bytes:
                    raise PayloadTooLargeError(
                        "file", f"is larger than the {self._max_bytes:,} bytes allowed here"
                    )
                target.write(chunk)
        return nbytes

    def _delete_torn(self, path: str, now: float) -> None:
        """Drop a file that is none, once no upload can still be under way."""
        with map_storage_errors(self._address):
            try:
                written = self._fs.modified(path).timestamp()
            except (FileNotFoundError, NotImplementedError):
                return
            if written + self._keep_s <= now:
                self._discard(path)

    def _discard(self, path: str) -> None:
        for name in (f"{path}.json", path):
            if self._fs.exists(name):
                self._fs.rm_file(name)

    def _path(self, key: str, file_id: str) -> str:
        return f"{self._root}/{key}/{file_id}"
