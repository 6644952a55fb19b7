"""EPUB: the chapters of a book in the order of its spine. (The known library for it is under the AGPL.)"""

from __future__ import annotations

import io
import posixpath
import zipfile
from urllib.parse import unquote
from xml.etree import ElementTree as ET

from rlm_ray.core.pages import mark_parts
from rlm_ray.documents.decoding import decode_anyway
from rlm_ray.documents.parsers import DocumentError, ParsedDocument
from rlm_ray.documents.parsers.html import text_of

_CONTAINER = "{urn:oasis:names:tc:opendocument:xmlns:container}"
_OPF = "{http://www.idpf.org/2007/opf}"


def parse(data: bytes) -> ParsedDocument:
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
