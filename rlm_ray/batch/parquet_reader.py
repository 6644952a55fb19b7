"""Parquet as rows: the columns that are needed, a few rows at a time, each value by itself where one is odd.

- Columns that nobody asks for are not read, so what is odd in them costs nothing.
- Texts stay dictionaries until their row is made: a file of a few kB may hold one long text in a million rows.
- A file whose metadata says that it unpacks to far more than it holds is refused before it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from rlm_ray.batch.raw_rows import RawRow, RefusedError, not_utf8

_BATCH_BYTES = 4_000_000
_BATCH_ROWS = 1024
_UNPACKED_ROWS = 64
"""So many rows of the largest size may a file unpack to that packs them as tightly as `_MAX_RATIO`."""
_MAX_RATIO = 200


def read_parquet(
    stream: Any,
    max_row_bytes: int,
    needed: Callable[[Any], Collection[str]] | None = None,
    tell: Callable[[float], None] = lambda _: None,
) -> Iterator[RawRow]:
    """Yield the rows, however large the file. `needed` names columns of a `pyarrow.Schema` (None: all); `tell` hears how
    much of the file has been read. Raises `RefusedError` for one that unpacks to too much.
    """
    import pyarrow.parquet as pq  # type: ignore[import-untyped]  # ships no types

    with pq.ParquetFile(stream) as plain:
        schema, metadata = plain.schema_arrow, plain.metadata
        names = [name for name in schema.names if needed is None or name in needed(schema)]
        nbytes = _check_size(metadata, set(names), max_row_bytes)
        texts = [name for name in names if is_text(schema.field(name).type)]
        if not names:
            yield from (RawRow() for _ in range(metadata.num_rows))
            return
        file = pq.ParquetFile(stream, metadata=metadata, read_dictionary=texts)
        fitting = _BATCH_BYTES * metadata.num_rows // max(nbytes, 1)
        done = 0
        for batch in file.iter_batches(batch_size=min(max(fitting, 1), _BATCH_ROWS), columns=names):
            yield from from_arrow(batch)
            done += batch.num_rows
            tell(done / metadata.num_rows)


def is_text(kind: Any) -> bool:
    """Tell whether values of this type are texts, or bytes that may be."""
    import pyarrow as pa

    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
    )


def _check_size(metadata: Any, names: Collection[str], max_row_bytes: int) -> int:
    """Return the bytes that the named columns unpack to. Raises `RefusedError` for a file made to fill a memory."""
    packed = unpacked = 0
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for column in map(group.column, range(group.num_columns)):
            if column.path_in_schema.partition(".")[0] in names or column.path_in_schema in names:
                packed += column.total_compressed_size
                unpacked += column.total_uncompressed_size
    limit = _UNPACKED_ROWS * max_row_bytes
    if unpacked > limit and unpacked > _MAX_RATIO * packed:
        why = (
            f"unpacks from {packed / 1e6:,.2f} MB to {unpacked / 1e9:,.1f} GB by its metadata, above {limit / 1e9:,.1f} GB; "
            "raise --max-row-bytes if you trust the file"
        )
        raise RefusedError(why)
    return unpacked


def from_arrow(batch: Any) -> Iterator[RawRow]:
    """Yield the rows of a record batch or table, a few at a time."""
    size = max(1, min(batch.num_rows, _BATCH_BYTES // max(1, _longest_row(batch))))
    for start in range(0, batch.num_rows, size):
        few = batch.slice(start, size)
        try:
            rows = [RawRow(values) for values in few.to_pylist()]
        except Exception:  # noqa: BLE001 - one value of one row; Arrow raises OverflowError, KeyError, ValueError ...
            rows = [_one(few, place) for place in range(few.num_rows)]
        yield from rows


def _longest_row(batch: Any) -> int:
    """Return a bound on the bytes of a row's texts that stand in dictionaries."""
    import pyarrow as pa
    import pyarrow.compute as pc  # type: ignore[import-untyped]  # ships no types

    longest = 0
    for column in batch.columns:
        chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
        for chunk in chunks:
            if pa.types.is_dictionary(chunk.type) and is_text(chunk.type):
                longest += pc.max(pc.binary_length(chunk.dictionary)).as_py() or 0
    return longest


def _one(batch: Any, place: int) -> RawRow:
    """Read a row, value by value; one that has no Python value is a text of Arrow's, or costs the row."""
    values = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            values[name] = column[place].as_py()
        except UnicodeDecodeError as error:
            return RawRow(why=f"{not_utf8(error)} in the column {name!r}")
        except Exception as error:  # noqa: BLE001 - see from_arrow
            shown = _as_text(column.slice(place, 1))
            if shown is None:
                return RawRow(why=f"the column {name!r} cannot be read: {error}")
            values[name] = shown
    return RawRow(values)


def _as_text(column: Any) -> str | None:
    """Return a value that Python has no type for as text: times beyond the year 9999 or in a zone nobody knows, in
    UTC.
    """
    import pyarrow as pa

    kind: Any = column.type
    try:
        if pa.types.is_timestamp(kind) and kind.tz is not None:
            text: str = column.cast(pa.timestamp(kind.unit)).cast(pa.string())[0].as_py()
            return f"{text}Z"
        shown: str = column.cast(pa.string())[0].as_py()
    except Exception:  # noqa: BLE001 - Arrow has no text for it either
        return None
    return shown


def needed_columns(schema: Any, named: Sequence[str | None], further: Collection[str]) -> Collection[str]:
    """Return the columns of a schema that rows need: those named, an id and a text, and where none is called text the
    only one with texts.
    """
    usual = {name for name in schema.names if name.casefold() in ("id", "text")}
    found = {name for name in named if name} | set(further) | usual
    if not any(name.casefold() == "text" for name in usual):
        texts = [name for name in schema.names if is_text(schema.field(name).type) and name not in usual]
        found |= set(texts) if len(texts) == 1 else set()
    return found
