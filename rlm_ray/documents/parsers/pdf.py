"""PDF, by PDFium: the text of each page in the order in which it is drawn."""

from __future__ import annotations

from rlm_ray.core.pages import mark_parts
from rlm_ray.documents.parsers import DocumentError, ParsedDocument

NO_TEXT = "[no text on this page: an image or a scan]"
_PASSWORD_ERROR = 4
"""FPDF_ERR_PASSWORD"""


def parse_pdf(data: bytes) -> ParsedDocument:
    import pypdfium2

    try:
        document = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        if getattr(error, "err_code", None) == _PASSWORD_ERROR or "password" in str(error).lower():
            raise DocumentError("is protected by a password; save a copy without one") from error
        raise DocumentError("is a broken PDF file; open it and save it anew") from error
    pages = [_page(document, number) for number in range(len(document))]
    if not any(text.strip() for text in pages if text is not None):
        many = f"its {len(pages)} pages hold" if len(pages) != 1 else "its page holds"
        raise DocumentError(
            f"is a scan or pictures: {many} no text; run text recognition over it first (ocrmypdf)"
        )
    empty = [number for number, text in enumerate(pages, 1) if not (text or "").strip()]
    notes = (f"{_pages(empty)} of {len(pages)} without text",) if empty else ()
    parts = ((number, text if (text or "").strip() else NO_TEXT) for number, text in enumerate(pages, 1))
    return ParsedDocument(mark_parts("page", ((n, text or "") for n, text in parts)), "PDF", notes)


def _page(document: object, number: int) -> str | None:
    """Return the text of a page; None where it cannot be read."""
    import pypdfium2

    try:
        page = document[number]  # type: ignore[index]  # pypdfium2 is untyped here
        text_page = page.get_textpage()
        text = text_page.get_text_bounded()
        text_page.close()
        page.close()
    except pypdfium2.PdfiumError:
        return None
    # PDFium writes U+FFFE for the hyphen at the end of a line whose word goes on in the next one.
    return str(text).replace("\ufffe\r\n", "").replace("\ufffe\n", "").replace("\ufffe", "-")


def _pages(numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:5])) + (", ..." if len(numbers) > 5 else "")
    return f"page{'s' if len(numbers) > 1 else ''} {shown}"
