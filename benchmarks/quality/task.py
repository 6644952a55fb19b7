"""A task: a context, a question, and the truth, made from a kind, a size and a seed."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from random import Random
from types import MappingProxyType
from typing import TypeVar

from quality.scoring import Truth

SIZES: Mapping[str, int] = MappingProxyType(
    {"2k": 2_000, "8k": 8_000, "20k": 20_000, "50k": 50_000, "80k": 80_000, "400k": 400_000, "4m": 4_000_000}
)
"""Characters of a context, about."""
DEFAULT_SIZE = "20k"
_ATTEMPTS = 200

_Key = TypeVar("_Key")


class AmbiguousError(Exception):
    """Says that the draw has no single true answer; the next draw is tried."""


@dataclass(frozen=True, slots=True)
class Task:
    """A question about a context, and what is true."""

    name: str
    """`kind@size`, with `#seed` where that is not 0."""
    question: str
    context: str = field(repr=False)
    truth: Truth

    @property
    def digest(self) -> str:
        """Tell tasks of one name apart that differ in content, after their generator has changed."""
        whole = "\0".join((self.question, self.context, repr(self.truth)))
        return hashlib.sha256(whole.encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Kind:
    """How tasks of one kind are made."""

    name: str
    asks: str
    """What it tests, in a few words."""
    build: Callable[[Random, int], tuple[str, str, Truth]]
    """From randomness and a number of characters to question, context, truth; raises `AmbiguousError`."""
    sizes: Sequence[str] = tuple(SIZES)

    def task(self, size: str, seed: int = 0) -> Task:
        """Return the same task for the same arguments, on every machine."""
        name = f"{self.name}@{size}" + (f"#{seed}" if seed else "")
        for attempt in range(_ATTEMPTS):
            try:
                question, context, truth = self.build(Random(f"{name}/{attempt}"), SIZES[size])
            except AmbiguousError:
                continue
            return Task(name, question, context, truth)
        raise RuntimeError(f"{name}: none of {_ATTEMPTS} draws has a single true answer")


def select_tasks(patterns: str, kinds: Mapping[str, Kind], seed: int = 0) -> list[Task]:
    """Return the tasks that patterns name, the smallest contexts first.

    Patterns are separated by commas or blanks: `log_count@80k`, `csv_*@2k`, `*@*`; without `@`, the kind's own smallest
    size from 20k on. Raises ValueError for one that names nothing.
    """
    found: dict[tuple[int, str], tuple[Kind, str]] = {}
    for pattern in patterns.replace(",", " ").split():
        of_kind, at, of_size = pattern.partition("@")
        matching = [
            (kind, size)
            for kind in kinds.values()
            if fnmatchcase(kind.name, of_kind)
            for size in (kind.sizes if at else [_default_size(kind)])
            if fnmatchcase(size, of_size.lower() or "*")
        ]
        if not matching:
            raise ValueError(
                f"no task is called {pattern}; sizes are {', '.join(SIZES)}, kinds {', '.join(kinds)}"
            )
        found |= {(SIZES[size], kind.name): (kind, size) for kind, size in matching}
    return [kind.task(size, seed) for _, (kind, size) in sorted(found.items(), key=lambda item: item[0])]


def _default_size(kind: Kind) -> str:
    large_enough = [size for size in kind.sizes if SIZES[size] >= SIZES[DEFAULT_SIZE]]
    return (large_enough or [kind.sizes[-1]])[0]


def single_maximum(counts: Counter[_Key]) -> _Key:
    """Return the key with the highest count; raises `AmbiguousError` where two share it."""
    ranked = counts.most_common(2)
    if not ranked or (len(ranked) > 1 and ranked[0][1] == ranked[1][1]):
        raise AmbiguousError
    return ranked[0][0]


def require(*, single_truth: bool) -> None:
    """Reject a draw that has no single true answer, or a trivial one."""
    if not single_truth:
        raise AmbiguousError
