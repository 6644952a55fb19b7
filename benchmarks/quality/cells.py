"""Cells: a task asked by a method. Each is one JSON line as soon as it is done, and is not run again."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Cell:
    """How one task went with one method."""

    task: str
    digest: str
    """Of the task's content: a line of a task that is made otherwise now is not taken."""
    method: str
    model: str
    status: str
    """As `Reply.status`."""
    answer: str | None
    truth: object
    score: float
    right: bool
    turns: int
    calls: int
    refused: int
    cached: int
    input_tokens: int
    output_tokens: int
    cost_usd: float | None
    seconds: float
    why: str
    version: str
    """Which code it was: a commit, or a library's version."""
    at: str
    """When it ended, as an ISO time."""

    @property
    def key(self) -> tuple[str, str, str, str]:
        return self.task, self.digest, self.method, self.model

    @property
    def counts(self) -> bool:
        """Whether it is part of the score: what does not fit into the window is not asked; what failed is not right."""
        return self.status != "too_long"


class CellStore:
    """The lines of one file; the last one of a key counts."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._cells: dict[tuple[str, str, str, str], Cell] = {}
        if path.exists():
            whole = path.read_text("utf-8")
            self._cells = {cell.key: cell for cell in map(_parse, whole.splitlines()) if cell is not None}
            if whole and not whole.endswith("\n"):  # a process was killed while it wrote
                path.write_text(whole + "\n", "utf-8")

    def get(self, key: tuple[str, str, str, str]) -> Cell | None:
        return self._cells.get(key)

    def add(self, cell: Cell) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(cell), ensure_ascii=False) + "\n")
        self._cells[cell.key] = cell

    def of(self, model: str, tasks: Iterable[tuple[str, str]], methods: Iterable[str]) -> list[Cell]:
        """Return the cells there are of these tasks (name and digest) and methods."""
        wanted = list(methods)
        found = [
            self._cells.get((name, digest, method, model)) for name, digest in tasks for method in wanted
        ]
        return [cell for cell in found if cell is not None]


def _parse(line: str) -> Cell | None:
    try:
        table = json.loads(line)
        return Cell(**{item.name: table[item.name] for item in fields(Cell)})
    except (ValueError, KeyError, TypeError):
        return None
