"""Figures and states in as few letters as a line has room for."""

from __future__ import annotations

from typing import TYPE_CHECKING

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


def cost(view: Snapshot) -> str:
    """Write what is known to have been paid; empty where nothing is."""
    if not view.cost_usd:
        return ""
    return format_usd(view.cost_usd) + (" and more" if view.unpriced else "")


def retries(view: Snapshot) -> str:
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


def sub_calls(row: Row) -> str:
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


def calls(view: Snapshot) -> str:
    """Write calls as 812 calls, 3 failed."""
    parts = [f"{format_count(view.calls)} {'call' if view.calls == 1 else 'calls'}"]
    if view.failed_calls:
        parts.append(f"{format_count(view.failed_calls)} failed")
    if view.cache_hits:
        parts.append(f"{format_count(view.cache_hits)} from the cache")
    return ", ".join(parts)


def line(view: Snapshot) -> str:
    """Write the whole state in one line: for logs."""
    root = view.root
    if not view.has_begun:
        return view.waits_for
    parts = []
    if root is not None and root.turn:
        parts.append(f"turn {root.turn}")
    if root is not None and root.sub_calls:
        failed = f", {root.failed:,} failed" if root.failed else ""
        parts.append(f"sub-calls {sub_calls(root)}{failed}")
    parts += [calls(view), f"{format_count(view.tokens)} tokens", cost(view), _in_flight(view), retries(view)]
    if view.ended:
        parts.append(view.ended)
    parts.append(view.waits_for)
    return " · ".join(part for part in parts if part)


def _in_flight(view: Snapshot) -> str:
    return "" if view.ended or not view.in_flight else f"{format_count(view.in_flight)} in flight"
