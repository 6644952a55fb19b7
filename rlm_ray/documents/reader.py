"""Reads one file of any kind: a text is decoded here, a document is converted in a worker process."""

from __future__ import annotations

import queue
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rlm_ray.documents.converter import ConversionLimits, DocumentConverter
from rlm_ray.documents.decoding import check_encoding, decode_text
from rlm_ray.documents.formats import HEAD_BYTES, Format, detect_format
from rlm_ray.errors import InputError


@dataclass(frozen=True, slots=True)
class DocumentText:
    """The text of a file."""

    text: str
    kind: str
    """`text`, `PDF`, `Word` ..."""
    notes: tuple[str, ...] = ()
    """What is doubtful about it, each a sentence without its name: a guessed encoding, pages without text."""
    guessed: str = ""
    """The encoding of a text, where it is a guess."""


class DocumentReader:
    """Reads files, from as many threads as call it; each document under way has a worker process. Use it in a `with`."""

    def __init__(self, encoding: str = "", limits: ConversionLimits = ConversionLimits()) -> None:  # noqa: B008 - frozen
        """`encoding` is that of texts that are not UTF-8; empty: what they look like."""
        self._encoding, self._limits = check_encoding(encoding), limits
        self._idle: queue.LifoQueue[DocumentConverter] = queue.LifoQueue()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while not self._idle.empty():
            self._idle.get().close()

    def read(self, data: bytes, name: str, *, suffix_of: str = "") -> DocumentText:
        """Read a file. Raises `InputError` that names it, and says what to do.

        `suffix_of` is the name that tells its format, where that is not `name`.
        """
        found = detect_format(data[:HEAD_BYTES], suffix_of or name)
        if found.name == "binary":
            raise InputError(name, not_a_text(found))
        if found.name == "text":
            decoded = decode_text(data, name, self._encoding)
            notes = (f"read as {decoded.guessed}, which is a guess",) if decoded.guessed else ()
            return DocumentText(decoded.text, "text", notes, decoded.guessed)
        converter = self._acquire()
        try:
            converted = converter.convert(data, found.name, name)
        finally:
            self._idle.put(converter)
        return DocumentText(converted.text, converted.kind, converted.notes)

    def rows(self, data: bytes, name: str) -> list[str]:
        """Read the rows of a workbook, a line of JSON each. Raises `InputError`."""
        found = detect_format(data[:HEAD_BYTES], name)
        if found.name not in ("zip", "ole"):
            raise InputError(name, "is no workbook, whatever its name says; save it as .xlsx")
        converter = self._acquire()
        try:
            return list(converter.rows(data, found.name, name))
        finally:
            self._idle.put(converter)

    def _acquire(self) -> DocumentConverter:
        try:
            return self._idle.get_nowait()
        except queue.Empty:
            return DocumentConverter(self._limits)


def not_a_text(found: Format) -> str:
    """Say what a binary file is and what to do."""
    return f"is {found.label}, not a text; {found.remedy}"
