"""Renders a `Snapshot` as lines of text for a screen of any width: narrow ones get fewer columns, never a broken line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from rich.text import Text

from rlm_ray.progress import formatting
from rlm_ray.progress.live_state import LimitUsage, Row, Snapshot

LABEL = 22
"""The least columns for a name; the others give way, the least telling first."""
COLUMN_DROP_ORDER = (1, 0, 3)
BAR = 20
INDENTS = 6
"""Deeper rows stand no further to the right."""


@dataclass(frozen=True, slots=True)
class Glyphs:
    """The signs that a terminal can show."""

    spinner: str = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
    ok: str = "✓"
    stopped: str = "■"
    error: str = "✗"
    dot: str = "·"
    full: str = "━"
    empty: str = "━"


ASCII = Glyphs("|/-\\", "+", "=", "x", "-", "#", ".")
FRAMES_PER_S = 4
_STYLES = {"running": "cyan", "ok": "green", "stopped": "yellow", "error": "red"}


def lines(view: Snapshot, width: int, now: float, glyphs: Glyphs) -> list[Text]:
    """Return the rows, then the figures; none is longer than `width`."""
    if not view.has_begun and view.root is not None:
        elapsed = formatting.format_duration(view.elapsed_s)
        waits = Text(f" {view.waits_for} {glyphs.dot} {elapsed}", "default")
        return [_cut(_mark(view.root, now, glyphs).append(waits), width)]
    columns = [_columns(row) for row in view.rows]
    widths = _widths(columns, width)
    drawn = [
        _row(row, cells, widths, width, _mark(row, now, glyphs))
        for row, cells in zip(view.rows, columns, strict=True)
    ]
    if rest := formatting.format_hidden_rows(view):
        drawn.append(Text(f"  {rest}", "dim"))
    if view.waits_for:
        drawn.append(Text(view.waits_for))
    return [*(_cut(line, width) for line in (*drawn, *_usage_lines(view, width, glyphs)))]


def _columns(row: Row) -> list[Text]:
    """Return what stands right of the name."""
    return [
        Text(row.doing, "red" if row.state == "error" else "dim"),
        Text(f"turn {row.turn}" if row.turn else "", "dim"),
        Text(formatting.sub_calls(row), "bold"),
        Text(f"{row.failed:,} failed" if row.failed else "", "red"),
        Text(formatting.format_duration(row.seconds), "dim"),
    ]


def _widths(columns: list[list[Text]], width: int) -> list[int]:
    widths = [max(cell.cell_len for cell in cells) for cells in zip(*columns, strict=True)]
    for place in COLUMN_DROP_ORDER:
        if width - _taken(widths) < LABEL:
            widths[place] = 0
    return widths


def _taken(widths: Iterable[int]) -> int:
    return sum(column + 2 for column in widths if column)


def _row(row: Row, cells: list[Text], widths: list[int], width: int, mark: Text) -> Text:
    line = Text("  " * min(len(row.path), INDENTS)) + mark
    line.append(f" {'.'.join(map(str, row.path))}" if row.path else "", "cyan")
    line.append(f" {row.query}", "" if row.path else "bold")
    line.truncate(max(width - _taken(widths), 1), overflow="ellipsis", pad=True)
    for place, (cell, column) in enumerate(zip(cells, widths, strict=True)):
        if column:
            cell.align("left" if place == 0 else "right", column)
            line.append("  ").append(cell)
    return _cut(line, width)


def _mark(row: Row, now: float, glyphs: Glyphs) -> Text:
    frame = glyphs.spinner[int(now * FRAMES_PER_S) % len(glyphs.spinner)]
    sign = {"running": frame, "ok": glyphs.ok, "stopped": glyphs.stopped, "error": glyphs.error}[row.state]
    return Text(sign, _STYLES[row.state])


def _usage_lines(view: Snapshot, width: int, glyphs: Glyphs) -> Iterator[Text]:
    gauge = view.gauge
    money = "" if gauge is not None and gauge.name == "cost_usd" else formatting.cost(view)
    speed = f"{formatting.format_count(view.tokens_per_s)} tokens/s" if view.tokens_per_s >= 1 else ""
    sessions = f"{view.sessions_open:,} of {view.sessions:,} sessions open" if view.sessions > 1 else ""
    calls = [
        formatting.calls(view),
        "" if view.ended else f"{formatting.format_count(view.in_flight)} in flight",
        sessions,
    ]
    spent = [
        f"{formatting.format_count(view.tokens)} tokens",
        speed,
        money,
        formatting.retries(view),
        formatting.format_duration(view.elapsed_s),
    ]
    yield from _wrap([Text(part) for part in calls if part], width, glyphs)
    bar = [_bar(gauge, glyphs)] if gauge is not None else []
    yield from _wrap([*bar, *(Text(part) for part in spent if part)], width, glyphs)


def _bar(gauge: LimitUsage, glyphs: Glyphs) -> Text:
    style = "red" if gauge.share > 0.9 else "yellow" if gauge.share > 0.7 else "green"
    full = round(gauge.share * BAR)
    bar = Text(glyphs.full * full, style).append(glyphs.empty * (BAR - full), "bright_black")
    return bar.append(f" {formatting.format_limit(gauge)}", "default")


def _wrap(parts: list[Text], width: int, glyphs: Glyphs) -> Iterator[Text]:
    """Yield lines with as many parts as go into each."""
    line = Text()
    for part in parts:
        if line and line.cell_len + 3 + part.cell_len > width:
            yield line
            line = Text()
        line = line.append(f" {glyphs.dot} ", "dim").append(part) if line else part
    if line:
        yield line


def _cut(line: Text, width: int) -> Text:
    line.truncate(width, overflow="ellipsis")
    line.rstrip()
    return line
