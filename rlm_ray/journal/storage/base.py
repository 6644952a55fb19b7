"""The contracts of a run's storage: `Store` (its files) and `Writer` (the right to append to its journal).

`local.py` has a folder of this machine, `object_store.py` objects behind any fsspec URL.

`s3://bucket/runs` and its like need fsspec's driver for them (`pip install s3fs`), and take credentials and endpoints
as that driver does: the environment (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`), or fsspec's own configuration
(`FSSPEC_S3_ENDPOINT_URL=...`, or files in `~/.config/fsspec`). It must be the same on every node.

- Every failure of a storage becomes a `JournalError`, with one sentence.
- One writer at a time. A second one is refused with the name of the first; a writer whose right was taken over (it was
  believed dead) is refused at its next append.
- What was appended is there when `append` returns, also if this process is killed the moment after.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any, Protocol

from rlm_ray.errors import JournalError, RLMError
from rlm_ray.util.filesystem import describe_storage_error
from rlm_ray.util.process_stat import read_process_stat


class Store(Protocol):
    """The files of one run."""

    address: str

    def exists(self) -> bool:
        """Tell whether there is a journal."""
        ...

    def size(self) -> int:
        """Return the size of the journal in bytes."""
        ...

    def read(self, start: int, stop: int | None) -> bytes:
        """Read these bytes of the journal, as far as they are there."""
        ...

    def save(self, name: str, data: bytes | bytearray | memoryview) -> None:
        """Write a blob whole or not at all, also in a crash."""
        ...

    def load(self, name: str) -> bytes | None: ...

    def discard(self, name: str) -> None:
        """Delete a blob; no such blob is no error."""
        ...

    def delete(self) -> None: ...

    def holder(self) -> WriterIdentity | None:
        """Return who writes, as far as can be known."""
        ...

    def writer(self, owner: str) -> Writer: ...


def filesystem(address: str) -> tuple[Any, str]:
    """Return the fsspec file system of a URL, and the path in it."""
    import fsspec

    with map_storage_errors(address):
        fs, path = fsspec.core.url_to_fs(address)
    return fs, path.rstrip("/")


@contextmanager
def map_storage_errors(address: str) -> Iterator[None]:
    """Raise whatever a storage raises as a `JournalError`; drivers raise anything."""
    try:
        yield
    except RLMError:
        raise
    except Exception as error:
        raise JournalError(address, describe_storage_error(address, error)) from error


class Writer(Protocol):
    """An open journal. Not for two threads at once."""

    warnings: list[str]
    """What was repaired on opening."""

    @property
    def size(self) -> int:
        """Return the size of the journal in bytes."""
        ...

    def append(self, data: bytes) -> int:
        """Add whole lines, all of them or, with a `JournalError`, none; the size of the journal afterwards."""
        ...

    def close(self) -> None:
        """Release the right to write. A second call changes nothing."""
        ...


@dataclass(frozen=True, slots=True)
class WriterIdentity:
    """Names a writer, for others that are refused."""

    owner: str
    host: str
    pid: int
    born: str
    """Of the process, in ticks of the kernel: tells it from a later one with the same number."""
    since: float
    token: str
    """Tells it from every other claim."""

    @classmethod
    def of_this_process(cls, owner: str) -> WriterIdentity:
        pid = os.getpid()
        return cls(owner, socket.gethostname(), pid, _own_birth(pid), time.time(), secrets.token_hex(8))

    @property
    def is_of_this_host(self) -> bool:
        return self.host == socket.gethostname()

    @property
    def is_alive(self) -> bool:
        """Tell whether its process is still there; on its own host only."""
        return bool(self.born) and _born(self.pid) == self.born

    def __str__(self) -> str:
        since = datetime.fromtimestamp(self.since, UTC)
        return f"{self.owner} (process {self.pid} on {self.host}, since {since:%Y-%m-%d %H:%M:%S} UTC)"

    def to_bytes(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_bytes(cls, data: bytes | None) -> WriterIdentity | None:
        """Parse a lock file; None where nobody is named."""
        try:
            return cls(**json.loads(data or b""))
        except (ValueError, TypeError):
            return None


def writer_busy(address: str, holder: WriterIdentity | None, what_to_do: str) -> JournalError:
    """Return the error for a second writer."""
    return JournalError(address, f"{holder or 'another process'} writes this journal; {what_to_do}")


def check_lines(data: bytes) -> None:
    """Raise `ValueError` where the data is not whole lines: a mistake of the caller."""
    if not data.endswith(b"\n"):
        raise ValueError("a journal takes whole lines, each with its newline")


@cache
def _own_birth(pid: int) -> str:
    """Look the start time of this process up once; a fork has another number."""
    return _born(pid)


def _born(pid: int) -> str:
    stat = read_process_stat(pid)
    return "" if stat is None else stat.started
