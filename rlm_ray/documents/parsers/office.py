"""Word (.docx) by python-docx, PowerPoint (.pptx) by python-pptx, workbooks (.xlsx, .xlsm, .xlsb, .xls, .ods) by calamine.

A Word file has no pages before it is laid out; Word notes where they broke when it last did, and these are the numbers.
Footnotes and comments come last. Of a presentation: the text, tables and notes of each slide; of a workbook: a table for
each sheet, formulas as the values they had.
"""

from __future__ import annotations

import datetime as dt
import io
import json
from collections.abc import Iterable, Iterator
from typing import Any

from rlm_ray.core.pages import escape_markers, mark_parts, tidy
from rlm_ray.documents.parsers import DocumentError, ParsedDocument, join_cells

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_WORD_NOTES = ("footnotes", "endnotes", "comments")


def parse_word(data: bytes) -> ParsedDocument:
    import docx

    document = docx.Document(io.BytesIO(data))
    pages = [""]
    for block in document.iter_inner_content():
        _add_block(pages, _word_table(block) if hasattr(block, "rows") else _paragraph(block))
    notes = "\n".join(_word_notes(document))
    if notes:
        pages[-1] += f"\n\nNotes:\n{notes}"
    if len(pages) == 1:
        return ParsedDocument(escape_markers(tidy(pages[0])), "Word")
    return ParsedDocument(mark_parts("page", enumerate(pages, 1)), "Word")


_BREAK = "\f"


def _add_block(pages: list[str], text: str) -> None:
    """Append a block to the last page; each form feed in it begins another one."""
    first, *others = text.split(_BREAK)
    pages[-1] += first + ("" if others else "\n\n")
    pages += others
    if others:
        pages[-1] += "\n\n"


def _paragraph(paragraph: Any) -> str:
    text = _word_text(paragraph._p)  # noqa: SLF001 - the element, for what paragraph.text leaves out
    style = (paragraph.style.name if paragraph.style is not None else "") or ""
    if not text.strip():
        return text if _BREAK in text else ""
    if style == "Title":
        return f"# {text}"
    if style.startswith("Heading ") and style[8:].isdigit():
        return f"{'#' * min(int(style[8:]), 6)} {text}"
    return f"- {text}" if style.startswith("List ") else text


def _word_table(table: Any) -> str:
    lines = []
    for row in table.rows:
        seen: list[Any] = []
        cells = []
        for cell in row.cells:  # a merged cell comes once for each column that it spans
            if not any(cell._tc is other for other in seen):  # noqa: SLF001
                seen.append(cell._tc)  # noqa: SLF001
                cells.append(_word_cell(cell))
        lines.append(join_cells(cells))
    return "\n".join(lines)


def _word_cell(cell: Any) -> str:
    return " ".join(
        " ".join(_word_table(block).split())
        if hasattr(block, "rows")
        else _word_text(block._p).replace(_BREAK, " ")  # noqa: SLF001
        for block in cell.iter_inner_content()
    )


def _word_text(element: Any) -> str:
    """Return all text below an element: also links, insertions and text boxes; not what was deleted."""
    found = []
    for node in element.iter(f"{_W}t", f"{_W}tab", f"{_W}br", f"{_W}cr", f"{_W}lastRenderedPageBreak"):
        if node.tag == f"{_W}t":
            found.append(node.text or "")
        elif node.tag == f"{_W}tab":
            found.append("\t" if node.getparent().tag == f"{_W}r" else "")
        elif node.tag == f"{_W}lastRenderedPageBreak" or node.get(f"{_W}type") == "page":
            found.append(_BREAK)
        else:
            found.append("\n")
    # Word notes a break that somebody made once more where the next page begins.
    return "".join(found).replace(_BREAK * 2, _BREAK)


def _word_notes(document: Any) -> list[str]:
    """Return footnotes, endnotes and comments, which stand in files of their own."""
    from docx.oxml import parse_xml

    lines = []
    for relation in document.part.rels.values():
        kind = relation.reltype.rpartition("/")[2]
        if kind in _WORD_NOTES and not relation.is_external:
            root = parse_xml(relation.target_part.blob)
            texts = (" ".join(_word_text(note).replace(_BREAK, " ").split()) for note in root)
            lines += [f"- {text}" for text in texts if text]
    return lines


def parse_slides(data: bytes) -> ParsedDocument:
    import pptx

    presentation = pptx.Presentation(io.BytesIO(data))
    texts = [_slide(slide) for slide in presentation.slides]
    if not any(texts):
        raise DocumentError(f"holds no text on its {len(texts)} slides: they are pictures")
    return ParsedDocument(mark_parts("slide", enumerate(texts, 1)), "PowerPoint")


def _slide(slide: Any) -> str:
    blocks = [text for text in _shape_texts(slide.shapes) if text.strip()]
    if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
        notes = slide.notes_slide.notes_text_frame.text
        blocks += [f"Notes: {notes}"] if notes.strip() else []
    return "\n\n".join(blocks)


def _shape_texts(shapes: Iterable[Any]) -> Iterator[str]:
    for shape in shapes:
        if hasattr(shape, "shapes"):  # a group
            yield from _shape_texts(shape.shapes)
        elif getattr(shape, "has_table", False):
            yield "\n".join(join_cells([cell.text for cell in row.cells]) for row in shape.table.rows)
        elif getattr(shape, "has_chart", False):
            yield _chart(shape.chart)
        elif shape.has_text_frame:
            yield shape.text_frame.text


def _chart(chart: Any) -> str:
    lines = [chart.chart_title.text_frame.text] if chart.has_title else []
    for plot in chart.plots:
        categories = [str(category) for category in plot.categories]
        lines.append(join_cells(["", *categories]))
        lines += [join_cells([str(series.name), *map(str, series.values)]) for series in plot.series]
    return "\n".join(lines)


def parse_sheets(data: bytes) -> ParsedDocument:
    workbook = _open_workbook(data)
    tables = [(name, _sheet_table(rows)) for name, rows in _sheets(workbook)]
    if not any(text for _, text in tables):
        raise DocumentError("holds no cell with a value")
    return ParsedDocument(mark_parts("sheet", tables), "workbook")


def parse_sheet_rows(data: bytes) -> Iterator[str]:
    """Yield each row of each sheet as a line of JSON: an object by the names in the first row of its sheet.

    The column `sheet` is added where there are several.
    """
    sheets = [(name, rows) for name, rows in _sheets(_open_workbook(data)) if rows]
    for name, (header, *rows) in sheets:
        columns = _columns(header)
        for row in rows:
            if any(cell not in ("", None) for cell in row):
                cells = {column: _plain(cell) for column, cell in zip(columns, row, strict=False)}
                own = {"sheet": name} if len(sheets) > 1 and "sheet" not in columns else {}
                yield json.dumps(own | cells, ensure_ascii=False)


def _open_workbook(data: bytes) -> Any:
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


def _sheet_table(rows: list[list[Any]]) -> str:
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
    """Return a value that JSON knows; an empty cell is null."""
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
