"""Formats that the standard library takes apart, and RTF (by striprtf): e-mail, mailboxes, saved pages, notebooks.

E-mail (.eml), mailboxes (.mbox) and saved web pages (.mhtml): who wrote to whom and when, and the text; attachments by name.
Jupyter notebooks (.ipynb): texts, code in fences, and what the code printed.
"""

from __future__ import annotations

import json
import re
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any

from rlm_ray.core.pages import escape_markers, mark_parts, tidy
from rlm_ray.documents.decoding import decode_anyway
from rlm_ray.documents.parsers import DocumentError, ParsedDocument
from rlm_ray.documents.parsers.html import text_of

_HEADERS = ("From", "To", "Cc", "Date", "Subject")
_FROM_LINE = re.compile(rb"(?:\A|\n\r?\n|(?<=\n)(?=From \S+ .*\d{4}\r?\n))From [^\n]*\n")


def parse_mail(data: bytes) -> ParsedDocument:
    return ParsedDocument(escape_markers(tidy(_message(data))), "e-mail")


def parse_mailbox(data: bytes) -> ParsedDocument:
    pieces = [piece for piece in _FROM_LINE.split(data) if piece.strip()]
    if not pieces:
        raise DocumentError("holds no message")
    texts = enumerate((_message(re.sub(rb"(?m)^>(>*From )", rb"\1", piece)) for piece in pieces), 1)
    return ParsedDocument(mark_parts("message", texts), "mailbox")


def _message(data: bytes) -> str:
    message = message_from_bytes(data, policy=default)
    assert isinstance(message, EmailMessage)
    head = [f"{name}: {_header(message, name)}" for name in _HEADERS if message[name]]
    attached = (
        [part.get_filename() or part.get_content_type() for part in message.iter_attachments()]
        if message.is_multipart()
        else []
    )
    lines = [f"Attachments (not read): {', '.join(attached)}"] if attached else []
    return "\n".join([*head, *lines, "", _body(message)])


def _header(message: EmailMessage, name: str) -> str:
    return " ".join(str(message[name]).split())


def _body(message: EmailMessage) -> str:
    body = message.get_body(("plain", "html"))
    if body is None:
        return ""
    payload = body.get_payload(decode=True)
    data = payload if isinstance(payload, bytes) else str(body.get_payload()).encode("utf-8", "replace")
    text = _decode(data, body.get_content_charset())
    return text_of(text) if body.get_content_type() == "text/html" else text


def _decode(data: bytes, charset: str | None) -> str:
    try:
        return data.decode(charset or "utf-8")
    except (LookupError, UnicodeDecodeError):
        return decode_anyway(data).text


_MAX_OUTPUT_CHARS = 20_000


def parse_notebook(data: bytes) -> ParsedDocument:
    try:
        notebook = json.loads(data.decode("utf-8-sig"))
        cells = notebook["cells"] if "cells" in notebook else notebook["worksheets"][0]["cells"]
        language = notebook.get("metadata", {}).get("kernelspec", {}).get("language", "python")
        blocks = [_cell(cell, str(language)) for cell in cells]
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        raise DocumentError("is a broken notebook; open it and save it anew") from error
    return ParsedDocument(
        escape_markers(tidy("\n\n".join(block for block in blocks if block.strip()))), "notebook"
    )


def _cell(cell: dict[str, Any], language: str) -> str:
    source = _joined(cell.get("source", cell.get("input", "")))
    if cell["cell_type"] != "code":
        return source
    blocks = [f"```{language}\n{source}\n```"] if source.strip() else []
    shown = "\n".join(text for output in cell.get("outputs", ()) if (text := _output(output)))
    if len(shown) > _MAX_OUTPUT_CHARS:
        shown = f"{shown[:_MAX_OUTPUT_CHARS]}\n[{len(shown) - _MAX_OUTPUT_CHARS:,} more characters of output]"
    return "\n".join([*blocks, *([f"Output:\n{shown}"] if shown else [])])


def _output(output: dict[str, Any]) -> str:
    if output.get("output_type") == "error":
        return f"{output.get('ename')}: {output.get('evalue')}"
    data = output.get("data", {})
    if "text/plain" not in data and "text/html" in data:
        return text_of(_joined(data["text/html"]))
    return _joined(output.get("text", data.get("text/plain", ""))).rstrip()


def _joined(lines: Any) -> str:
    return "".join(map(str, lines)) if isinstance(lines, list) else str(lines)


def parse_rtf(data: bytes) -> ParsedDocument:
    from striprtf.striprtf import rtf_to_text

    if not data.lstrip().startswith(b"{\\rtf"):
        raise DocumentError("is no RTF file, whatever its name says")
    text = tidy(rtf_to_text(data.decode("latin-1"), errors="replace"))
    if not text.strip():
        raise DocumentError("holds no text")
    return ParsedDocument(escape_markers(text), "RTF")
