"""What a file is, by its first bytes and its name. Content decides before the name: names are wrong or missing often.

Nothing is taken apart here: whether a ZIP archive is a Word file or a bomb is found out in the worker process.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePath

HEAD_BYTES = 8_192
"""So much of a file tells what it is."""

CONVERTED = {
    ".pdf": "pdf",
    ".docx": "zip",
    ".docm": "zip",
    ".dotx": "zip",
    ".pptx": "zip",
    ".pptm": "zip",
    ".ppsx": "zip",
    ".xlsx": "zip",
    ".xlsm": "zip",
    ".xlsb": "zip",
    ".ods": "zip",
    ".odt": "zip",
    ".epub": "zip",
    ".xls": "ole",
    ".doc": "ole",
    ".ppt": "ole",
    ".rtf": "rtf",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
    ".mhtml": "eml",
    ".eml": "eml",
    ".mbox": "mbox",
    ".ipynb": "ipynb",
}
"""The formats that the worker process makes texts of, by the suffix of a name."""

WORKBOOKS = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods")
"""Suffixes of tables that `batch` reads row by row."""

_PACKED = "a packed file"
_REMEDIES = {
    _PACKED: "unpack it first",
    "a Parquet file": "ask about its rows with `rlm-ray batch` or `map-reduce`, under a name that ends in .parquet",
    "an image": "run text recognition (OCR) over it first",
}
_SIGNATURES = (
    (b"PAR1", "a Parquet file"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"\x89PNG", "an image"),
    (b"\xff\xd8\xff", "an image"),
    (b"GIF8", "an image"),
    (b"II*\0", "an image"),
    (b"MM\0*", "an image"),
    (b"RIFF", "a picture, sound or video"),
    (b"ID3", "a sound"),
    (b"OggS", "a sound or video"),
    (b"\x7fELF", "a program"),
    (b"MZ\x90\0", "a program"),
    (b"\xca\xfe\xba\xbe", "a program"),
    (b"\x1f\x8b", _PACKED),
    (b"BZh", _PACKED),
    (b"\x28\xb5\x2f\xfd", _PACKED),
    (b"\xfd7zXZ\0", _PACKED),
    (b"7z\xbc\xaf\x27\x1c", _PACKED),
    (b"Rar!\x1a\x07", _PACKED),
)
_DOCUMENTS = ((b"%PDF-", "pdf"), (b"PK\x03\x04", "zip"), (b"PK\x05\x06", "zip"), (b"\xd0\xcf\x11\xe0", "ole"), (b"{\\rtf", "rtf"))  # fmt: skip
_HTML = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html)\b", re.IGNORECASE | re.DOTALL)  # fmt: skip
_BY_CONTENT_ONLY = ("pdf", "zip", "ole")
"""A file of such a name that does not begin like one is something else."""
_LABELS = {"pdf": "a PDF file", "zip": "a ZIP or Office file", "ole": "an old Office file"}


@dataclass(frozen=True, slots=True)
class Format:
    """What a file is."""

    name: str
    """`text`, one that the worker converts (`pdf`, `zip`, `ole`, `rtf`, `html`, `eml`, `mbox`, `ipynb`), or `binary`."""
    label: str = ""
    """What it is called in a sentence, where it cannot be read."""

    @property
    def remedy(self) -> str:
        """Return what its owner can do about a file that cannot be read."""
        return _REMEDIES.get(self.label, "save or export it as UTF-8 text")


TEXT = Format("text")


def detect_format(head: bytes, name: str = "") -> Format:
    """Tell what a file is by its first `HEAD_BYTES` and its name, which may be empty."""
    suffix = PurePath(name.lower()).suffix
    by_content = _by_content(head)
    if by_content is not None:
        return by_content
    converted = CONVERTED.get(suffix, "")
    if converted and converted not in _BY_CONTENT_ONLY:
        return Format(converted)
    if converted == "pdf" and b"%PDF-" in head[:1024]:
        return Format("pdf")
    if converted and head:
        return Format("binary", f"named {suffix} but no such file") if _is_binary(head) else TEXT
    return Format("binary", "a binary file") if _is_binary(head) else TEXT


def kind_of(data: bytes) -> str:
    """Say what a file is by its first bytes where it is no text; empty where nobody knows."""
    found = _by_content(data[:HEAD_BYTES])
    return "" if found is None else found.label or _LABELS.get(found.name, "")


def _by_content(head: bytes) -> Format | None:
    for mark, name in _DOCUMENTS:
        if head.startswith(mark):
            return Format(name)
    for mark, label in _SIGNATURES:
        if head.startswith(mark):
            return Format("binary", label)
    return Format("html") if _HTML.match(head) else None


def utf16_of(head: bytes) -> str:
    """Name the UTF-16 of a text without a mark, by where its zeros stand; empty where it is none."""
    even, odd = head[::2].count(0), head[1::2].count(0)
    half = len(head) // 2
    if half >= 4 and odd > 0.4 * half and even < 0.02 * half:
        return "utf-16-le"
    if half >= 4 and even > 0.4 * half and odd < 0.02 * half:
        return "utf-16-be"
    return ""


_UNICODE_MARKS = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")


def _is_binary(head: bytes) -> bool:
    return b"\0" in head and not head.startswith(_UNICODE_MARKS) and not utf16_of(head)
