"""JSONL and Parquet: the rows of the output as bytes and back, and as one long file written bit by bit."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import pyarrow as pa  # type: ignore[import-untyped]  # ships no types
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # ships no types

from rlm_ray.batch.results import output_column_name
from rlm_ray.core.display import replace_surrogates
from rlm_ray.errors import InputError

RowDict = Mapping[str, Any]
"""One row of the output."""

_TYPES = {
    "row": pa.int64(),
    "id": pa.string(),
    "answer": pa.string(),
    "error": pa.string(),
    "stop_reason": pa.string(),
    "calls": pa.int64(),
    "input_tokens": pa.int64(),
    "output_tokens": pa.int64(),
    "cost_usd": pa.float64(),
    "turns": pa.int32(),
    "seconds": pa.float64(),
    "run_id": pa.string(),
    "trace_id": pa.string(),
    "key": pa.string(),
}
_GROUP_BYTES = 16_000_000


class RowWriter(Protocol):
    """A file that rows go to, one after the other."""

    def put(self, cells: RowDict) -> None: ...


class RowFormat(Protocol):
    """How rows are written down."""

    suffix: str

    def packed(self, rows: Sequence[RowDict]) -> bytes:
        """Return a file with these rows."""

    def unpacked(self, data: bytes, columns: Sequence[str] | None = None) -> Iterator[RowDict]:
        """Yield the rows of a file; only these columns of them, where that is cheaper."""

    def sink(self, file: Any) -> AbstractContextManager[RowWriter]:
        """Write a long file; it is whole when the block ends."""


class Jsonl:
    """JSON Lines: an object on each line."""

    suffix = ".jsonl"

    def packed(self, rows: Sequence[RowDict]) -> bytes:
        return b"".join(map(_line, rows))

    def unpacked(self, data: bytes, columns: Sequence[str] | None = None) -> Iterator[RowDict]:  # noqa: ARG002
        return map(json.loads, data.splitlines())

    @contextmanager
    def sink(self, file: Any) -> Iterator[RowWriter]:
        yield JsonlWriter(file)


class JsonlWriter:
    def __init__(self, file: Any) -> None:
        self._file = file

    def put(self, cells: RowDict) -> None:
        self._file.write(_line(cells))


def _line(cells: RowDict) -> bytes:
    return json.dumps(replace_surrogates(cells), ensure_ascii=False, default=str).encode() + b"\n"


class Parquet:
    """Parquet: columns with types; those of a schema stand behind the answer."""

    suffix = ".parquet"

    def __init__(self, further: Any = None) -> None:
        own = [pa.field(name, kind) for name, kind in _TYPES.items()]
        others = [column.with_name(output_column_name(column.name)) for column in further or ()]
        self.schema = pa.schema(own[:3] + others + own[3:])

    def packed(self, rows: Sequence[RowDict]) -> bytes:
        buffer = io.BytesIO()
        pq.write_table(self._table(rows), buffer)
        return buffer.getvalue()

    def unpacked(self, data: bytes, columns: Sequence[str] | None = None) -> Iterator[RowDict]:
        with pq.ParquetFile(pa.BufferReader(data)) as file:
            for batch in file.iter_batches(batch_size=256, columns=columns):
                yield from batch.to_pylist()

    @contextmanager
    def sink(self, file: Any) -> Iterator[RowWriter]:
        with pq.ParquetWriter(file, self.schema) as writer:
            groups = ParquetRowGroups(lambda rows: writer.write_table(self._table(rows)))
            yield groups
            groups.flush()

    def _table(self, rows: Iterable[RowDict]) -> Any:
        return pa.Table.from_pylist([replace_surrogates(row) for row in rows], schema=self.schema)


class ParquetRowGroups:
    """Gathers rows into row groups of a bounded size."""

    def __init__(self, write: Any) -> None:
        self._write, self._rows, self._nbytes = write, list[RowDict](), 0

    def put(self, cells: RowDict) -> None:
        self._rows.append(cells)
        self._nbytes += 200 + 2 * len(cells.get("answer") or "")
        if self._nbytes >= _GROUP_BYTES:
            self.flush()

    def flush(self) -> None:
        if self._rows:
            self._write(self._rows)
            self._rows, self._nbytes = [], 0


def format_of(out: str, named: str | None, further: Any = None) -> RowFormat:
    """Return the format that is named, else that of the suffix, else JSONL. `further` are the columns of a schema."""
    kind = named or ("parquet" if out.endswith(".parquet") else "jsonl")
    match kind:
        case "jsonl":
            return Jsonl()
        case "parquet":
            return Parquet(further)
        case _:
            raise InputError("--format", f"must be jsonl or parquet; got {kind!r}")
