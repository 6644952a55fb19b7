"""RTF, by striprtf."""

from __future__ import annotations

from rlm_ray.core.pages import escape_markers, tidy
from rlm_ray.documents.parsers import DocumentError, ParsedDocument


def parse(data: bytes) -> ParsedDocument:
    from striprtf.striprtf import rtf_to_text

    if not data.lstrip().startswith(b"{\\rtf"):
        raise DocumentError("is no RTF file, whatever its name says")
    text = tidy(rtf_to_text(data.decode("latin-1"), errors="replace"))
    if not text.strip():
        raise DocumentError("holds no text")
    return ParsedDocument(escape_markers(text), "RTF")
