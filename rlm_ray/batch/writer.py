"""The output of a batch: a folder of parts, each written whole; and, where a file was named, all of it in order.

A row is done when its part is there. `job.json` beside the parts says which run they belong to and what was asked.
Rows are in a part by number; which rows share a part is a matter of time.

`PartWriter` gathers results into parts that are neither many nor late: a part is written at 1,000 rows, at 16 MB, or when its first row has waited 5 s, later in a long job a hundredth of its
time: so a kill costs no more than that, and a slow job does not leave ten thousand small files.
"""

from __future__ import annotations

import asyncio
import heapq
import json
import re
from collections.abc import Callable, Coroutine, Iterable, Iterator
from pathlib import PurePosixPath
from typing import Any

from rlm_ray.batch.formats import RowDict, RowFormat, RowWriter
from rlm_ray.batch.results import CompletedRows, RowResult
from rlm_ray.errors import InputError
from rlm_ray.util.filesystem import AtomicFolder, filesystem, map_storage_errors

JOB = "job.json"
PARTS = ".parts"
_PART = re.compile(r"part-(\d{6,})(\.\w+)$")


PART_ROWS, PART_BYTES = 1_000, 16_000_000
WAIT_S, WAIT_SHARE = 5.0, 0.01
LOOK_S = 0.5
_FULL = 4
"""Above so many parts on their way, rows wait for the storage."""


class BatchOutput:
    """Reads and writes the output of a job."""

    def __init__(self, out: str, form: RowFormat) -> None:
        self.out, self._form = out, form
        self._file = PurePosixPath(out).suffix in (".jsonl", ".parquet")
        self.folder = AtomicFolder(out + PARTS if self._file else out)
        self._check_format()
        self._next = (
            max((int(found[1]) for found in map(_PART.match, self._parts()) if found), default=-1) + 1
        )

    def read_manifest(self) -> dict[str, Any] | None:
        """Return what `write_manifest` wrote; None where no job has begun here."""
        data = self.folder.read(JOB)
        if data is None:
            return None
        try:
            noted: dict[str, Any] = json.loads(data)
        except ValueError as error:
            raise InputError(
                f"{self.folder.address}/{JOB}", "is broken; start anew with --restart"
            ) from error
        return noted

    def check_empty(self) -> None:
        """Raise `InputError` where something stands that no job has noted: it may be dear to somebody."""
        fs, path = filesystem(self.out)
        with map_storage_errors(self.out):
            taken = bool(self._parts()) or (self._file and fs.exists(path))
        if taken:
            why = (
                "holds something that is no job's output; give another --out, or overwrite it with --restart"
            )
            raise InputError(self.out, why)

    def write_manifest(self, job: dict[str, Any]) -> None:
        """Note which run this is, and what is asked."""
        self.folder.write(JOB, json.dumps(job, ensure_ascii=False, indent=2).encode() + b"\n")

    def clear(self) -> None:
        """Drop all that an earlier job left here."""
        for name in self.folder.names():
            if name == JOB or _PART.match(name):
                self.folder.delete(name)
        self._next = 0

    def load_completed(self) -> tuple[CompletedRows, int]:
        """Return the rows that are there, and how many of them have failed."""
        completed, failed = CompletedRows(), 0
        for name in self._parts():
            for cells in self._rows(name, ("row", "key", "error")):
                completed.add(cells["row"], cells["key"] or "")
                failed += cells["error"] is not None
        return completed, failed

    def drop_failed_rows(self) -> None:
        """Take failed rows out, so that they are not done any more."""
        for name in self._parts():
            rows = list(self._rows(name))
            good = [cells for cells in rows if cells["error"] is None]
            if not good:
                self.folder.delete(name)
            elif len(good) < len(rows):
                self.folder.write(name, self._form.packed(good))

    def write(self, rows: Iterable[RowDict]) -> None:
        """Write one more part."""
        ordered = sorted(rows, key=_number)
        self.folder.write(f"part-{self._next:06}{self._form.suffix}", self._form.packed(ordered))
        self._next += 1

    def finish(self) -> str:
        """Return where the answers are: the file that was named, made of all parts in the order of the input; or the
        folder.
        """
        if not self._file:
            return self.out
        fs, path = filesystem(self.out)
        beside = f"{path}.new"
        with map_storage_errors(self.out):
            with fs.open(beside, "wb") as file, self._form.sink(file) as sink:
                _put_all(sink, self.rows())
            fs.mv(beside, path)
        return self.out

    def rows(self) -> Iterator[RowDict]:
        """Yield all rows by number. Holds only parts that overlap: those of rows that ran at the same time."""
        first = sorted((_number(next(self._rows(name, ("row",)))), name) for name in self._parts())
        opened: list[tuple[int, str, RowDict, Iterator[RowDict]]] = []
        while opened or first:
            while first and (not opened or first[0][0] <= opened[0][0]):
                name = first.pop(0)[1]
                _push(opened, name, self._rows(name))
            _, name, cells, rest = heapq.heappop(opened)
            yield cells
            _push(opened, name, rest)

    def _rows(self, name: str, columns: tuple[str, ...] | None = None) -> Iterator[RowDict]:
        data = self.folder.read(name)
        return self._form.unpacked(data or b"", columns)

    def _parts(self) -> list[str]:
        return [name for name in self.folder.names() if _PART.match(name)]

    def _check_format(self) -> None:
        """Raise `InputError` where the folder holds parts of another format."""
        for name in self.folder.names():
            found = _PART.match(name)
            if found and found[2] != self._form.suffix:
                why = f"holds {found[2][1:]} parts; use that format, or another --out"
                raise InputError(self.folder.address, why)


def _push(
    opened: list[tuple[int, str, RowDict, Iterator[RowDict]]], name: str, rest: Iterator[RowDict]
) -> None:
    cells = next(rest, None)
    if cells is not None:
        heapq.heappush(opened, (_number(cells), name, cells, rest))


def _number(cells: RowDict) -> int:
    number: int = cells["row"]
    return number


def _put_all(sink: RowWriter, rows: Iterable[RowDict]) -> None:
    for cells in rows:
        sink.put(cells)


class PartWriter:
    """Gathers results and writes them in the background."""

    def __init__(self, output: BatchOutput, clock: Callable[[], float]) -> None:
        self._output, self._clock = output, clock
        self._began = clock()
        self._rows: list[RowResult] = []
        self._nbytes = 0
        self._first_at = 0.0
        self._due = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    def put(self, outcome: RowResult) -> None:
        if not self._rows:
            self._first_at = self._clock()
        self._rows.append(outcome)
        self._nbytes += 300 + len(outcome.answer or "")
        fullness = max(len(self._rows) / PART_ROWS, self._nbytes / PART_BYTES)
        if fullness >= 1:
            self._due.set()
        if fullness >= _FULL:
            self._room.clear()

    async def wait_for_capacity(self) -> None:
        """Wait while more rows come than the storage takes."""
        await self._room.wait()

    async def keep_saving(self) -> None:
        """Save parts until cancelled; a part under way is then finished first."""
        while True:
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._due.wait()
            except TimeoutError:
                if not self._late():
                    continue
            await self.save()

    async def save(self) -> None:
        """Write what there is as one part."""
        rows, self._rows, self._nbytes = self._rows, [], 0
        self._due.clear()
        self._room.set()
        if rows:
            await _finish_even_if_cancelled(
                asyncio.to_thread(self._output.write, [row.as_dict() for row in rows])
            )

    def _late(self) -> bool:
        now = self._clock()
        return bool(self._rows) and now - self._first_at >= max(WAIT_S, WAIT_SHARE * (now - self._began))


async def _finish_even_if_cancelled(work: Coroutine[Any, Any, None]) -> None:
    """Finish the work, also where this is cancelled meanwhile."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise
