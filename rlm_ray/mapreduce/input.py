"""Files of any kind a corpus may have, as the documents of one context."""

from __future__ import annotations

from collections.abc import Sequence

from rlm_ray.batch.source import RowSource, open_files
from rlm_ray.core.context import Context, Document, make_context
from rlm_ray.errors import InputError

_ANY_SIZE = 1 << 40


def read_documents(
    named: Sequence[str], *, text: str | None = None, ident: str | None = None
) -> tuple[Context, list[str]]:
    """Read the rows of files, folders, globs and URLs as documents; return besides what could not be read, each with
    why.
    """
    corpus = open_files(named, text=text, ident=ident, max_row_bytes=_ANY_SIZE, further=())
    _check(corpus)
    documents: list[Document] = []
    unread = []
    for row in corpus:
        if row.error:
            unread.append(f"{row.id}: {row.error}")
        else:
            documents.append({"id": row.id, "text": row.text})
    if not documents:
        raise InputError(corpus.name, f"holds no text{'; ' + unread[0] if unread else ''}")
    return make_context(documents), unread


def _check(corpus: RowSource) -> None:
    if corpus.columns and corpus.text_column is None:
        columns = ", ".join(corpus.columns)
        raise InputError(corpus.name, f"has several columns with texts; name one with --text: {columns}")
