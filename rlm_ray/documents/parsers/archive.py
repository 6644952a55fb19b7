"""What a container holds, before any of it is unpacked: a ZIP archive, and how much it unpacks to, or an old Office file."""

from __future__ import annotations

import io
import zipfile

from rlm_ray.documents.parsers import DocumentError

MAX_UNPACKED_BYTES = 1_000_000_000
MAX_ENTRIES = 50_000
_WORD, _SLIDES, _SHEETS = "word/document.xml", "ppt/presentation.xml", ("xl/workbook.xml", "xl/workbook.bin")
_OPEN_FORMATS = {
    b"application/vnd.oasis.opendocument.text": "odt",
    b"application/vnd.oasis.opendocument.spreadsheet": "sheets",
}
_ENCRYPTED = "EncryptedPackage".encode("utf-16-le")
_WORKBOOKS = tuple(name.encode("utf-16-le") for name in ("Workbook", "Book"))
_OTHERS = (
    ("WordDocument", "an old Word file (.doc); save it as .docx"),
    ("PowerPoint Document", "an old PowerPoint file (.ppt); save it as .pptx"),
    ("__properties_version", "an Outlook message (.msg); save it as .eml"),
)


def format_of(data: bytes) -> str:
    """Tell what the archive is by what it holds. Raises `DocumentError` for a bomb, and for what is no document."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OverflowError) as error:
        raise DocumentError("is a broken ZIP or Office file; open it and save it anew") from error
    with archive:
        entries = archive.infolist()
        unpacked = sum(entry.file_size for entry in entries)
        if unpacked > MAX_UNPACKED_BYTES or len(entries) > MAX_ENTRIES:
            what = f"{unpacked / 1e9:,.1f} GB" if unpacked > MAX_UNPACKED_BYTES else f"{len(entries):,} files"
            raise DocumentError(
                f"unpacks to {what}, which no document does (a decompression bomb?); leave it out, or save its text anew"
            )
        names = {entry.filename for entry in entries}
        if any(entry.flag_bits & 1 for entry in entries):
            raise DocumentError("is protected by a password; save a copy without one")
        if _WORD in names:
            return "docx"
        if _SLIDES in names:
            return "pptx"
        if names & set(_SHEETS):
            return "sheets"
        mimetype = archive.read("mimetype")[:100].strip() if "mimetype" in names else b""
    if mimetype.startswith(b"application/epub") or "META-INF/container.xml" in names:
        return "epub"
    if mimetype in _OPEN_FORMATS:
        return _OPEN_FORMATS[mimetype]
    raise DocumentError("is a ZIP file, and no document; unpack it first")


def check_old_office(data: bytes) -> None:
    """Raise `DocumentError` for an old Office file that is no workbook, or has a password (a new file with one is kept in an old one)."""
    if _ENCRYPTED in data:
        raise DocumentError("is protected by a password; save a copy without one")
    for name, sentence in _OTHERS:
        if name.encode("utf-16-le") in data:
            raise DocumentError(f"is {sentence}")
    if not any(name in data for name in _WORKBOOKS):
        raise DocumentError("is an old Office file, and no workbook; save it in a format of today")
