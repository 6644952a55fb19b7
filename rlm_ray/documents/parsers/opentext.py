"""OpenDocument texts (.odt): paragraphs, headings, lists and tables in their order."""

from __future__ import annotations

import io
import zipfile
from typing import Any
from xml.etree import ElementTree as ET

from rlm_ray.core.pages import escape_markers, tidy
from rlm_ray.documents.parsers import DocumentError, ParsedDocument, join_cells

_TEXT = "{urn:oasis:names:tc:opendocument:xmlns:text:1.0}"
_TABLE = "{urn:oasis:names:tc:opendocument:xmlns:table:1.0}"
_OFFICE = "{urn:oasis:names:tc:opendocument:xmlns:office:1.0}"


def parse(data: bytes) -> ParsedDocument:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        root = ET.fromstring(archive.read("content.xml"))  # noqa: S314 - in a jail, under limits
    body = root.find(f".//{_OFFICE}text")
    if body is None:
        raise DocumentError("is a broken OpenDocument file; open it and save it anew")
    return ParsedDocument(escape_markers(tidy("\n\n".join(_blocks(body)))), "OpenDocument")


def _blocks(element: Any) -> list[str]:
    found = []
    for node in element:
        if node.tag == f"{_TEXT}h":
            found.append(f"# {_text(node)}")
        elif node.tag == f"{_TEXT}p":
            found.append(_text(node))
        elif node.tag == f"{_TABLE}table":
            rows = node.iter(f"{_TABLE}table-row")
            found.append(
                "\n".join(join_cells([_text(c) for c in row.iter(f"{_TABLE}table-cell")]) for row in rows)
            )
        elif node.tag == f"{_TEXT}tracked-changes":
            continue
        else:
            found += _blocks(node)
    return [text for text in found if text.strip()]


def _text(node: Any) -> str:
    """The text of a paragraph, whose blanks, tabs and line breaks are elements."""
    parts = [node.text or ""]
    for child in node:
        blank = {f"{_TEXT}s": " ", f"{_TEXT}tab": "\t", f"{_TEXT}line-break": "\n"}.get(child.tag, "")
        parts += [blank or _text(child), child.tail or ""]
    return "".join(parts)
