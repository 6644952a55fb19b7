"""The files of a run in a folder of this machine (or one that is mounted here):

<run_dir>/<run_id>/journal.jsonl    appended to
                   lock             held (`flock`) by the writer, with its name; the kernel frees it with the process
                   context.bin ...  blobs
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import time
from pathlib import Path

from rlm_ray.errors import JournalError
from rlm_ray.journal.storage.base import Writer, WriterIdentity, check_lines, map_storage_errors, writer_busy
from rlm_ray.util.filesystem import make_private_folder, open_private

JOURNAL = "journal.jsonl"
LOCK = "lock"
_BLOCK = 1 << 16
_TRIES = 5
_PAUSE_S = 0.01


class LocalStore:
    """A folder."""

    def __init__(self, folder: Path, journal: str = JOURNAL) -> None:
        self.address = str(folder)
        self._folder = folder
        self._journal = folder / journal

    def exists(self) -> bool:
        return self._journal.is_file()

    def size(self) -> int:
        with map_storage_errors(self.address):
            return self._journal.stat().st_size if self.exists() else 0

    def read(self, start: int, stop: int | None) -> bytes:
        if not self.exists():
            return b""
        with map_storage_errors(self.address), self._journal.open("rb") as file:
            file.seek(start)
            return file.read(-1 if stop is None else max(0, stop - start))

    def save(self, name: str, data: bytes | bytearray | memoryview) -> None:
        with map_storage_errors(self.address):
            make_private_folder(self._folder)
            _replace(self._folder / name, data)

    def load(self, name: str) -> bytes | None:
        with map_storage_errors(self.address), contextlib.suppress(FileNotFoundError):
            return (self._folder / name).read_bytes()
        return None

    def discard(self, name: str) -> None:
        with map_storage_errors(self.address):
            (self._folder / name).unlink(missing_ok=True)

    def delete(self) -> None:
        with map_storage_errors(self.address):
            shutil.rmtree(self._folder)

    def holder(self) -> WriterIdentity | None:
        """Ask by taking the lock for a moment, beside others who ask."""
        try:
            fd = os.open(self._folder / LOCK, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return WriterIdentity.from_bytes(os.read(fd, _BLOCK))
        finally:
            os.close(fd)
        return None

    def writer(self, owner: str) -> Writer:
        with map_storage_errors(self.address):
            make_private_folder(self._folder)
            return LocalWriter(self._journal, owner)


class LocalWriter:
    """Appends with one `write` each."""

    def __init__(self, journal: Path, owner: str) -> None:
        self.warnings: list[str] = []
        self._address = str(journal.parent)
        self._lock = _lock(journal.parent / LOCK, owner)
        self._fd = -1
        try:
            self._fd = open_private(journal, os.O_RDWR | os.O_APPEND)
            self._size = self._truncate_partial_line()
        except BaseException:
            self._release()
            raise
        self._dirty = False

    @property
    def size(self) -> int:
        return self._size

    def append(self, data: bytes) -> int:
        check_lines(data)
        if self._fd < 0:
            raise JournalError(self._address, "this writer is closed")
        with map_storage_errors(self._address):
            if self._dirty:
                self._rollback()
            self._dirty = True
            try:
                _write(self._fd, data)
            except OSError:
                with contextlib.suppress(OSError):  # the next append tries again
                    self._rollback()
                raise
            self._dirty = False
            self._size += len(data)
        return self._size

    def close(self) -> None:
        try:
            if self._fd >= 0 and self._dirty:
                with map_storage_errors(self._address):
                    self._rollback()
        finally:
            self._release()

    def _rollback(self) -> None:
        os.ftruncate(self._fd, self._size)
        self._dirty = False

    def _truncate_partial_line(self) -> int:
        size = os.fstat(self._fd).st_size
        whole = _end_of_last_line(self._fd, size)
        if whole < size:
            os.ftruncate(self._fd, whole)
            self.warnings.append(f"{size - whole} bytes of a line that was never finished were cut off")
        return whole

    def _release(self) -> None:
        for fd in (self._fd, self._lock):
            if fd >= 0:
                os.close(fd)
        self._fd = self._lock = -1


def _lock(path: Path, owner: str) -> int:
    fd = open_private(path, os.O_RDWR)
    try:
        _flock(fd, str(path.parent))
        os.ftruncate(fd, 0)
        os.pwrite(fd, WriterIdentity.of_this_process(owner).to_bytes(), 0)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _flock(fd: int, address: str) -> None:
    # Whoever asks who writes holds the lock for microseconds: a writer does not give up at once.
    for _ in range(_TRIES):
        try:
            return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_PAUSE_S)
    raise writer_busy(
        address, WriterIdentity.from_bytes(os.pread(fd, _BLOCK, 0)), "wait for its end, or stop it first"
    )


def _write(fd: int, data: bytes) -> None:
    written = os.write(fd, data)
    while written < len(data):
        written += os.write(fd, memoryview(data)[written:])


def _end_of_last_line(fd: int, size: int) -> int:
    stop = size
    while stop > 0:
        start = max(0, stop - _BLOCK)
        found = os.pread(fd, stop - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        stop = start
    return 0


def _replace(path: Path, data: bytes | bytearray | memoryview) -> None:
    """Replace a file: it has its old content or the new one, whatever happens."""
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(open_private(new, os.O_WRONLY | os.O_EXCL), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            new.unlink()
        raise
