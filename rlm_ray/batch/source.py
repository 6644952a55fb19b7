"""A corpus: rows with a number, an id, a text and columns, in an order that is the same at each reading.

Nothing is kept of a row that was handed out, so a corpus may be of any size. A row that cannot be read is a row with
an `error`. Numbers count from 0 over all rows, bad ones among them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from rlm_ray.batch.dataset import RayDataSource, is_dataset
from rlm_ray.batch.files import FileSource
from rlm_ray.batch.json_reader import from_object
from rlm_ray.batch.parquet_reader import needed_columns
from rlm_ray.batch.raw_rows import MAX_ROW_BYTES, RawRow, Source, not_utf8, too_large
from rlm_ray.batch.template import QueryTemplate, meant
from rlm_ray.config import Cluster
from rlm_ray.core.context import Context, Document, join_documents
from rlm_ray.core.display import replace_surrogates
from rlm_ray.documents.files import Files
from rlm_ray.documents.folder import describe_passed_over
from rlm_ray.errors import InputError

_PEEK_ROWS, _PEEK_CHARS = 100, 4_000_000
"""So much of the head is looked at for the names of the columns."""
_ANY_SIZE = 1 << 40


@dataclass(frozen=True, slots=True)
class Row:
    """One row, ready to be asked about."""

    number: int
    id: str
    text: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    """Why it cannot be; empty where it can."""


class RowSource:
    """Gives the rows of a source their number, id, text and columns."""

    def __init__(self, source: Source, text: str | None, ident: str | None, max_row_bytes: int) -> None:
        self._source, self._max_row_bytes = source, max_row_bytes
        rest = source.read()
        head = _peek(rest)
        self._begun: Iterator[RawRow] | None = chain(head, rest)
        declared = source.columns if isinstance(source, FileSource) else ()
        self.columns = tuple(dict.fromkeys((*declared, *(name for raw in head for name in raw.values))))
        """Those of the head; JSONL may bring others later."""
        self._ident_named = ident is not None
        self.ident_column = self._checked_column("id", ident) or self._find_column("id")
        self.text_column = self._checked_column("text", text) or self._text_of(head)
        """None where rows have no text, and a question alone is asked."""

    @property
    def name(self) -> str:
        """Return what the user called it."""
        return self._source.name

    @property
    def passed_over_line(self) -> str:
        """Say how many files of folders are left out, by reason; empty where none is."""
        return describe_passed_over(self._source.passed_over) if isinstance(self._source, FileSource) else ""

    def check_output(self, out: str) -> None:
        """Raise `InputError` where an output at this place is among the files that are read."""
        if isinstance(self._source, FileSource):
            self._source.check_output(out)

    def check(self, question: QueryTemplate) -> None:
        """Raise `InputError` where the question cannot be asked of these rows, or would be asked without a text."""
        question.check(self.columns)
        if self.columns and self.text_column is None and not set(question.columns) & set(self.columns):
            why = f"has no column `text`, and not just one with texts; name one with --text: {', '.join(self.columns)}"
            raise InputError(self.name, why)

    def share(self) -> float | None:
        """Return how much of it has been read, from 0 to 1; None where nobody knows how much there is."""
        return self._source.fraction_read()

    def reserve_cpus(self, cluster: Cluster) -> Cluster:
        """Return the cluster as a job over this corpus should use it: with room for whoever reads."""
        return self._source.room_in(cluster) if isinstance(self._source, RayDataSource) else cluster

    def __iter__(self) -> Iterator[Row]:
        raws, self._begun = self._begun, None
        for number, raw in enumerate(self._source.read() if raws is None else raws):
            yield self._row(number, raw)

    def _row(self, number: int, raw: RawRow) -> Row:
        ident = replace_surrogates(raw.id) or str(number)
        if raw.why:
            return Row(number, ident, error=raw.why)
        named = raw.values.get(self.ident_column) if self.ident_column is not None else None
        if named is None and self._ident_named:
            return Row(number, ident, error=f"has no {self.ident_column!r} to be its id")
        ident = ident if named is None else replace_surrogates(str(named))
        text = self._text(raw.values)
        if isinstance(text, RawRow):
            return Row(number, ident, error=text.why)
        return Row(number, ident, replace_surrogates(text), replace_surrogates(raw.values))

    def _text(self, values: Mapping[str, Any]) -> str | RawRow:
        if self.text_column is None:
            return ""
        text = values.get(self.text_column)
        if isinstance(text, bytes):
            try:
                text = text.decode("utf-8")
            except UnicodeDecodeError as error:
                return RawRow(why=not_utf8(error))
        if not isinstance(text, str):
            found = "is missing" if text is None else f"is no text but {type(text).__name__}"
            return RawRow(why=f"the column {self.text_column!r} {found}")
        if (
            len(text) * 4 > self._max_row_bytes
            and (nbytes := len(text.encode("utf-8", "replace"))) > self._max_row_bytes
        ):
            return too_large(nbytes, self._max_row_bytes)
        return text

    def _checked_column(self, option: str, name: str | None) -> str | None:
        if name is not None and self.columns and name not in self.columns:
            why = f"{self.name} has no column {name!r}{meant(name, self.columns)}; it has {', '.join(self.columns)}"
            raise InputError(option, why)
        return name

    def _find_column(self, name: str) -> str | None:
        """Return the column of this name, or the only one that is in other letters: `TEXT`."""
        if name in self.columns:
            return name
        alike = [column for column in self.columns if column.casefold() == name]
        return alike[0] if len(alike) == 1 else None

    def _text_of(self, head: list[RawRow]) -> str | None:
        if (named := self._find_column("text")) is not None:
            return named
        texts = {
            name for raw in head for name, value in raw.values.items() if isinstance(value, str | bytes)
        } - {self.ident_column}
        return texts.pop() if len(texts) == 1 else None


def open_files(
    named: Sequence[str] | Files,
    *,
    text: str | None = None,
    ident: str | None = None,
    max_row_bytes: int = MAX_ROW_BYTES,
    further: Collection[str] | None = None,
) -> RowSource:
    """Open paths, URLs, folders and globs; see `open_corpus`. `further` are the columns that are needed beside text
    and id; None: all.
    """

    def needed(schema: Any) -> Collection[str]:
        return needed_columns(schema, (text, ident), further or ())

    files = named if isinstance(named, Files) else Files(*named)
    source = FileSource(files, max_row_bytes, None if further is None else needed)
    return RowSource(source, text, ident, max_row_bytes)


def read_documents(
    named: Sequence[str] | Files,
    *,
    text: str | None = None,
    ident: str | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> tuple[Context, list[str]]:
    """Read the rows of files, folders, globs and URLs as documents; return besides what could not be read, each with
    why. `tell` is told what of folders is left out.
    """
    corpus = open_files(named, text=text, ident=ident, max_row_bytes=_ANY_SIZE, further=())
    if line := corpus.passed_over_line:
        tell(line)
    _check_text_column(corpus)
    unread = []

    def documents() -> Iterator[Document]:
        for row in corpus:
            if row.error:
                unread.append(f"{row.id}: {row.error}")
            else:
                yield {"id": row.id, "text": row.text}

    context = join_documents(documents())
    if not context.info.documents:
        raise InputError(corpus.name, f"holds no text{'; ' + unread[0] if unread else ''}")
    return context, unread


def _check_text_column(corpus: RowSource) -> None:
    if corpus.columns and corpus.text_column is None:
        columns = ", ".join(corpus.columns)
        raise InputError(corpus.name, f"has several columns with texts; name one with --text: {columns}")


def open_corpus(
    source: Any,
    *,
    text: str | None = None,
    id: str | None = None,  # noqa: A002 - the name of the option
    max_row_bytes: int = MAX_ROW_BYTES,
) -> RowSource:
    """Open a path, URL, folder or glob, or several; a Ray dataset; or anything that gives mappings or texts.

    `text` and `id` name columns. Without `text` it is the column of that name, or the only one with texts; without an
    `id`, a column of that name, or what is derived from where the row stands.
    """
    return RowSource(_source(source, max_row_bytes), text, id, max_row_bytes)


def _source(source: Any, max_row_bytes: int) -> Source:
    if isinstance(source, str | Path):
        source = Files(source)
    if isinstance(source, Files):
        return FileSource(source, max_row_bytes)
    if is_dataset(source):
        return RayDataSource(source)
    if isinstance(source, list | tuple) and source and all(isinstance(item, Path) for item in source):
        return FileSource(Files(*source), max_row_bytes)
    if isinstance(source, Iterable) and not isinstance(source, bytes | Mapping):
        return IterableSource(source)
    why = f"is files, a Ray dataset, or mappings or texts one after the other; got {type(source).__name__}"
    raise InputError("corpus", why)


class IterableSource:
    """Rows of an iterable that a program gives."""

    name = "rows of a program"

    def __init__(self, items: Iterable[Any]) -> None:
        self._items, self._read = items, 0

    def read(self) -> Iterator[RawRow]:
        if self._read and isinstance(self._items, Iterator):
            raise InputError(
                "corpus", "was read already, and an iterator gives its rows only once; give it anew"
            )
        self._read = 0
        for item in self._items:
            self._read += 1
            yield from_object(item)

    def fraction_read(self) -> float | None:
        return min(self._read / max(len(self._items), 1), 1.0) if isinstance(self._items, Sized) else None


def _peek(raws: Iterator[RawRow]) -> list[RawRow]:
    head: list[RawRow] = []
    chars = 0
    while len(head) < _PEEK_ROWS and chars < _PEEK_CHARS and (raw := next(raws, None)) is not None:
        head.append(raw)
        chars += sum(len(value) for value in raw.values.values() if isinstance(value, str | bytes))
    return head
