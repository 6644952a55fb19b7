"""E-mail (.eml), mailboxes (.mbox) and saved web pages (.mhtml): who wrote to whom and when, and the text; attachments by name."""

from __future__ import annotations

import re
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default

from rlm_ray.core.pages import escape_markers, mark_parts, tidy
from rlm_ray.documents.decoding import decode_anyway
from rlm_ray.documents.parsers import DocumentError, ParsedDocument
from rlm_ray.documents.parsers.html import text_of

_HEADERS = ("From", "To", "Cc", "Date", "Subject")
_FROM_LINE = re.compile(rb"(?:\A|\n\r?\n|(?<=\n)(?=From \S+ .*\d{4}\r?\n))From [^\n]*\n")


def parse(data: bytes) -> ParsedDocument:
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
