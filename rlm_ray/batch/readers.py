"""Files into rows, one reader for each format. What is wrong with a row becomes its `why`, and the next one is read.

Texts are read here, byte by byte, and not by Ray Data or pyarrow: those give up the whole block or file at the first
line that is not UTF-8, not JSON, or has a cell too many.
"""

from __future__ import annotations

from rlm_ray.batch.csv_reader import read_csv
from rlm_ray.batch.json_reader import from_object, read_json
from rlm_ray.batch.parquet_reader import from_arrow, read_parquet
from rlm_ray.batch.row import RawRow
from rlm_ray.errors import InputError
from rlm_ray.runs.context_loader import decode_utf8

__all__ = ["from_arrow", "from_object", "read_csv", "read_json", "read_parquet", "read_text"]


def read_text(data: bytes) -> RawRow:
    """A whole file as one row."""
    try:
        return RawRow({"text": decode_utf8(data, "")})
    except InputError as error:
        return RawRow(why=error.why)
