"""Renders a `Snapshot` as lines of text for a screen of any width: narrow ones get fewer columns, never a broken line.

Figures and states are written in as few letters as a line has room for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.text import Text

if TYPE_CHECKING:
    from rlm_ray.progress.live_state import LimitUsage, Row, Snapshot


def format_count(value: float) -> str:
    """Write a number in few letters: 999, 1,234, 56.8k, 123k, 1.2M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= max(size, 1e4):
            scaled = value / size
            return f"{scaled:.0f}{unit}" if scaled >= 100 else f"{scaled:.1f}{unit}"
    return f"{value:,.0f}"


def format_duration(seconds: float) -> str:
    """Write seconds as 7s, 1:23, 2:03:04."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def format_usd(usd: float) -> str:
    """Write dollars as $12.30, $0.31, $0.0042."""
    return f"${usd:,.2f}" if usd >= 0.1 or usd == 0 else f"${usd:.4f}"


def format_cost(view: Snapshot) -> str:
    """Write what is known to have been paid; empty where nothing is."""
    if not view.cost_usd:
        return ""
    return format_usd(view.cost_usd) + (" and more" if view.unpriced else "")


def format_retries(view: Snapshot) -> str:
    """Write retries as 5 retries (3 x 429)."""
    if not view.retries:
        return ""
    word = "retry" if view.retries == 1 else "retries"
    return f"{view.retries:,} {word}" + (f" ({view.refused:,} x 429)" if view.refused else "")


def format_limit(gauge: LimitUsage) -> str:
    """Write a limit as $0.31 of $5.00, 1.2M of 2.0M tokens."""
    if gauge.name == "cost_usd":
        return f"{format_usd(gauge.used)} of {format_usd(gauge.limit)}"
    return f"{format_count(gauge.used)} of {format_count(gauge.limit)} {gauge.name}"


def format_sub_calls(row: Row) -> str:
    """Write sub-calls as 40/500."""
    return f"{row.answered:,}/{row.sub_calls:,}" if row.sub_calls else ""


def format_hidden_rows(view: Snapshot) -> str:
    """Write what has no row of its own."""
    parts = (
        (view.more_running, "running"),
        (view.hidden_finished - view.more_failed, "done"),
        (view.more_failed, "failed"),
    )
    words = ", ".join(f"{count:,} {word}" for count, word in parts if count > 0)
    return f"and {words}" if words else ""


def format_calls(view: Snapshot) -> str:
    """Write calls as 812 calls, 3 failed."""
    parts = [f"{format_count(view.calls)} {'call' if view.calls == 1 else 'calls'}"]
    if view.failed_calls:
        parts.append(f"{format_count(view.failed_calls)} failed")
    if view.cache_hits:
        parts.append(f"{format_count(view.cache_hits)} from the cache")
    return ", ".join(parts)


def format_line(view: Snapshot) -> str:
    """Write the whole state in one line: for logs."""
    root = view.root
    if not view.has_begun:
        return view.waits_for
    parts = []
    if root is not None and root.turn:
        parts.append(f"turn {root.turn}")
    if root is not None and root.sub_calls:
        failed = f", {root.failed:,} failed" if root.failed else ""
        parts.append(f"sub-calls {format_sub_calls(root)}{failed}")
    parts += [
        format_calls(view),
        f"{format_count(view.tokens)} tokens",
        format_cost(view),
        _in_flight(view),
        format_retries(view),
    ]
    if view.ended:
        parts.append(view.ended)
    parts.append(view.waits_for)
    return " · ".join(part for part in parts if part)


def _in_flight(view: Snapshot) -> str:
    return "" if view.ended or not view.in_flight else f"{format_count(view.in_flight)} in flight"


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
        elapsed = format_duration(view.elapsed_s)
        waits = Text(f" {view.waits_for} {glyphs.dot} {elapsed}", "default")
        return [_cut(_mark(view.root, now, glyphs).append(waits), width)]
    columns = [_columns(row) for row in view.rows]
    widths = _widths(columns, width)
    drawn = [
        _row(row, cells, widths, width, _mark(row, now, glyphs))
        for row, cells in zip(view.rows, columns, strict=True)
    ]
    if rest := format_hidden_rows(view):
        drawn.append(Text(f"  {rest}", "dim"))
    if view.waits_for:
        drawn.append(Text(view.waits_for))
    return [*(_cut(line, width) for line in (*drawn, *_usage_lines(view, width, glyphs)))]


def _columns(row: Row) -> list[Text]:
    """Return what stands right of the name."""
    return [
        Text(row.doing, "red" if row.state == "error" else "dim"),
        Text(f"turn {row.turn}" if row.turn else "", "dim"),
        Text(format_sub_calls(row), "bold"),
        Text(f"{row.failed:,} failed" if row.failed else "", "red"),
        Text(format_duration(row.seconds), "dim"),
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
    money = "" if gauge is not None and gauge.name == "cost_usd" else format_cost(view)
    speed = f"{format_count(view.tokens_per_s)} tokens/s" if view.tokens_per_s >= 1 else ""
    sessions = f"{view.sessions_open:,} of {view.sessions:,} sessions open" if view.sessions > 1 else ""
    calls = [
        format_calls(view),
        "" if view.ended else f"{format_count(view.in_flight)} in flight",
        sessions,
    ]
    spent = [
        f"{format_count(view.tokens)} tokens",
        speed,
        money,
        format_retries(view),
        format_duration(view.elapsed_s),
    ]
    yield from _wrap([Text(part) for part in calls if part], width, glyphs)
    bar = [_bar(gauge, glyphs)] if gauge is not None else []
    yield from _wrap([*bar, *(Text(part) for part in spent if part)], width, glyphs)


def _bar(gauge: LimitUsage, glyphs: Glyphs) -> Text:
    style = "red" if gauge.share > 0.9 else "yellow" if gauge.share > 0.7 else "green"
    full = round(gauge.share * BAR)
    bar = Text(glyphs.full * full, style).append(glyphs.empty * (BAR - full), "bright_black")
    return bar.append(f" {format_limit(gauge)}", "default")


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
