"""Files behind any fsspec URL, or on this machine: whole ones or none, and every failure as one sentence.

Files that hold questions and answers of users are private: only their owner reads them, whatever the umask. Folders that
are already there stay as they are; inside a shared one, a run's own folder is private.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import Any

from rlm_ray.errors import InputError, RLMError

FOLDER_MODE, FILE_MODE = 0o700, 0o600
_LOCAL = ("file://", "local://")
_DRIVERS = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "abfss": "adlfs",
}
_SENTENCES = {
    errno.ENOSPC: "the disk is full; make room, or choose another run_dir",
    errno.EDQUOT: "the quota of the disk is used up; make room, or choose another run_dir",
    errno.EFBIG: "a file may not grow so large here; raise the limit (ulimit -f), or choose another run_dir",
    errno.EROFS: "this file system is read-only; choose another run_dir",
    errno.ENOTDIR: "a file stands where a folder is needed; choose another run_dir",
    errno.ENOLCK: "this file system knows no locks, so two writers could mix; choose another run_dir",
}


def local_path(address: str) -> Path | None:
    """Return the path of a local address; None for a URL of another storage."""
    for prefix in _LOCAL:
        if address.startswith(prefix):
            return Path(address.removeprefix(prefix))
    return None if "://" in address else Path(address).expanduser().absolute()


@contextmanager
def map_storage_errors(address: str) -> Iterator[None]:
    """Raise whatever a storage raises as an `InputError`; drivers raise anything."""
    try:
        yield
    except RLMError:
        raise
    except Exception as error:
        why = describe_storage_error(address, error).replace("run_dir", "place")
        raise InputError(address, why) from error


def filesystem(address: str) -> tuple[Any, str]:
    """Return the fsspec file system of an address, and the path in it."""
    import fsspec

    local = local_path(address)
    with map_storage_errors(address):
        fs, path = fsspec.core.url_to_fs(str(local) if local is not None else address)
    return fs, path.rstrip("/") or "/"


class AtomicFolder:
    """A folder whose files are written whole or not at all."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.fs, self.path = filesystem(address)
        self._local = local_path(address)

    def names(self) -> list[str]:
        """List the files in order; a folder that is not there has none."""
        with map_storage_errors(self.address):
            self.fs.invalidate_cache()
            try:
                found = self.fs.ls(self.path, detail=False)
            except FileNotFoundError:
                return []
        return sorted(str(path).rstrip("/").rpartition("/")[2] for path in found)

    def read(self, name: str) -> bytes | None:
        """Read a file; None where there is none of this name."""
        with map_storage_errors(self.address):
            try:
                data: bytes = self.fs.cat_file(f"{self.path}/{name}")
            except FileNotFoundError:
                return None
        return data

    def write(self, name: str, data: bytes) -> None:
        """Replace a file: after a crash it is the old one, the new one or none; an object store does so by itself."""
        with map_storage_errors(self.address):
            if self._local is None:
                self.fs.pipe_file(f"{self.path}/{name}", data)
            else:
                _atomic_write(self._local / name, data)

    def delete(self, name: str) -> None:
        with map_storage_errors(self.address):
            self.fs.rm_file(f"{self.path}/{name}")


def _atomic_write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.new")
    with beside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def describe_storage_error(address: str, error: Exception) -> str:
    """Say in one sentence what a storage failed at, and what to do."""
    protocol = address.partition("://")[0]
    match error:
        case ImportError():
            why = f"{protocol}:// needs a driver; pip install {_DRIVERS.get(protocol) or error}"
        case ValueError() if "Protocol not known" in str(error):
            why = f"{protocol}:// is no storage fsspec knows; give a path, or a URL such as s3://bucket/runs"
        case PermissionError():
            why = f"permission is refused ({_short(error)}); allow it, or choose another run_dir"
        case FileNotFoundError():
            why = f"there is no such folder or bucket ({_short(error)}); create it first"
        case OSError(errno=number) if number in _SENTENCES:
            why = _SENTENCES[number]
        case _ if "Credentials" in type(error).__name__:
            why = f"{_short(error)}; set those of {protocol}:// in the environment"
        case _:
            why = f"the storage failed: {_short(error)}"
    return why


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


class StorageErrorFile:
    """A file whose own failures are told apart from those of the data in it."""

    def __init__(self, file: Any, path: str) -> None:
        self._file, self._path = file, path

    def read(self, size: int = -1) -> bytes:
        with map_storage_errors(self._path):
            data: bytes = self._file.read(size)
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def make_private_folder(path: Path) -> None:
    """Make the folder, and those above it that are not there, for this user alone."""
    if path.is_dir():
        return
    missing = list(takewhile(lambda each: not each.exists(), (path, *path.parents)))
    for each in reversed(missing):
        try:
            each.mkdir(mode=FOLDER_MODE)
        except FileExistsError:  # another process made it meanwhile
            continue
        each.chmod(FOLDER_MODE)  # a umask may have taken away the owner's own rights
    if not path.is_dir():
        path.mkdir()  # raises what says why


def open_private(path: Path, flags: int) -> int:
    """Open the file, made if need be, for this user alone; returns its descriptor."""
    fd = os.open(path, flags | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    status = os.fstat(fd)
    if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and status.st_mode & 0o777 != FILE_MODE:
        os.fchmod(fd, FILE_MODE)
    return fd


def write_private(path: Path, data: bytes) -> None:
    """Write the file anew: it holds this and nothing else."""
    with os.fdopen(open_private(path, os.O_WRONLY | os.O_TRUNC), "wb") as file:
        file.write(data)
