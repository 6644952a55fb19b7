"""A picture of the same: a bar for each method, and a square for each cell, as plain SVG."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from quality.cells import Cell
from quality.report import summarize

_LEFT, _COLUMN, _ROW, _BARS = 190, 120, 22, 190
_TEXT = 'font-family="sans-serif" font-size="12"'
_STATUS_COLOURS = {"failed": "#c9a0dc", "timeout": "#c7c7c7", "too_long": "#f4f4f4"}


def render_plot(cells: Sequence[Cell], tasks: Sequence[str], methods: Sequence[str], title: str) -> str:
    """Return an SVG: shares of right answers with their 95 % intervals above, each task below, green for right."""
    width, height = _LEFT + _COLUMN * len(methods) + 20, _BARS + 60 + _ROW * len(tasks)
    shapes = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        _text(10, 20, title, "start"),
    ]
    for share in (0.0, 0.5, 1.0):
        y = _y(share)
        shapes.append(f'<line x1="{_LEFT}" x2="{width - 20}" y1="{y}" y2="{y}" stroke="#ddd"/>')
        shapes.append(_text(_LEFT - 8, y + 4, f"{share:.0%}", "end"))
    for column, method in enumerate(methods):
        shapes += _bar(_LEFT + column * _COLUMN, method, cells)
    by_key = {(cell.task, cell.method): cell for cell in cells}
    for row, task in enumerate(tasks):
        y = _BARS + 50 + row * _ROW
        shapes.append(_text(_LEFT - 8, y + 15, task, "end"))
        for column, method in enumerate(methods):
            shapes += _square(_LEFT + column * _COLUMN, y, by_key.get((task, method)))
    return "\n".join([*shapes, "</svg>"]) + "\n"


def _y(share: float) -> float:
    return _BARS - (_BARS - 50) * share


def _bar(x: float, method: str, cells: Sequence[Cell]) -> list[str]:
    of = summarize(method, cells)
    low, high = of.right_interval
    middle = x + _COLUMN / 2
    shapes = [_text(middle, _BARS + 16, method[:18], "middle")]
    if of.asked:
        shapes += [
            f'<rect x="{x + 25}" y="{_y(of.share):.1f}" width="{_COLUMN - 50}" height="{_BARS - _y(of.share):.1f}" fill="#4c9a6a"/>',
            f'<line x1="{middle}" x2="{middle}" y1="{_y(low):.1f}" y2="{_y(high):.1f}" stroke="black"/>',
            _text(middle, _BARS + 32, f"{of.right} of {of.asked}", "middle"),
        ]
    return shapes


def _square(x: float, y: float, cell: Cell | None) -> list[str]:
    if cell is None:
        return []
    colour = _STATUS_COLOURS.get(cell.status) or _shade(cell.score)
    note = cell.status.replace("_", " ") if cell.status in _STATUS_COLOURS else f"{cell.score:.2f}"
    answer = f"{cell.task}, {cell.method}: {cell.answer!r}; true: {cell.truth!r}. {cell.why}"
    shape = f'<rect x="{x + 2}" y="{y}" width="{_COLUMN - 4}" height="{_ROW - 3}" fill="{colour}">'
    return [
        f"{shape}<title>{escape(answer[:500])}</title></rect>",
        _text(x + _COLUMN / 2, y + 14, note, "middle"),
    ]


def _shade(score: float) -> str:
    """From red over white to green."""
    low, high = ((224, 122, 111), (250, 240, 220)) if score < 0.5 else ((250, 240, 220), (122, 190, 145))
    part = score * 2 if score < 0.5 else score * 2 - 1
    return "#" + "".join(f"{round(a + (b - a) * part):02x}" for a, b in zip(low, high, strict=True))


def _text(x: float, y: float, words: str, anchor: str) -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" {_TEXT}>{escape(words)}</text>'
