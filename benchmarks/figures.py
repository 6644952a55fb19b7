"""What a benchmark says with `--json`: a list of figures, which `table.py` joins."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

TABLES = ("time", "cpu", "start", "other")
"""Seconds of a piece of work; CPU of one unit of work; first answers; everything else."""
LEAVES = "map over 500 leaves"
CHILDREN_32 = "32 child sessions"
CHILDREN_256 = "256 child sessions"
ROOTS = "64 roots at once"
LARGE = "100 MB context"
ROWS = "1,000 batch rows of a call"
"""What more than one method does."""
LEAF_CPU, CHILD_CPU, ROOT_CPU, ROW_CPU = (
    "leaf call of a map",
    "child session of 2 turns",
    "root session of 2 turns",
    "batch row",
)
"""Units of it whose CPU is told."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One number: of one piece of work, done by one method."""

    table: str
    """One of `TABLES`."""
    work: str
    by: str
    """`ours` or a peer; in the table of starts the kind of number."""
    value: float | None
    """None where there is none, and `failed` says why."""
    unit: str
    runs: tuple[float, ...] = ()
    """All that `value` is the median of."""
    critical_path: float | None = None
    """The least that the model's latency allows, in the same unit."""
    reach: float | None = None
    """What the project set itself, in the same unit."""
    failed: str = ""
    """Why there is no value, or why it does not count, in a few words."""


def median_figure(  # noqa: PLR0913 - the fields of a figure
    table: str,
    work: str,
    by: str,
    runs: Sequence[float],
    unit: str,
    *,
    critical_path: float | None = None,
    reach: float | None = None,
) -> Figure:
    """Make the figure of several runs."""
    return Figure(table, work, by, statistics.median(runs), unit, tuple(runs), critical_path, reach)


def write_figures(path: Path | None, figures: Iterable[Figure]) -> None:
    """Write them as JSON, where a file is wanted; four digits behind the point."""
    if path is None:
        return
    rows = [asdict(figure) for figure in figures]
    for row in rows:
        row["runs"] = [round(run, 4) for run in row["runs"]]
        row["value"] = None if row["value"] is None else round(row["value"], 4)
    path.write_text(json.dumps(rows) + "\n", "utf-8")


def read_figures(rows: Iterable[dict[str, Any]]) -> list[Figure]:
    """Make figures of what JSON holds."""
    return [Figure(**{**row, "runs": tuple(row["runs"])}) for row in rows]
