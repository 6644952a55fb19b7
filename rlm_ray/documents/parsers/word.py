"""Word (.docx), by python-docx: headings, paragraphs and tables in their order, then footnotes and comments.

A Word file has no pages before it is laid out; Word notes where they broke when it last did, and these are the numbers.
"""

from __future__ import annotations

import io
from typing import Any

from rlm_ray.core.pages import escape_markers, mark_parts, tidy
from rlm_ray.documents.parsers import ParsedDocument, join_cells

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_NOTES = ("footnotes", "endnotes", "comments")


def parse(data: bytes) -> ParsedDocument:
    import docx

    document = docx.Document(io.BytesIO(data))
    pages = [""]
    for block in document.iter_inner_content():
        _add(pages, _table(block) if hasattr(block, "rows") else _paragraph(block))
    notes = "\n".join(_notes(document))
    if notes:
        pages[-1] += f"\n\nNotes:\n{notes}"
    if len(pages) == 1:
        return ParsedDocument(escape_markers(tidy(pages[0])), "Word")
    return ParsedDocument(mark_parts("page", enumerate(pages, 1)), "Word")


_BREAK = "\f"


def _add(pages: list[str], text: str) -> None:
    """Append a block to the last page; each form feed in it begins another one."""
    first, *others = text.split(_BREAK)
    pages[-1] += first + ("" if others else "\n\n")
    pages += others
    if others:
        pages[-1] += "\n\n"


def _paragraph(paragraph: Any) -> str:
    text = _text(paragraph._p)  # noqa: SLF001 - the element, for what paragraph.text leaves out
    style = (paragraph.style.name if paragraph.style is not None else "") or ""
    if not text.strip():
        return text if _BREAK in text else ""
    if style == "Title":
        return f"# {text}"
    if style.startswith("Heading ") and style[8:].isdigit():
        return f"{'#' * min(int(style[8:]), 6)} {text}"
    return f"- {text}" if style.startswith("List ") else text


def _table(table: Any) -> str:
    lines = []
    for row in table.rows:
        seen: list[Any] = []
        cells = []
        for cell in row.cells:  # a merged cell comes once for each column that it spans
            if not any(cell._tc is other for other in seen):  # noqa: SLF001
                seen.append(cell._tc)  # noqa: SLF001
                cells.append(_cell(cell))
        lines.append(join_cells(cells))
    return "\n".join(lines)


def _cell(cell: Any) -> str:
    return " ".join(
        " ".join(_table(block).split()) if hasattr(block, "rows") else _text(block._p).replace(_BREAK, " ")  # noqa: SLF001
        for block in cell.iter_inner_content()
    )


def _text(element: Any) -> str:
    """All text below an element: also links, insertions and text boxes; not what was deleted."""
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


def _notes(document: Any) -> list[str]:
    """Footnotes, endnotes and comments, which stand in files of their own."""
    from docx.oxml import parse_xml

    lines = []
    for relation in document.part.rels.values():
        kind = relation.reltype.rpartition("/")[2]
        if kind in _NOTES and not relation.is_external:
            root = parse_xml(relation.target_part.blob)
            texts = (" ".join(_text(note).replace(_BREAK, " ").split()) for note in root)
            lines += [f"- {text}" for text in texts if text]
    return lines
