"""Tables that a program holds, as a corpus; and the same table again with the answers beside its rows.

- Rows are read as Arrow reads them, a slice at a time, whatever kind of table it is.
- On the way back nothing is converted: a table keeps its columns, types, categories and index, and gets further columns.
- pandas and polars are imported by whoever has made the table, never here first.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa  # type: ignore[import-untyped]  # ships no types

from rlm_ray.batch.dataset import StoredDataset, is_dataset
from rlm_ray.batch.parquet_reader import from_arrow
from rlm_ray.batch.raw_rows import RawRow, Source
from rlm_ray.batch.source import IterableSource
from rlm_ray.documents.files import Files
from rlm_ray.errors import InputError

_SLICE_ROWS = 256


class Table(Source, Protocol):
    """Rows of a program, and what becomes of them."""

    def with_answers(self, answers: Any) -> Any:
        """Return the rows with the columns of an Arrow table of as many rows beside them, as the kind they came as."""

    def row_count(self) -> int:
        """Return how many rows there are; of an iterator, how many were read. Asked once the batch has ended."""


def open_table(source: Any) -> Table | None:
    """Return the table that a program gives; None where it names files. Raises `InputError` for what is neither."""
    if _names_files(source):
        return None
    kind = (type(source).__module__.partition(".")[0], type(source).__name__)
    if kind == ("polars", "LazyFrame"):
        raise InputError("source", "is a polars LazyFrame; collect() it first")
    if kind == ("pandas", "Series"):
        source, kind = source.to_frame(source.name or "text"), ("pandas", "DataFrame")
    if kind in _DATAFRAMES:
        return _DATAFRAMES[kind](source)
    if is_dataset(source):
        return StoredDataset(source)
    if hasattr(source, "__arrow_c_stream__") or isinstance(source, pa.RecordBatch):
        return ArrowTable(pa.table(source))
    if isinstance(source, Iterable) and not isinstance(source, bytes | Mapping):
        return RowList(source)
    why = f"is files, a dataframe, an Arrow table, a Ray dataset, or mappings or texts one after the other; got {type(source).__name__}"
    raise InputError("source", why)


def _names_files(source: Any) -> bool:
    if isinstance(source, str | Path | Files):
        return True
    return (
        isinstance(source, list | tuple) and bool(source) and all(isinstance(item, Path) for item in source)
    )


class _SlicedTable:
    """Reads a table that knows its length, a slice at a time."""

    name = IterableSource.name
    """One name for all of them: what goes on from an output is compared row by row."""

    def __init__(self, table: Any, columns: Sequence[str]) -> None:
        self._table, self._read = table, 0
        doubled = {name for place, name in enumerate(columns) if name in columns[:place]}
        if doubled:
            raise InputError("source", f"has two columns {min(doubled)!r}; rename one of them")

    def read(self) -> Iterator[RawRow]:
        self._read = 0
        for start in range(0, len(self._table), _SLICE_ROWS):
            for row in self._rows(start, min(start + _SLICE_ROWS, len(self._table))):
                self._read += 1
                yield row

    def fraction_read(self) -> float | None:
        return self._read / max(len(self._table), 1)

    def row_count(self) -> int:
        return len(self._table)

    def _rows(self, start: int, stop: int) -> Iterator[RawRow]:
        """Yield these rows of the table."""
        raise NotImplementedError


class ArrowTable(_SlicedTable):
    """An Arrow table."""

    def __init__(self, table: Any) -> None:
        super().__init__(table, table.column_names)

    def _rows(self, start: int, stop: int) -> Iterator[RawRow]:
        yield from from_arrow(self._table.slice(start, stop - start))

    def with_answers(self, answers: Any) -> Any:
        table = self._table
        for field in answers.schema:
            table = table.append_column(field, answers[field.name])
        return table


class PolarsTable(_SlicedTable):
    """A dataframe of polars."""

    def __init__(self, frame: Any) -> None:
        super().__init__(frame, frame.columns)

    def _rows(self, start: int, stop: int) -> Iterator[RawRow]:
        yield from from_arrow(self._table.slice(start, stop - start).to_arrow())

    def with_answers(self, answers: Any) -> Any:
        return self._table.hstack(_package_of(self._table).from_arrow(answers))


class PandasTable(_SlicedTable):
    """A dataframe of pandas."""

    def __init__(self, frame: Any) -> None:
        if frame.columns.nlevels > 1:
            raise InputError("source", "has columns of several levels; give them single names")
        super().__init__(frame, [str(name) for name in frame.columns])

    def _rows(self, start: int, stop: int) -> Iterator[RawRow]:
        few = self._table.iloc[start:stop]
        few = few.set_axis([str(name) for name in few.columns], axis=1)
        try:
            rows = list(from_arrow(pa.Table.from_pandas(few, preserve_index=False)))
        except (
            pa.ArrowException,
            TypeError,
            ValueError,
            OverflowError,
        ):  # a column of objects of several kinds
            rows = list(_rows_of_objects(few))
        yield from rows

    def with_answers(self, answers: Any) -> Any:
        pd = _package_of(self._table)
        nullable = {pa.int64(): pd.Int64Dtype(), pa.int32(): pd.Int32Dtype(), pa.bool_(): pd.BooleanDtype()}
        frame = self._table.copy()
        for field in answers.schema:
            column = answers[field.name]
            if pa.types.is_nested(field.type):
                frame[field.name] = pd.Series(column.to_pylist(), index=frame.index, dtype=object)
            else:
                frame[field.name] = column.to_pandas(types_mapper=nullable.get).array
        return frame


def _rows_of_objects(frame: Any) -> Iterator[RawRow]:
    """Yield the rows of a frame with values that Arrow has no one type for; what is missing is None."""
    columns = {}
    for at, name in enumerate(frame.columns):
        values = frame.iloc[:, at]
        cells = zip(values.tolist(), values.isna().tolist(), strict=True)
        columns[name] = [None if is_missing else value for value, is_missing in cells]
    for row in zip(*columns.values(), strict=True):
        yield RawRow(dict(zip(columns, row, strict=True)))


_DATAFRAMES: Mapping[tuple[str, str], Callable[[Any], Table]] = {
    ("pandas", "DataFrame"): PandasTable,
    ("polars", "DataFrame"): PolarsTable,
}


def _package_of(frame: Any) -> Any:
    """Return the package that a dataframe is of."""
    return sys.modules[type(frame).__module__.partition(".")[0]]


class RowList(IterableSource):
    """Mappings or texts one after the other. What an iterator gives is kept, for it gives it only once."""

    def __init__(self, items: Iterable[Any]) -> None:
        self._given, self._kept = items, list[Any]()
        super().__init__(_recorded(items, self._kept) if isinstance(items, Iterator) else items)

    def row_count(self) -> int:
        if not isinstance(self._given, Iterator):
            self._kept = list(self._given)
        return len(self._kept)

    def with_answers(self, answers: Any) -> list[dict[str, Any]]:
        """Return a list of dicts. A column of a row that an answer has, too, is called `row_...` there."""
        rows = zip(self._kept, answers.to_pylist(), strict=False)  # a thread may have read ahead meanwhile
        return [{**_renamed(item, answer), **answer} for item, answer in rows]


def _recorded(items: Iterator[Any], seen: list[Any]) -> Iterator[Any]:
    for item in items:
        seen.append(item)
        yield item


def _renamed(item: Any, answer: Mapping[str, Any]) -> dict[Any, Any]:
    row = item if isinstance(item, Mapping) else {"text": item}
    return {f"row_{name}" if name in answer else name: value for name, value in row.items()}
