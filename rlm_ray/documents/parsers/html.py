"""HTML as text, by the parser of the standard library: headings, lists and tables in the manner of Markdown."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from rlm_ray.core.pages import escape_markers, tidy
from rlm_ray.documents.decoding import decode_anyway
from rlm_ray.documents.parsers import ParsedDocument, join_cells

_IGNORED = frozenset({"script", "style", "template", "noscript", "svg", "math", "iframe", "object", "head"})
_BLOCKS = frozenset(
    [
        "address",
        "article",
        "aside",
        "blockquote",
        "body",
        "caption",
        "dd",
        "details",
        "dialog",
        "div",
        "dl",
        "dt",
        "fieldset",
        "figcaption",
        "figure",
        "footer",
        "form",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "header",
        "hr",
        "html",
        "legend",
        "li",
        "main",
        "nav",
        "ol",
        "p",
        "pre",
        "section",
        "summary",
        "table",
        "tbody",
        "tfoot",
        "thead",
        "tr",
        "ul",
    ]
)
_LINES = frozenset({"li", "tr", "dd", "dt", "tbody", "thead", "legend"})
_CELLS = frozenset({"td", "th"})
_VOID = frozenset(
    ["area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"]
)


def parse_html(data: bytes) -> ParsedDocument:
    decoded = decode_anyway(data)
    notes = (f"encoding guessed: {decoded.guessed}",) if decoded.guessed else ()
    return ParsedDocument(escape_markers(tidy(text_of(decoded.text))), "web page", notes)


def text_of(html: str) -> str:
    """Return the text that a reader of the page sees."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    return reader.text()


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._out: list[str] = []
        self._ignored: list[str] = []
        self._rows: list[list[str]] = []
        self._cell_start: list[int] = []
        self._pre = 0
        self._title: list[str] = []
        self._in_title = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "title":
            self._in_title = not self._title
        elif tag == "body":
            self._ignored.clear()  # a head that was not closed
        elif self._ignored:
            if tag == self._ignored[-1]:
                self._ignored.append(tag)
        elif tag in _IGNORED or "hidden" in given:
            if tag not in _VOID:
                self._ignored.append(tag)
        else:
            self._open(tag, given)

    def _open(self, tag: str, given: dict[str, str | None]) -> None:
        if tag == "br":
            self._out.append("\n")
        elif tag == "img":
            self._out.append(f"[image: {given['alt']}]" if given.get("alt") else "")
        elif tag == "tr":
            self._line_break()
            self._rows.append([])
        elif tag in _CELLS:
            self._end_cell()
            self._cell_start.append(len(self._out))
        elif tag in _BLOCKS:
            self._line_break() if tag in _LINES else self._break()
            self._pre += tag == "pre"
            if re.fullmatch("h[1-6]", tag):
                self._out.append("#" * int(tag[1]) + " ")
            elif tag == "li":
                self._out.append("- ")

    def handle_endtag(self, tag: str) -> None:
        if tag == "title":
            self._in_title = False
        elif self._ignored:
            if tag == self._ignored[-1]:
                self._ignored.pop()
        elif tag in _CELLS:
            self._end_cell()
        elif tag == "tr":
            self._end_row()
        elif tag == "table":
            self._end_row()
            self._break()
        elif tag in _BLOCKS:
            self._line_break() if tag in _LINES else self._break()
            self._pre = max(self._pre - (tag == "pre"), 0)

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self._title.append(data)
        elif not self._ignored:
            self._out.append(data if self._pre else re.sub(r"\s+", " ", data))

    def text(self) -> str:
        self._end_row()
        body = (
            re.sub(r"(?m)^ +(?=\S)", "", re.sub(r" +\n", "\n", "".join(self._out)))
            if not self._pre
            else "".join(self._out)
        )
        title = " ".join("".join(self._title).split())
        body = re.sub(r"(?m)^(- |#{1,6} )\n+", r"\1", body)
        return f"{title}\n\n{body}" if title and title not in body else body

    def _break(self) -> None:
        if self._out and not self._cell_start:
            self._out.append("\n\n" if not self._rows else "\n")
        elif self._cell_start:
            self._out.append(" ")

    def _line_break(self) -> None:
        if self._out and not self._out[-1].endswith("\n"):
            self._out.append(" " if self._cell_start else "\n")

    def _end_cell(self) -> None:
        """Take the text of the cell out of what was written, and put it into its row."""
        if self._cell_start and self._rows:
            start = self._cell_start.pop()
            self._rows[-1].append("".join(self._out[start:]))
            del self._out[start:]

    def _end_row(self) -> None:
        self._end_cell()
        if self._rows:
            cells = self._rows.pop()
            line = join_cells(cells) if any(cell.strip() for cell in cells) else ""
            self._out.append(f"{line}\n" if line else "")
