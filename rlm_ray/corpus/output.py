"""The output of a job: a folder of parts, each written whole; and, where a file was named, all of it in order.

A row is done when its part is there. `job.json` beside the parts says which run they belong to and what was asked.
Rows stand in a part by number; which rows share a part is a matter of time.
"""

from __future__ import annotations

import heapq
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import Any

from rlm_ray.corpus.formats import Cells, Format, Sink
from rlm_ray.corpus.marks import Marks
from rlm_ray.corpus.storage import Folder, errors_of, filesystem
from rlm_ray.errors import InputError

JOB = "job.json"
PARTS = ".parts"
_PART = re.compile(r"part-(\d{6,})(\.\w+)$")


class Output:
    """Where a job writes."""

    def __init__(self, out: str, form: Format) -> None:
        self.out, self._form = out, form
        self._file = PurePosixPath(out).suffix in (".jsonl", ".parquet")
        self.folder = Folder(out + PARTS if self._file else out)
        self._check()
        self._next = (
            max((int(found[1]) for found in map(_PART.match, self._parts()) if found), default=-1) + 1
        )

    def job(self) -> dict[str, Any] | None:
        """What `begin` noted; None where no job has begun here."""
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

    def check_free(self) -> None:
        """Raise `InputError` where something stands that no job has noted: it may be dear to somebody."""
        fs, path = filesystem(self.out)
        with errors_of(self.out):
            taken = bool(self._parts()) or (self._file and fs.exists(path))
        if taken:
            why = (
                "holds something that is no job's output; give another --out, or overwrite it with --restart"
            )
            raise InputError(self.out, why)

    def begin(self, job: dict[str, Any]) -> None:
        """Note which run this is, and what is asked."""
        self.folder.write(JOB, json.dumps(job, ensure_ascii=False, indent=2).encode() + b"\n")

    def clear(self) -> None:
        """Drop all that an earlier job left here."""
        for name in self.folder.names():
            if name == JOB or _PART.match(name):
                self.folder.delete(name)
        self._next = 0

    def done(self) -> tuple[Marks, int]:
        """The rows that are there, and how many of them have failed."""
        marks, failed = Marks(), 0
        for name in self._parts():
            for cells in self._rows(name, ("row", "key", "error")):
                marks.add(cells["row"], cells["key"] or "")
                failed += cells["error"] is not None
        return marks, failed

    def forget_failed(self) -> None:
        """Take failed rows out, so that they are not done any more."""
        for name in self._parts():
            rows = list(self._rows(name))
            good = [cells for cells in rows if cells["error"] is None]
            if not good:
                self.folder.delete(name)
            elif len(good) < len(rows):
                self.folder.write(name, self._form.packed(good))

    def write(self, rows: Iterable[Cells]) -> None:
        """One more part."""
        ordered = sorted(rows, key=_number)
        self.folder.write(f"part-{self._next:06}{self._form.suffix}", self._form.packed(ordered))
        self._next += 1

    def finish(self) -> str:
        """Where the answers are: the file that was named, made of all parts in the order of the input; or the folder."""
        if not self._file:
            return self.out
        fs, path = filesystem(self.out)
        beside = f"{path}.new"
        with errors_of(self.out):
            with fs.open(beside, "wb") as file, self._form.sink(file) as sink:
                _put_all(sink, self._ordered())
            fs.mv(beside, path)
        return self.out

    def _ordered(self) -> Iterator[Cells]:
        """All rows by number. Holds only parts that overlap: those of rows that ran at the same time."""
        first = sorted((_number(next(self._rows(name, ("row",)))), name) for name in self._parts())
        opened: list[tuple[int, str, Cells, Iterator[Cells]]] = []
        while opened or first:
            while first and (not opened or first[0][0] <= opened[0][0]):
                name = first.pop(0)[1]
                _push(opened, name, self._rows(name))
            _, name, cells, rest = heapq.heappop(opened)
            yield cells
            _push(opened, name, rest)

    def _rows(self, name: str, columns: tuple[str, ...] | None = None) -> Iterator[Cells]:
        data = self.folder.read(name)
        return self._form.unpacked(data or b"", columns)

    def _parts(self) -> list[str]:
        return [name for name in self.folder.names() if _PART.match(name)]

    def _check(self) -> None:
        """A folder of something else is left alone."""
        for name in self.folder.names():
            found = _PART.match(name)
            if found and found[2] != self._form.suffix:
                why = f"holds {found[2][1:]} parts; use that format, or another --out"
                raise InputError(self.folder.address, why)


def _push(opened: list[tuple[int, str, Cells, Iterator[Cells]]], name: str, rest: Iterator[Cells]) -> None:
    cells = next(rest, None)
    if cells is not None:
        heapq.heappush(opened, (_number(cells), name, cells, rest))


def _number(cells: Cells) -> int:
    number: int = cells["row"]
    return number


def _put_all(sink: Sink, rows: Iterable[Cells]) -> None:
    for cells in rows:
        sink.put(cells)
