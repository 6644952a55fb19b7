"""Workbooks into rows, by the names in the first row of each sheet; they are taken apart in the worker process."""

from __future__ import annotations

import json
from collections.abc import Iterator

from rlm_ray.batch.raw_rows import RawRow, RefusedError
from rlm_ray.documents.reader import DocumentReader
from rlm_ray.errors import InputError


def read_workbook(reader: DocumentReader, data: bytes, path: str) -> Iterator[RawRow]:
    """The rows of all sheets. Raises `RefusedError` where it cannot be read."""
    try:
        lines = reader.rows(data, path)
    except InputError as error:
        raise RefusedError(error.why) from error
    for line in lines:
        yield RawRow(json.loads(line))
