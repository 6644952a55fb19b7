"""Files, folders and URLs as one context, and what of them was read.

One file is one text. A folder, or several paths, are documents whose ids are their paths. What cannot be read costs
itself only; `strict` makes it an error.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rlm_ray.core.context import Context, Document, make_context
from rlm_ray.documents.converter import DocumentReader, DocumentText
from rlm_ray.documents.decoding import check_encoding
from rlm_ray.documents.folder import LINKS, Selection, SourceFile, describe_passed_over, list_files
from rlm_ray.documents.formats import HEAD_BYTES, detect_format
from rlm_ray.errors import InputError
from rlm_ray.util.filesystem import local_path

_NAMED = 5
"""So many files of a kind are named in a line."""
_MAX_THREADS = 4
_BINARY = "binary"


class Files:
    """Files, folders and URLs (any that fsspec knows) to be asked about, and how they are read.

    >>> Files("docs", "notes.pdf", exclude=["*.log"])
    Files('docs', 'notes.pdf', exclude=('*.log',))
    """

    def __init__(
        self,
        *paths: str | Path,
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
        encoding: str = "",
        strict: bool = False,
    ) -> None:
        """`include` and `exclude` are patterns as in `.gitignore`, for files in folders.

        `encoding` is that of texts that are not UTF-8; `strict` makes an error of every file that cannot be read, or
        whose encoding would be a guess. Raises `InputError` without a path, and for an unknown encoding.
        """
        if not paths:
            raise InputError("files", "are missing; name files, folders or URLs")
        self.paths = paths
        self.include = _patterns("include", include)
        self.exclude = _patterns("exclude", exclude)
        self.encoding = check_encoding(encoding)
        self.strict = strict

    def __repr__(self) -> str:
        shown = [repr(str(path)) for path in self.paths]
        shown += [f"{name}={value!r}" for name, value in self.options().items()]
        return f"Files({', '.join(shown)})"

    def options(self) -> dict[str, Any]:
        """Return how the files are read, without what has its default; plain values, for JSON."""
        all_of = {
            "include": self.include,
            "exclude": self.exclude,
            "encoding": self.encoding,
            "strict": self.strict,
        }
        return {name: value for name, value in all_of.items() if value}

    def absolute(self) -> list[str]:
        """Return the paths from the root, and URLs as they are."""
        local = [path if isinstance(path, Path) else local_path(path) for path in self.paths]
        return [
            str(path) if found is None else str(Path(found).absolute())
            for path, found in zip(self.paths, local, strict=True)
        ]

    def read(self) -> FileContext:
        """Read them. Raises `InputError` where there is nothing to read, or where `strict` does not allow what is not."""
        listing = list_files(self.paths, Selection.of(self.include, self.exclude))
        report = ReadingReport(passed_over=listing.passed_over)
        with DocumentReader(self.encoding) as reader:
            found = _read_all(reader, listing.files)
        documents: list[Document] = []
        for file, read in zip(listing.files, found, strict=True):
            if isinstance(read, DocumentText):
                documents.append({"id": file.id, "text": read.text})
                report.add(file.id, read)
            elif read is None:
                report.passed_over[_BINARY] += 1
            else:
                report.unread.append((file.id, read.why))
        self._check(report, documents, single=len(listing.files) == 1)
        return FileContext(
            replace(self._context(documents, listing.files), origin=report.line()), self, report
        )

    @staticmethod
    def _context(documents: Sequence[Document], files: Sequence[SourceFile]) -> Context:
        if len(files) == 1 and not files[0].discovered:
            only = documents[0]
            assert isinstance(only, dict)
            return make_context(only["text"])
        return make_context(documents)

    def _check(self, report: ReadingReport, documents: Sequence[Document], *, single: bool) -> None:
        named = ", ".join(map(str, self.paths))
        if report.unread and (single or (self.strict and len(report.unread) == 1)):
            raise InputError(*report.unread[0])
        doubtful = report.doubtful() if self.strict else []
        if doubtful:
            raise InputError(
                named, f"cannot all be read, and strict reading was asked for: {'; '.join(doubtful)}"
            )
        if not documents:
            why = (
                f": {line}"
                if (line := "; ".join([*report.unread_lines(), *report.passed_over_lines()]))
                else ""
            )
            raise InputError(
                named, f"holds no text file{why}; give files or a folder with texts or documents in it"
            )


@dataclass(slots=True)
class ReadingReport:
    """What was read of files, and what not."""

    kinds: Counter[str] = field(default_factory=Counter)
    """How many documents of which kind were read."""
    chars: int = 0
    notes: list[tuple[str, str]] = field(default_factory=list)
    """Documents that were read, with what is doubtful about them."""
    unread: list[tuple[str, str]] = field(default_factory=list)
    """Files that could not be read, and why."""
    passed_over: Counter[str] = field(default_factory=Counter)
    """How many files and folders were not looked into, for which reason."""

    def add(self, name: str, read: DocumentText) -> None:
        """Count a document that was read."""
        self.kinds[read.kind] += 1
        self.chars += len(read.text)
        self.notes += [(name, note) for note in read.notes]

    def line(self) -> str:
        """Say all of it in one line."""
        return "; ".join(
            [self._read_line(), *_grouped(self.notes), *self.unread_lines(), *self.passed_over_lines()]
        )

    def doubtful(self) -> list[str]:
        """Return what strict reading does not allow, each a sentence."""
        links = [f"{self.passed_over[LINKS]} {LINKS}"] if self.passed_over[LINKS] else []
        return [*_grouped(self.notes), *_grouped(self.unread), *links]

    def unread_lines(self) -> list[str]:
        """List the files that could not be read, together where the reason is the same."""
        return [f"not read: {', '.join(found)}"] if (found := _grouped(self.unread)) else []

    def passed_over_lines(self) -> list[str]:
        """Say how many files were passed over, by reason."""
        return [line] if (line := describe_passed_over(self.passed_over)) else []

    def _read_line(self) -> str:
        total = self.kinds.total()
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in self.kinds.most_common())
        named = f"{total:,} files ({kinds})" if total != 1 else f"1 file ({next(iter(self.kinds))})"
        return f"read {named}, {self.chars:,} characters"


@dataclass(frozen=True, slots=True)
class FileContext:
    """Files that were read; a context."""

    context: Context
    files: Files
    report: ReadingReport


def _read_all(reader: DocumentReader, files: Sequence[SourceFile]) -> list[DocumentText | InputError | None]:
    """Return each file as its text, or why it is none; None for a binary one that was only found in a folder."""

    def read(file: SourceFile) -> DocumentText | InputError | None:
        try:
            data = file.read(HEAD_BYTES if file.discovered else -1)
            if file.discovered and detect_format(data[:HEAD_BYTES], file.path).name == _BINARY:
                return None
            if file.discovered and len(data) == HEAD_BYTES:
                data = file.read()
            return reader.read(data, file.id)
        except InputError as error:
            return error

    threads = min(_MAX_THREADS, os.cpu_count() or 1)
    if len(files) < 2 * threads:
        return [read(file) for file in files]
    with ThreadPoolExecutor(threads, "rlm_ray-read") as pool:
        return list(pool.map(read, files))


def _grouped(named: Sequence[tuple[str, str]]) -> list[str]:
    """Names with the same sentence behind them as one line."""
    groups: dict[str, list[str]] = {}
    for name, why in named:
        groups.setdefault(why, []).append(name)
    return [f"{_list(names)} ({why})" for why, names in groups.items()]


def _list(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _patterns(name: str, given: Iterable[str]) -> tuple[str, ...]:
    found = (given,) if isinstance(given, str) else tuple(given)
    for pattern in found:
        try:
            Selection.of([pattern], ())
        except ValueError as error:
            raise InputError(name, f"{pattern!r} is no pattern; write one such as *.md or docs/") from error
    return found
