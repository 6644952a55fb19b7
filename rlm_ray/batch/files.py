"""Files of rows, wherever fsspec reaches: a file, a folder, a glob, or several of these.

- `.jsonl`, `.ndjson`, `.json`, `.csv`, `.tsv` (each also `.gz`, `.bz2`, `.xz` or `.zst`) and `.parquet` hold many rows.
- A workbook (`.xlsx`, `.xlsm`, `.xlsb`, `.xls`, `.ods`) holds the rows of its sheets.
- Any other file is a text or a document (PDF, Word ...), and one row. Of a folder those are read that `ask` reads, too: none that
  git ignores, no hidden file, cache, lock file or binary.
- A single file that cannot be read from its beginning is refused; of several it is a row that says why.
- Files are read in the order of their paths, so a row has the same number at each reading.
- Text formats are read by our own readers and not by Ray Data or pyarrow: those give up a whole block or file at the
  first line that is not UTF-8, not JSON, or has a cell too many. Here it is one row with an error.
"""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any, TypeAlias

from rlm_ray.batch.csv_reader import read_csv
from rlm_ray.batch.json_reader import read_json
from rlm_ray.batch.parquet_reader import read_parquet
from rlm_ray.batch.raw_rows import CHUNK, RawRow, RefusedError, Utf8Stream, too_large
from rlm_ray.documents.converter import DocumentReader
from rlm_ray.documents.files import Files
from rlm_ray.documents.folder import Selection, describe_passed_over, list_files, would_be_read
from rlm_ray.documents.formats import HEAD_BYTES, WORKBOOKS, detect_format, kind_of
from rlm_ray.errors import InputError, RLMError
from rlm_ray.util.filesystem import StorageErrorFile, filesystem, local_path, map_storage_errors

Needed: TypeAlias = "Callable[[Any], Collection[str]]"
"""The columns of a `pyarrow.Schema` that rows need."""

_KINDS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".tab": "tsv",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
    **dict.fromkeys(WORKBOOKS, "workbook"),
}
_MAX_WORKBOOK_BYTES = 1_000_000_000
_CHUNKED = frozenset({"jsonl", "csv", "tsv"})
_MIN_CERTAINTY = 4
"""What has been read is told as a share once it is so many times what it may be wrong by."""
_PACKED = (".gz", ".bz2", ".xz", ".zst")


@dataclass(frozen=True, slots=True)
class File:
    """One file of rows."""

    fs: Any
    path: str
    id: str
    """What its rows are called after: its path below what the user named."""
    nbytes: int
    discovered: bool
    """In a folder, and not named itself."""

    @property
    def compression(self) -> str:
        lower = self.path.lower()
        return next((self.path[-len(suffix) :] for suffix in _PACKED if lower.endswith(suffix)), "")

    @property
    def kind(self) -> str:
        return _KINDS.get(PurePath(self.path.removesuffix(self.compression)).suffix.lower(), "text")


class FileSource:
    """Reads the rows of files."""

    def __init__(self, files: Files, max_row_bytes: int, needed: Needed | None = None) -> None:
        """`files` says what of folders is read, and in which encoding texts are that are not UTF-8."""
        named = [str(path) for path in files.paths]
        self.name = " ".join(str(local_path(name) or name) for name in named)
        self.columns: dict[str, None] = {}
        """Those that files say they have, read or not; others are known by their rows."""
        self._named, self._max_row_bytes, self._needed = named, max_row_bytes, needed
        self._encoding, selection = files.encoding, Selection.of(files.include, files.exclude)
        self.passed_over: Counter[str] = Counter()
        """How many files and folders of folders are left out, by reason."""
        self._files = [file for name in named for file in find(name, self.passed_over, selection)]
        self._nbytes = max(sum(file.nbytes for file in self._files), 1)
        self._before = 0
        self._here: Callable[[], float] = lambda: 0.0
        """Bytes of the files before, and how many of the one that is read now."""
        self._error_bytes = 0
        """By how much that may be wrong: what is read and not yet handed out as rows, or a file that is read as a whole."""

    def check_output(self, out: str) -> None:
        """Raise `InputError` where what is written to `out` is, or would be the next time, among the files that are read."""
        path = local_path(out)
        if path is None:
            return
        place = path.absolute()
        named = {Path(file.path) for file in self._files}
        parts = place.with_name(f"{place.name}.parts")
        is_read = place in named or any({place, parts} & set(one.parents) for one in named)
        local = [one.absolute() for name in self._named if (one := local_path(name)) is not None]
        is_read |= any(would_be_read(one, place) or place.match(str(one)) for one in local)
        if is_read:
            why = f"lies among the files that are read ({self.name}), so going on would read its own answers; write it elsewhere"
            raise InputError(out, why)

    def read(self) -> Iterator[RawRow]:
        self._before = 0
        with DocumentReader(self._encoding) as reader:
            for file in self._files:
                self._error_bytes = CHUNK if file.kind in _CHUNKED else file.nbytes
                yield from (
                    _text(file, self._max_row_bytes, reader)
                    if file.kind == "text"
                    else self._many(file, reader)
                )
                self._before += file.nbytes
                self._here = lambda: 0.0
            self._error_bytes = 0

    def fraction_read(self) -> float | None:
        read = self._before + self._here()
        if read < self._error_bytes * _MIN_CERTAINTY:
            return None  # a guess that is wrong by so much helps nobody
        return min(read / self._nbytes, 1.0)

    def _many(self, file: File, reader: DocumentReader) -> Iterator[RawRow]:
        number = 0
        try:
            for raw in self._rows(file, reader):
                number += 1
                yield replace(raw, id=f"{file.id}:{number}")
        except UnreadableError as error:
            # This is the data, and the next reading ends here, too. A storage that fails may do better next time, and
            # all rows behind would then have other numbers: that is an InputError, which goes up.
            if not number and len(self._files) == 1:
                raise InputError(file.path, error.why) from error
            why = f"cannot be read, nor can what follows in {file.path}: {error.why}"
            yield RawRow(why=why, id=f"{file.id}:{number + 1}")

    def _rows(self, file: File, reader: DocumentReader) -> Iterator[RawRow]:
        with map_storage_errors(file.path):
            opened = file.fs.open(file.path, "rb")
        with opened as plain, _errors_of_data():
            stream = StorageErrorFile(plain, file.path)
            if file.kind == "parquet":
                self._error_bytes = 0
                tell = lambda share: self._tell(share * file.nbytes)  # noqa: E731
                yield from read_parquet(stream, self._max_row_bytes, self._columns_needed, tell)
                return
            if file.kind == "workbook":
                data = _whole(_decompress(stream, file.compression), _MAX_WORKBOOK_BYTES)
                yield from _sheet_rows(reader, data, file.path.removesuffix(file.compression))
                return
            self._here = plain.tell
            text = Utf8Stream(_Head(_decompress(stream, file.compression)))
            if file.kind == "jsonl":
                yield from read_json(text, self._max_row_bytes)
            else:
                yield from read_csv(text, self._max_row_bytes, "\t" if file.kind == "tsv" else ",")

    def _columns_needed(self, schema: Any) -> Collection[str]:
        self.columns |= dict.fromkeys(schema.names)
        return schema.names if self._needed is None else self._needed(schema)

    def _tell(self, nbytes: float) -> None:
        self._here = lambda: nbytes


class _Head:
    """A stream of text, checked by its first bytes."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._head: bytes = stream.read(CHUNK)
        if kind := kind_of(self._head):
            raise ValueError(f"it is {kind}; save or export the table as CSV or JSON Lines in UTF-8")

    def read(self, size: int, /) -> bytes:
        head, self._head = self._head, b""
        return head or bytes(self._stream.read(size))


class UnreadableError(Exception):
    """The data of a file cannot be read any further."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


@contextmanager
def _errors_of_data() -> Iterator[None]:
    """Turn whatever a reader raises about the data into an `UnreadableError`; Arrow raises many kinds."""
    try:
        yield
    except RefusedError as error:
        raise UnreadableError(error.why) from error
    except RLMError:
        raise
    except Exception as error:
        raise UnreadableError(" ".join(str(error).split()) or type(error).__name__) from error


def find(name: str, passed_over: Counter[str], selection: Selection) -> list[File]:
    """Return the files a path, URL or glob names, and count what is left out of folders. Raises `InputError` where there is none."""
    fs, path = filesystem(name)
    with map_storage_errors(name):
        if fs.isfile(path):
            return [File(fs, path, PurePath(path).name, fs.size(path) or 0, discovered=False)]
        if fs.isdir(path):
            listing = list_files([name if local_path(name) is None else Path(path)], selection)
            passed_over += listing.passed_over
            files = [File(fs, file.path, file.id, file.nbytes, discovered=True) for file in listing.files]
            found = sorted(files, key=lambda file: file.path)
        else:
            found = _list_below(fs, _glob_root(path), fs.glob(path, detail=True)) if _is_glob(path) else []
    if not found:
        why = "matches no file" if _is_glob(path) else "does not exist, or holds no file"
        why = f"holds no file to read ({line})" if (line := describe_passed_over(passed_over)) else why
        raise InputError(name, f"{why}; check the path")
    return found


def _list_below(fs: Any, root: str, facts: dict[str, dict[str, Any]]) -> list[File]:
    prefix = root.rstrip("/") + "/"
    files = []
    for path in sorted(facts):
        short = path.removeprefix(prefix)
        hidden = any(part.startswith(".") for part in short.split("/"))
        if facts[path]["type"] == "file" and not hidden:
            files.append(File(fs, path, short, facts[path].get("size") or 0, discovered=True))
    return files


def _is_glob(path: str) -> bool:
    return any(mark in path for mark in "*?[")


def _glob_root(pattern: str) -> str:
    """Return the folder of a glob that is no pattern."""
    parts = pattern.split("/")
    return "/".join(parts[: next(place for place, part in enumerate(parts) if _is_glob(part))])


def _decompress(stream: Any, packed: str) -> Any:
    packed = packed.lower()
    if packed == ".gz":
        return gzip.GzipFile(fileobj=stream)
    if packed == ".bz2":
        return bz2.BZ2File(stream)
    if packed == ".xz":
        return lzma.LZMAFile(stream)
    if packed == ".zst":
        import pyarrow as pa  # type: ignore[import-untyped]  # ships no types

        return pa.CompressedInputStream(pa.PythonFile(stream, "r"), "zstd")
    return stream


def _sheet_rows(reader: DocumentReader, data: bytes, path: str) -> Iterator[RawRow]:
    """Yield the rows of all sheets of a workbook, which is taken apart in the worker process."""
    try:
        lines = reader.rows(data, path)
    except InputError as error:
        raise RefusedError(error.why) from error
    for line in lines:
        yield RawRow(json.loads(line))


def _text(file: File, max_row_bytes: int, reader: DocumentReader) -> Iterator[RawRow]:
    """Yield the one row of a text file; a binary file that was only found is none."""
    if file.nbytes > max_row_bytes:
        yield RawRow(why=too_large(file.nbytes, max_row_bytes).why, id=file.id)
        return
    try:
        with map_storage_errors(file.path):
            opened = file.fs.open(file.path, "rb")
        with opened as plain, _errors_of_data():
            data = _whole(_decompress(StorageErrorFile(plain, file.path), file.compression), max_row_bytes)
    except InputError as error:
        yield RawRow(why=error.why, id=file.id)
        return
    except UnreadableError as error:
        yield RawRow(why=f"cannot be read: {error.why}", id=file.id)
        return
    if len(data) > max_row_bytes:
        yield RawRow(
            why=f"unpacks to more than the {max_row_bytes / 1e6:,.1f} MB of max_row_bytes", id=file.id
        )
        return
    path = file.path.removesuffix(file.compression)
    if not (file.discovered and detect_format(data[:HEAD_BYTES], path).name == "binary"):
        yield _text_row(reader, data, path, file.id)


def _text_row(reader: DocumentReader, data: bytes, path: str, ident: str) -> RawRow:
    """Return a whole file as one row. Nobody looks at each row, so a text whose encoding would be a guess is not read."""
    try:
        read = reader.read(data, path)
    except InputError as error:
        return RawRow(why=error.why, id=ident)
    if read.guessed:
        why = f"is not UTF-8, it looks like {read.guessed}; say so (--encoding), or save it as UTF-8"
        return RawRow(why=why, id=ident)
    return RawRow({"path": ident, "text": read.text}, id=ident)


def _whole(stream: Any, max_row_bytes: int) -> bytes:
    """Read all of a stream, or a little more than `max_row_bytes` of it."""
    held: list[bytes] = []
    size = 0
    while size <= max_row_bytes and (data := stream.read(CHUNK)):
        held.append(data)
        size += len(data)
    return b"".join(held)
