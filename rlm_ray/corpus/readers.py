"""Files into rows, one reader for each format. What is wrong with a row becomes its `why`, and the next one is read.

JSONL and CSV are read here, byte by byte, and not by Ray Data or pyarrow: those give up the whole block or file at the
first line that is not UTF-8, not JSON, or has a cell too many. One thread reads 100 MB/s of it, far more than models do.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from rlm_ray.corpus.lines import Stream, TooLong, lines
from rlm_ray.corpus.raw import Raw, not_utf8, too_large

_PASSED_OVER = "\ud800"
"""Stands before the size of a line that was too long: neither UTF-8 nor `surrogateescape` ever gives this character."""
_BATCH_BYTES = 4_000_000


def read_jsonl(stream: Stream, most: int) -> Iterator[Raw]:
    """A JSON object, or a string, on each line; blank lines are no rows."""
    for line in lines(stream, most):
        if isinstance(line, TooLong):
            yield too_large(line.nbytes, most)
        elif line.strip():
            yield _from_json(line)


def _from_json(line: bytes) -> Raw:
    try:
        value = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return Raw(why=not_utf8(error))
    except (ValueError, RecursionError) as error:
        return Raw(why=f"is not JSON: {error}")
    return from_object(value)


def from_object(value: Any) -> Raw:
    """A mapping, or a text that is the one column `text`."""
    if isinstance(value, str):
        return Raw({"text": value})
    if isinstance(value, Mapping):
        return Raw({str(name): item for name, item in value.items()})
    return Raw(why=f"is neither a mapping of columns nor a text, but {type(value).__name__}")


def read_csv(stream: Stream, most: int, delimiter: str = ",") -> Iterator[Raw]:
    """The first line names the columns; all values are texts."""
    csv.field_size_limit(
        max(csv.field_size_limit(), most)
    )  # one for the whole process, so it only ever grows
    reader = csv.reader(_texts(lines(stream, most)), delimiter=delimiter)
    header: list[str] | None = None
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Raw(why=f"is not CSV: {error}")
            continue
        if header is None:
            header = cells
        elif cells:
            yield _from_cells(header, cells, most)


def _texts(found: Iterable[bytes | TooLong]) -> Iterator[str]:
    for line in found:
        if isinstance(line, TooLong):
            yield f"{_PASSED_OVER}{line.nbytes}\n"
        else:
            yield line.decode("utf-8", "surrogateescape") + "\n"


def _from_cells(header: Sequence[str], cells: Sequence[str], most: int) -> Raw:
    for cell in cells:
        if _PASSED_OVER in cell:
            return too_large(int(cell.partition(_PASSED_OVER)[2].split()[0]), most)
        if not cell.isascii() and (why := _undecoded(cell)):
            return Raw(why=why)
    if len(cells) != len(header):
        return Raw(why=f"has {len(cells)} cells where the header has {len(header)}")
    return Raw(dict(zip(header, cells, strict=True)))


def _undecoded(cell: str) -> str:
    try:
        cell.encode("utf-8")
    except UnicodeEncodeError as error:
        return f"is not UTF-8 (byte 0x{ord(cell[error.start]) - 0xDC00:02x} in a cell)"
    return ""


def read_parquet(stream: Any, tell: Callable[[float], None] = lambda _: None) -> Iterator[Raw]:
    """A few rows at a time, however large the file; `tell` hears how much of it has been read."""
    import pyarrow.parquet as pq  # type: ignore[import-untyped]  # ships no types

    with pq.ParquetFile(stream) as file:
        facts = file.metadata
        nbytes = sum(facts.row_group(group).total_byte_size for group in range(facts.num_row_groups))
        fitting = _BATCH_BYTES * facts.num_rows // max(nbytes, 1)
        done = 0
        for batch in file.iter_batches(batch_size=min(max(fitting, 1), 1024)):
            yield from from_arrow(batch)
            done += batch.num_rows
            tell(done / facts.num_rows)


def from_arrow(batch: Any) -> Iterator[Raw]:
    """The rows of a record batch or table."""
    try:
        yield from [Raw(values) for values in batch.to_pylist()]
    except UnicodeDecodeError:
        for place in range(batch.num_rows):
            yield _from_slice(batch.slice(place, 1))


def _from_slice(batch: Any) -> Raw:
    try:
        return Raw(batch.to_pylist()[0])
    except UnicodeDecodeError as error:
        return Raw(why=not_utf8(error))


def read_text(data: bytes) -> Raw:
    """A whole file as one row."""
    try:
        return Raw({"text": data.decode("utf-8-sig")})
    except UnicodeDecodeError as error:
        return Raw(why=not_utf8(error))
