"""The folder of a run: its journal and the blobs beside it; and finding a run by its id, prefix, path or `last`."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from rlm_ray.errors import InputError, JournalError
from rlm_ray.events.records import Record, RunFinished, RunStarted, check_types, from_line
from rlm_ray.events.tree import SeenRecords
from rlm_ray.journal.storage.base import Store, Writer, WriterIdentity, filesystem, map_storage_errors
from rlm_ray.journal.storage.local import JOURNAL, LocalStore
from rlm_ray.journal.storage.object_store import SEGMENTS, ObjectStore
from rlm_ray.util.filesystem import local_path

_BLOCK = 1 << 16
_MAX_TAIL_SCAN = 1 << 22
"""The farthest from its end that a journal is searched for how it ended."""
_RUN_ID = re.compile(r"\d{8}-\d{6}\b")


class RunStore:
    """`<run_dir>/<run_id>`; nothing is touched before it is asked for."""

    def __init__(self, run_dir: str, run_id: str, journal: str = JOURNAL) -> None:
        self.run_id = run_id
        path = local_path(run_dir)
        self.address = str(path / run_id) if path is not None else f"{run_dir.rstrip('/')}/{run_id}"
        self.warnings: list[str] = []
        """What the last `records()` had to leave out."""
        self._store = _store(self.address, journal)

    def __repr__(self) -> str:
        return f"RunStore({self.address!r})"

    def exists(self) -> bool:
        """Tell whether there is a journal, be it empty."""
        return self._store.exists()

    def owner(self) -> int | None:
        """Return the user id of whoever owns a local folder; None where there is none, or it lies in an object store."""
        path = local_path(self.address)
        with contextlib.suppress(FileNotFoundError):
            return None if path is None else path.stat().st_uid
        return None

    def size(self) -> int:
        """Return the size of the journal in bytes."""
        return self._store.size()

    def read(self, offset: int = 0, most: int | None = None) -> bytes:
        """Read whole lines of the journal from `offset`, the beginning of one; about `most` bytes, but never half a line."""
        while True:
            data = self._store.read(offset, None if most is None else offset + most)
            whole = data.rfind(b"\n") + 1
            if whole or most is None or len(data) < most:
                return data[:whole]
            most *= 2

    def records(self) -> list[Record]:
        """Return all records of the run, each once."""
        data = self._store.read(0, None)
        whole = data.rfind(b"\n") + 1
        torn = len(data) - whole
        self.warnings = [f"the last line was never finished; {torn} bytes are left out"] if torn else []
        records, seen = [], SeenRecords()
        for number, line in enumerate(data[:whole].split(b"\n")[:-1], 1):
            record = self._record(f"line {number}", line)
            if seen.is_new(record):
                records.append(record)
        return records

    def first_record(self) -> RunStarted | None:
        """Return how the run began, from the first line; None while nothing is written."""
        line = self.read(0, _BLOCK).partition(b"\n")[0]
        record = self._record("line 1", line) if line else None
        return record if isinstance(record, RunStarted) else None

    def last_end(self) -> RunFinished | None:
        """Return how the last attempt ended, from the end of the journal; None where it goes on, or was killed."""
        size, block = self.size(), _BLOCK
        while True:
            line = _last_life_line(self._store.read(max(0, size - block), size), is_all=block >= size)
            if line is not None or block >= size or block >= _MAX_TAIL_SCAN:
                break
            block *= 4
        record = self._record("the last line that begins or ends it", line) if line else None
        return record if isinstance(record, RunFinished) else None

    def save(self, name: str, data: bytes | bytearray | memoryview) -> None:
        """Write a blob beside the journal: after a crash the old one, the new one or none, never a half."""
        self._store.save(name, data)

    def load(self, name: str) -> bytes | None:
        """Read a blob; None where there is none of this name."""
        return self._store.load(name)

    def discard(self, name: str) -> None:
        """Drop a blob; no such blob is no error."""
        self._store.discard(name)

    def delete(self) -> None:
        """Delete journal and blobs. Refused while the run goes on."""
        if holder := self.current_writer():
            raise JournalError(self.address, f"{holder} writes this journal; stop it first")
        self._store.delete()

    def current_writer(self) -> WriterIdentity | None:
        """Return who writes the journal; of another host it is only known that it wrote within the last minute."""
        return self._store.holder()

    def writer(self, owner: str) -> Writer:
        """Acquire the one right to append. `owner` names who has it, for others that are refused."""
        return self._store.writer(owner)

    def _record(self, where: str, line: bytes) -> Record:
        try:
            record = from_line(line)
            check_types(record)
        except InputError as error:
            why = f"{where} of the journal is broken ({error.why}); remove that line, or start the run again"
            raise JournalError(self.address, why) from error
        return record


def find_run(run: str, run_dir: str) -> RunStore:
    """Find the run of this id, of this beginning of an id, or the `last` one; or of this path or URL of folder or journal."""
    if "/" in run or run.endswith(".jsonl"):
        return _open_at(run)
    known = list_runs(run_dir) if run_dir else []
    if not known:
        where = run_dir or "run_dir, which is empty"
        raise InputError(
            "run", f"no run has left a journal in {where}; name the run by its folder, or set run_dir"
        )
    fitting = known[:1] if run == "last" else [folder for folder in known if folder.run_id.startswith(run)]
    fitting = [folder for folder in fitting if folder.run_id == run] or fitting
    if not fitting:
        raise InputError("run", f"none in {run_dir} begins with {run!r}; the latest is {known[0].run_id}")
    if len(fitting) > 1:
        names = ", ".join(folder.run_id for folder in fitting[:5])
        raise InputError("run", f"{len(fitting)} begin with {run!r}: {names}; give more of it")
    return fitting[0]


def list_runs(run_dir: str) -> list[RunStore]:
    """List the runs that left a journal here, the newest first."""
    path = local_path(run_dir)
    names = _local_names(path) if path is not None else _remote_names(run_dir)
    return [RunStore(run_dir, name) for name in sorted(names, reverse=True)]


def _last_life_line(data: bytes, *, is_all: bool) -> bytes | None:
    """Return the last whole line that begins or ends an attempt of the run."""
    # JSON holds no bare newline, so this is the beginning of a line and never a part of a text.
    lines = (b"\n" if is_all else b"") + data[: data.rfind(b"\n") + 1]
    start = lines.rfind(b'\n{"kind": "run')
    return lines[start + 1 : lines.index(b"\n", start + 1)] if start >= 0 else None


def _store(address: str, journal: str) -> Store:
    path = local_path(address)
    if path is None:
        return ObjectStore(*filesystem(address), address)
    if (path / SEGMENTS).is_dir():  # brought here from an object store
        return ObjectStore(*filesystem(f"file://{path}"), str(path))
    return LocalStore(path, journal)


def _local_names(run_dir: Path) -> list[str]:
    with (
        map_storage_errors(str(run_dir)),
        contextlib.suppress(FileNotFoundError),
        os.scandir(run_dir) as entries,
    ):
        names = [entry.name for entry in entries if _RUN_ID.match(entry.name)]
        return [
            name
            for name in names
            if (run_dir / name / JOURNAL).exists() or (run_dir / name / SEGMENTS).exists()
        ]
    return []


def _remote_names(run_dir: str) -> list[str]:
    fs, root = filesystem(run_dir)
    with map_storage_errors(run_dir), contextlib.suppress(FileNotFoundError):
        fs.invalidate_cache(root)
        found = [path.rstrip("/").rpartition("/")[2] for path in fs.ls(root, detail=False)]
        return [name for name in found if _RUN_ID.match(name)]
    return []


def _open_at(address: str) -> RunStore:
    """Open the folder at an address that names it, its journal, or a segment of that."""
    path = local_path(address)
    parts = (str(path) if path is not None else address.rstrip("/")).split("/")
    journal = parts.pop() if parts[-1].endswith(".jsonl") else JOURNAL
    if parts[-1] == SEGMENTS:
        parts.pop()
    folder = RunStore("/".join(parts[:-1]) or "/", parts[-1], journal)
    if not folder.exists():
        raise InputError("run", f"there is no journal at {address}")
    return folder
