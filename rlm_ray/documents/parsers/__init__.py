"""A function a format makes a text of the bytes of a document. They run in the worker process only.

A parser takes the bytes and returns a `ParsedDocument`, or raises `DocumentError` with a sentence that goes on after
the name of the file. What a library raises at hostile bytes is caught around all of them, in `worker`.
"""

from __future__ import annotations

from dataclasses import dataclass


class DocumentError(Exception):
    """A document cannot be read; the message is a sentence without its name."""


@dataclass(frozen=True, slots=True)
class ParsedDocument:
    """The text of a document."""

    text: str
    kind: str
    """What it is: `PDF`, `Word`, `PowerPoint`, `workbook`, `web page` ..."""
    notes: tuple[str, ...] = ()
    """What was left out or is doubtful, each a sentence."""


def join_cells(cells: list[str]) -> str:
    """Return one row of a table as a line."""
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"
