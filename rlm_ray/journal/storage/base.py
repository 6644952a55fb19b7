"""Where the files of a run lie: a folder of this machine, or objects behind any fsspec URL.

`s3://bucket/runs` and its like need fsspec's driver for them (`pip install s3fs`), and take credentials and endpoints
as that driver does: the environment (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`), or fsspec's own configuration
(`FSSPEC_S3_ENDPOINT_URL=...`, or files in `~/.config/fsspec`). It must be the same on every node.

Every failure of a storage becomes a `JournalError` here, with one sentence.

The right to append to a journal, and who has it.

One writer at a time. A second one is refused with the name of the first; a writer whose right was taken over (it was
believed dead) is refused at its next append. What `append` was told is there when it returns, also if this process is
killed the moment after; `sync` makes it outlive the machine.
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
from pathlib import Path
from typing import Any, Protocol

from rlm_ray.errors import JournalError, RLMError
from rlm_ray.util.filesystem import describe_storage_error


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

    def holder(self) -> WriterIdentity | None:
        """Who writes, as far as can be known."""
        ...

    def writer(self, owner: str) -> Writer: ...


def filesystem(address: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the path in it."""
    import fsspec

    with map_storage_errors(address):
        fs, path = fsspec.core.url_to_fs(address)
    return fs, path.rstrip("/")


@contextmanager
def map_storage_errors(address: str) -> Iterator[None]:
    """Whatever a storage raises becomes a `JournalError`; drivers raise anything."""
    try:
        yield
    except RLMError:
        raise
    except Exception as error:
        raise JournalError(address, describe_storage_error(address, error)) from error


class Writer(Protocol):
    """An open journal. Not for two threads at once."""

    warnings: list[str]
    """What was mended on opening."""

    @property
    def size(self) -> int:
        """Of the journal, in bytes."""
        ...

    def append(self, data: bytes) -> int:
        """Add whole lines, all of them or, with a `JournalError`, none; the size of the journal afterwards."""
        ...

    def sync(self) -> None: ...

    def close(self) -> None:
        """Give the right to write back. Once is enough, twice does no harm."""
        ...


@dataclass(frozen=True, slots=True)
class WriterIdentity:
    """Who writes, for those who are refused."""

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
    def lives(self) -> bool:
        """Its process is still there; asked on its own host only."""
        return bool(self.born) and _born(self.pid) == self.born

    def __str__(self) -> str:
        since = datetime.fromtimestamp(self.since, UTC)
        return f"{self.owner} (process {self.pid} on {self.host}, since {since:%Y-%m-%d %H:%M:%S} UTC)"

    def to_bytes(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_bytes(cls, data: bytes | None) -> WriterIdentity | None:
        """None where nobody is named."""
        try:
            return cls(**json.loads(data or b""))
        except (ValueError, TypeError):
            return None


def writer_busy(address: str, holder: WriterIdentity | None, what_to_do: str) -> JournalError:
    """A second writer is turned away."""
    return JournalError(address, f"{holder or 'another process'} writes this journal; {what_to_do}")


def check_lines(data: bytes) -> None:
    """A journal is made of whole lines; anything else is a mistake of the caller."""
    if not data.endswith(b"\n"):
        raise ValueError("a journal takes whole lines, each with its newline")


@cache
def _own_birth(pid: int) -> str:
    """Looked up once; a fork has another number."""
    return _born(pid)


def _born(pid: int) -> str:
    try:
        # The name of a program may hold blanks and brackets: the fields are counted after its last bracket.
        return Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()[19]
    except OSError:
        return ""
