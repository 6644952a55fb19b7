"""Where the files of a run lie: a folder of this machine, or objects behind any fsspec URL.

`s3://bucket/runs` and its like need fsspec's driver for them (`pip install s3fs`), and take credentials and endpoints
as that driver does: the environment (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`), or fsspec's own configuration
(`FSSPEC_S3_ENDPOINT_URL=...`, or files in `~/.config/fsspec`). It must be the same on every node.

Every failure of a storage becomes a `JournalError` here, with one sentence.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from rlm_ray.errors import JournalError, RLMError
from rlm_ray.journal.writer import Claim, Writer

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


class Store(Protocol):
    """The files of one run."""

    address: str

    def exists(self) -> bool:
        """There is a journal."""
        ...

    def size(self) -> int:
        """Of the journal, in bytes."""
        ...

    def read(self, start: int, stop: int | None) -> bytes:
        """These bytes of the journal, as far as they are there."""
        ...

    def save(self, name: str, data: bytes | bytearray | memoryview) -> None:
        """Never a half blob, also after a crash."""
        ...

    def load(self, name: str) -> bytes | None: ...

    def discard(self, name: str) -> None:
        """No such blob is no error."""
        ...

    def delete(self) -> None: ...

    def holder(self) -> Claim | None:
        """Who writes, as far as can be known."""
        ...

    def writer(self, owner: str) -> Writer: ...


def local_path(address: str) -> Path | None:
    """The path of a local address; None for a URL of another storage."""
    for prefix in _LOCAL:
        if address.startswith(prefix):
            return Path(address.removeprefix(prefix))
    return None if "://" in address else Path(address).expanduser().absolute()


def filesystem(address: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the path in it."""
    import fsspec

    with errors_of(address):
        fs, path = fsspec.core.url_to_fs(address)
    return fs, path.rstrip("/")


@contextmanager
def errors_of(address: str) -> Iterator[None]:
    """Whatever a storage raises becomes a `JournalError`; drivers raise anything."""
    try:
        yield
    except RLMError:
        raise
    except Exception as error:
        raise storage_error(address, error) from error


def storage_error(address: str, error: Exception) -> JournalError:
    """The sentence for a failure of the storage."""
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
    return JournalError(address, why)


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
