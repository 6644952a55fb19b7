"""Old Office files: workbooks are read, the others are named. What has a password is stored in such a file, too."""

from __future__ import annotations

from rlm_ray.documents.parsers import DocumentError

_ENCRYPTED = "EncryptedPackage".encode("utf-16-le")
_WORKBOOKS = tuple(name.encode("utf-16-le") for name in ("Workbook", "Book"))
_OTHERS = (
    ("WordDocument", "an old Word file (.doc); save it as .docx"),
    ("PowerPoint Document", "an old PowerPoint file (.ppt); save it as .pptx"),
    ("__properties_version", "an Outlook message (.msg); save it as .eml"),
)


def check(data: bytes) -> None:
    """Raise `DocumentError` for what is no workbook, or has a password."""
    if _ENCRYPTED in data:
        raise DocumentError("is protected by a password; save a copy without one")
    for name, sentence in _OTHERS:
        if name.encode("utf-16-le") in data:
            raise DocumentError(f"is {sentence}")
    if not any(name in data for name in _WORKBOOKS):
        raise DocumentError("is an old Office file, and no workbook; save it in a format of today")
