"""Charts as SVG text, for the figures that benchmarks print: `line_chart` and `bar_chart`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 40, 48
COLOURS = ("#2563eb", "#d97706", "#059669", "#dc2626", "#7c3aed", "#475569")
ROW_HEIGHT = 16


def line_chart(
    title: str,
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    x_label: str,
    y_label: str,
    log: bool = False,
) -> str:
    """Draw one line with markers for each series of (x, y); axes begin at 0, or are logarithmic where all values allow it."""
    points = [point for line in series.values() for point in line]
    x_axis, y_axis = (_Axis([point[axis] for point in points], log=log) for axis in (0, 1))

    def place(x: float, y: float) -> tuple[float, float]:
        across, up = x_axis.share(x) * (WIDTH - LEFT - RIGHT), y_axis.share(y) * (HEIGHT - TOP - BOTTOM)
        return LEFT + across, HEIGHT - BOTTOM - up

    shapes = []
    for tick in y_axis.ticks():
        _, down = place(x_axis.low, tick)
        grid = f'<line x1="{LEFT}" y1="{down:.1f}" x2="{WIDTH - RIGHT}" y2="{down:.1f}" stroke="#e5e7eb"/>'
        shapes += [grid, _text(LEFT - 6, down + 4, _number(tick), "end")]
    for tick in x_axis.ticks():
        across, down = place(tick, y_axis.low)
        shapes.append(_text(across, down + 16, _number(tick), "middle"))
    for row, (name, line) in enumerate(series.items()):
        colour, ends = _colour(row), [place(*point) for point in line]
        path = " ".join(f"{across:.1f},{down:.1f}" for across, down in ends)
        shapes.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        shapes += [
            f'<circle cx="{across:.1f}" cy="{down:.1f}" r="3" fill="{colour}"/>' for across, down in ends
        ]
        shapes += _legend(name, colour, LEFT + 12, TOP + 12 + 16 * row)
    shapes.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, x_label, "middle"))
    shapes.append(_text(LEFT, TOP - 8, y_label, "start"))
    return _svg(title, HEIGHT, shapes)


def bar_chart(
    title: str, groups: Mapping[str, Mapping[str, float]], *, x_label: str, log: bool = False
) -> str:
    """Draw horizontal bars: a group of rows for each key, one bar in it for each name; a name keeps its colour."""
    names = list(dict.fromkeys(name for bars in groups.values() for name in bars))
    colours = {name: _colour(index) for index, name in enumerate(names)}
    axis = _Axis([value for bars in groups.values() for value in bars.values()], log=log)
    left, shapes, at = LEFT + 140, [], TOP + 8.0 + 16 * len(names)
    for row, name in enumerate(names):
        shapes += _legend(name, colours[name], left, TOP + 8 + 16 * row)
    for group, bars in groups.items():
        shapes.append(_text(left - 8, at + ROW_HEIGHT * len(bars) / 2 + 4, group, "end"))
        for name, value in bars.items():
            width = max(axis.share(value) * (WIDTH - left - RIGHT - 48), 1)
            shapes += [
                f'<rect x="{left}" y="{at:.1f}" width="{width:.1f}" height="{ROW_HEIGHT - 3}" fill="{colours[name]}"/>',
                _text(left + width + 4, at + ROW_HEIGHT - 6, _number(value), "start"),
            ]
            at += ROW_HEIGHT
        at += 10
    return _svg(title, at + 28, [*shapes, _text(left, at + 16, x_label, "start")])


class _Axis:
    """Maps values to shares of an axis, and says where its ticks are."""

    def __init__(self, values: Sequence[float], *, log: bool) -> None:
        self._log = log and bool(values) and min(values) > 0
        high = max(values, default=1.0) or 1.0
        self._step = 10.0 ** math.floor(math.log10(high))
        self._step *= next(part for part in (0.2, 0.5, 1.0, 2.0) if high / (part * self._step) <= 6)
        self._high = (
            10.0 ** math.ceil(math.log10(high)) if self._log else self._step * math.ceil(high / self._step)
        )
        self.low = 10.0 ** math.floor(math.log10(min(values))) if self._log else 0.0
        if self.low == self._high:
            self.low /= 10

    def share(self, value: float) -> float:
        if self._log:
            return math.log(value / self.low) / math.log(self._high / self.low)
        return value / self._high

    def ticks(self) -> list[float]:
        if self._log:
            return [self.low * 10**power for power in range(round(math.log10(self._high / self.low)) + 1)]
        return [self._step * count for count in range(round(self._high / self._step) + 1)]


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _text(across: float, down: float, text: str, anchor: str) -> str:
    return f'<text x="{across:.1f}" y="{down:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _legend(name: str, colour: str, across: float, down: float) -> list[str]:
    square = f'<rect x="{across:.1f}" y="{down - 9:.1f}" width="10" height="10" fill="{colour}"/>'
    return [square, _text(across + 16, down, name, "start")]


def _svg(title: str, height: float, shapes: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" role="img"'
        f' font-family="sans-serif" font-size="12" fill="#111827"><title>{escape(title)}</title>'
    )
    ground = f'<rect width="{WIDTH}" height="{height:.0f}" fill="#ffffff"/>'
    heading = f'<text x="{LEFT}" y="18" font-size="14" font-weight="bold">{escape(title)}</text>'
    return "\n".join([head, ground, heading, *shapes, "</svg>"]) + "\n"
