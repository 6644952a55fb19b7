"""Open formats in ZIP archives: EPUB, the chapters of a book in the order of its spine, and OpenDocument texts (.odt).

The known library for EPUB is under the AGPL.
"""

from __future__ import annotations

import io
import posixpath
import zipfile
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree as ET

from rlm_ray.core.pages import escape_markers, mark_parts, tidy
from rlm_ray.documents.decoding import decode_anyway
from rlm_ray.documents.parsers import DocumentError, ParsedDocument, join_cells
from rlm_ray.documents.parsers.html import text_of

_CONTAINER = "{urn:oasis:names:tc:opendocument:xmlns:container}"
_OPF = "{http://www.idpf.org/2007/opf}"


def parse_epub(data: bytes) -> ParsedDocument:
    with zipfile.ZipFile(io.BytesIO(data)) as book:
        if "META-INF/encryption.xml" in book.namelist() and "META-INF/rights.xml" in book.namelist():
            raise DocumentError("is protected (DRM); no program can read it")
        chapters = [text_of(decode_anyway(book.read(name)).text) for name in _spine(book)]
    if not any(chapter.strip() for chapter in chapters):
        raise DocumentError("holds no text")
    found = (chapter for chapter in chapters if chapter.strip())
    return ParsedDocument(mark_parts("section", enumerate(found, 1)), "book")


def _spine(book: zipfile.ZipFile) -> list[str]:
    container = ET.fromstring(book.read("META-INF/container.xml"))  # noqa: S314 - in a jail, under limits
    root = container.find(f".//{_CONTAINER}rootfile")
    if root is None:
        raise DocumentError("is a broken EPUB: it does not name its contents")
    package_name = root.get("full-path", "")
    package = ET.fromstring(book.read(package_name))  # noqa: S314
    folder = posixpath.dirname(package_name)
    hrefs = {item.get("id"): unquote(item.get("href", "")) for item in package.iter(f"{_OPF}item")}
    found = [hrefs.get(item.get("idref"), "") for item in package.iter(f"{_OPF}itemref")]
    names = [posixpath.normpath(posixpath.join(folder, href)) for href in found if href]
    return [name for name in names if name in book.NameToInfo]


_TEXT = "{urn:oasis:names:tc:opendocument:xmlns:text:1.0}"
_TABLE = "{urn:oasis:names:tc:opendocument:xmlns:table:1.0}"
_OFFICE = "{urn:oasis:names:tc:opendocument:xmlns:office:1.0}"


def parse_odt(data: bytes) -> ParsedDocument:
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
    """Return the text of a paragraph, whose blanks, tabs and line breaks are elements."""
    parts = [node.text or ""]
    for child in node:
        blank = {f"{_TEXT}s": " ", f"{_TEXT}tab": "\t", f"{_TEXT}line-break": "\n"}.get(child.tag, "")
        parts += [blank or _text(child), child.tail or ""]
    return "".join(parts)
