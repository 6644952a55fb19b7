"""The table of what was measured, as Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

from quality.cells import Cell
from quality.confidence import bootstrap_interval, mcnemar_p, wilson_interval

_LEGEND = (
    "`right`: equal to the truth, with Wilson's interval; `score`: F1 of lists, closeness of numbers, with a "
    "bootstrap's. Turns, calls, tokens and seconds are means of a cell. What does not fit into the window is not "
    "counted; what failed counts as wrong."
)


@dataclass(frozen=True, slots=True)
class MethodSummary:
    """One method over all its cells."""

    method: str
    asked: int
    right: int
    right_interval: tuple[float, float]
    score: float
    score_interval: tuple[float, float]
    turns: float
    calls: float
    input_tokens: float
    output_tokens: float
    cost_usd: float | None
    """Of all cells; None where no price is known."""
    seconds: float
    failed: int
    too_long: int

    @property
    def share(self) -> float:
        return self.right / self.asked if self.asked else 0.0


def summarize(method: str, cells: Iterable[Cell]) -> MethodSummary:
    """Sum up the cells of one method: shares over those that count, the rest as means."""
    of_method = [cell for cell in cells if cell.method == method]
    counted = [cell for cell in of_method if cell.counts]
    scores = [cell.score for cell in counted]
    right = sum(cell.right for cell in counted)
    costs = [cell.cost_usd for cell in counted if cell.cost_usd is not None]
    return MethodSummary(
        method,
        len(counted),
        right,
        wilson_interval(right, len(counted)),
        _mean(scores),
        bootstrap_interval(scores),
        _mean([cell.turns for cell in counted]),
        _mean([cell.calls for cell in counted]),
        _mean([cell.input_tokens for cell in counted]),
        _mean([cell.output_tokens for cell in counted]),
        sum(costs) if costs else None,
        _mean([cell.seconds for cell in counted]),
        sum(cell.status == "failed" for cell in of_method),
        sum(cell.status == "too_long" for cell in of_method),
    )


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values) if values else 0.0


def render_report(cells: Sequence[Cell], tasks: Sequence[str], methods: Sequence[str], model: str) -> str:
    """Return the summary, each cell, and what became of pairs, as a Markdown page."""
    summaries = [summarize(method, cells) for method in methods]
    parts = [
        f"# {model}: {len(tasks)} tasks",
        _table(
            [
                "method",
                "right",
                "95 %",
                "score",
                "95 %",
                "turns",
                "calls",
                "tokens in",
                "out",
                "cost",
                "seconds",
                "failed",
                "too long",
            ],
            map(_summary_row, summaries),
        ),
        _LEGEND,
        _table(["task", *methods], (_task_row(task, methods, cells) for task in tasks)),
        "A cell: right or not, score where it is between, turns/calls, seconds.",
    ]
    pairs = [_pair_row(one, other, cells) for one, other in combinations(methods, 2)]
    if pairs:
        parts.append(
            _table(["pair", "tasks", "only the first is right", "only the second", "McNemar p"], pairs)
        )
    failed = [
        f"- {cell.task}, {cell.method}: {cell.status}: {cell.why}"
        for cell in cells
        if cell.status in ("failed", "timeout")
    ]
    if failed:
        parts.append("Failed or out of time:\n\n" + "\n".join(failed))
    return "\n\n".join(parts) + "\n"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


def _summary_row(of: MethodSummary) -> list[str]:
    return [
        of.method,
        f"{of.right} of {of.asked}",
        _interval(of.right_interval),
        f"{of.score:.2f}",
        _interval(of.score_interval),
        f"{of.turns:.1f}",
        f"{of.calls:.1f}",
        f"{of.input_tokens:,.0f}",
        f"{of.output_tokens:,.0f}",
        "unknown" if of.cost_usd is None else f"${of.cost_usd:.4f}",
        f"{of.seconds:.0f}",
        str(of.failed),
        str(of.too_long),
    ]


def _interval(bounds: tuple[float, float]) -> str:
    return f"{bounds[0]:.2f}-{bounds[1]:.2f}"


def _task_row(task: str, methods: Sequence[str], cells: Sequence[Cell]) -> list[str]:
    by_method = {cell.method: cell for cell in cells if cell.task == task}
    return [task, *(_cell(by_method.get(method)) for method in methods)]


def _cell(cell: Cell | None) -> str:
    if cell is None:
        return ""
    if cell.status in ("failed", "too_long", "timeout"):
        return cell.status.replace("_", " ")
    word = "right" if cell.right else "wrong" if cell.score == 0 else f"wrong {cell.score:.2f}"
    return f"{word}, {cell.turns}/{cell.calls}, {cell.seconds:.0f} s"


def _pair_row(one: str, other: str, cells: Sequence[Cell]) -> list[str]:
    right = {
        method: {cell.task: cell.right for cell in cells if cell.method == method and cell.counts}
        for method in (one, other)
    }
    both = right[one].keys() & right[other].keys()
    first = sum(right[one][task] and not right[other][task] for task in both)
    second = sum(right[other][task] and not right[one][task] for task in both)
    return [f"{one} / {other}", str(len(both)), str(first), str(second), f"{mcnemar_p(first, second):.3f}"]
