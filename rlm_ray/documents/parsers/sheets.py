"""Workbooks (.xlsx, .xlsm, .xlsb, .xls, .ods), by calamine: a table for each sheet, formulas as the values they had."""

from __future__ import annotations

import datetime as dt
import io
import json
from collections.abc import Iterator
from typing import Any

from rlm_ray.core.pages import mark_parts
from rlm_ray.documents.parsers import DocumentError, ParsedDocument, join_cells


def parse(data: bytes) -> ParsedDocument:
    workbook = _open(data)
    tables = [(name, _table(rows)) for name, rows in _sheets(workbook)]
    if not any(text for _, text in tables):
        raise DocumentError("holds no cell with a value")
    return ParsedDocument(mark_parts("sheet", tables), "workbook")


def parse_rows(data: bytes) -> Iterator[str]:
    """Each row of each sheet as a line of JSON: an object by the names in the first row of its sheet.

    The column `sheet` is added where there are several.
    """
    sheets = [(name, rows) for name, rows in _sheets(_open(data)) if rows]
    for name, (header, *rows) in sheets:
        columns = _columns(header)
        for row in rows:
            if any(cell not in ("", None) for cell in row):
                cells = {column: _plain(cell) for column, cell in zip(columns, row, strict=False)}
                own = {"sheet": name} if len(sheets) > 1 and "sheet" not in columns else {}
                yield json.dumps(own | cells, ensure_ascii=False)


def _open(data: bytes) -> Any:
    import python_calamine

    try:
        return python_calamine.CalamineWorkbook.from_filelike(io.BytesIO(data))
    except python_calamine.PasswordError as error:
        raise DocumentError("is protected by a password; save a copy without one") from error


def _sheets(workbook: Any) -> Iterator[tuple[str, list[list[Any]]]]:
    import python_calamine

    for name in workbook.sheet_names:
        try:
            sheet = workbook.get_sheet_by_name(name)
        except python_calamine.WorksheetNotFound:  # a chart on a sheet of its own
            continue
        yield name, sheet.to_python(skip_empty_area=True)


def _table(rows: list[list[Any]]) -> str:
    return "\n".join(join_cells([_shown(cell) for cell in row]) for row in rows if any(c != "" for c in row))


def _columns(header: list[Any]) -> list[str]:
    """Names of columns, none twice and none empty."""
    names: list[str] = []
    for number, cell in enumerate(header, 1):
        name = _shown(cell).strip() or f"column_{number}"
        again = sum(name == other or other.startswith(f"{name}_") for other in names)
        names.append(name if name not in names else f"{name}_{again + 1}")
    return names


def _plain(cell: Any) -> Any:
    """A value that JSON knows; an empty cell is null."""
    if cell == "":
        return None
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 2**53:
        return int(cell)
    return cell if isinstance(cell, str | int | float | bool) else _shown(cell)


def _shown(cell: Any) -> str:
    if isinstance(cell, bool):
        return "TRUE" if cell else "FALSE"
    if isinstance(cell, float):
        return str(int(cell)) if cell.is_integer() and abs(cell) < 2**53 else repr(cell)
    if isinstance(cell, dt.datetime | dt.date | dt.time):
        return cell.isoformat().removesuffix("T00:00:00")
    return str(cell)
