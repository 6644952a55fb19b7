"""Citations of an answer in the shapes that OpenAI's clients know, with what is ours beside.

A response has `file_citation`s: the document is the file. A chat message knows `url_citation`s only: their URL names the
document and the characters (RFC 5147), and its indexes are those of the quote in the answer, or of the whole answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from rlm_ray.core.repl_types import Citation

CONTEXT = "context"
"""What a document is called where the context is one text."""


def file_citations(citations: Sequence[Citation]) -> list[dict[str, Any]]:
    """The annotations of a response's text; `index` is the number of the document among those that are cited."""
    files = list(dict.fromkeys(map(_name, citations)))
    return [
        {
            "type": "file_citation",
            "file_id": _name(cited),
            "filename": _name(cited),
            "index": files.index(_name(cited)),
            "quote": cited.quote,
            "start": cited.start,
            "end": cited.end,
            "page": cited.page,
        }
        for cited in citations
    ]


def url_citations(answer: str, citations: Sequence[Citation]) -> list[dict[str, Any]]:
    """The annotations of a chat message."""
    return [
        {
            "type": "url_citation",
            "url_citation": {
                **_range(answer, cited.quote),
                "title": _name(cited),
                "url": f"rlm:{quote(_name(cited))}#char={cited.start},{cited.end}",
                "quote": cited.quote,
                "page": cited.page,
            },
        }
        for cited in citations
    ]


def _name(cited: Citation) -> str:
    return cited.document if cited.number is not None else CONTEXT


def _range(answer: str, words: str) -> dict[str, int]:
    at = answer.find(words)
    return {"start_index": max(at, 0), "end_index": at + len(words) if at >= 0 else len(answer)}
