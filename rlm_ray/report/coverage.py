"""Which bytes of the root's context went to sub-calls, and which a model had whole in its window.

A child session is given a piece and reads it through code; a plain call has the piece in its prompt.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rlm_ray.core.tree import Node
from rlm_ray.report.facts import Facts, input_of, kind_of, state_of

Range = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Coverage:
    total: int
    """Bytes of the root's context, as far as the records tell."""
    given: int
    """Bytes that any sub-call was given."""
    read: int
    """Bytes that stood in the prompt of a plain call that answered."""
    by_depth: dict[int, int]


def coverage_of(facts: Facts) -> Coverage:
    ranges = {node.path: found for node in facts.nodes if (found := range_of(facts, node)) is not None}
    below = [node for node in facts.nodes if node.path and node.path in ranges]
    read = [node for node in facts.nodes if node.path in ranges and _has_read(facts, node)]
    depths = sorted({node.depth for node in below})
    at_depth = {depth: [ranges[node.path] for node in below if node.depth == depth] for depth in depths}
    total = _total(facts, ranges.values())
    return Coverage(
        total,
        given=covered(ranges[node.path] for node in below),
        read=covered(ranges[node.path] for node in read),
        by_depth={depth: covered(found) for depth, found in at_depth.items()},
    )


def range_of(facts: Facts, node: Node) -> Range | None:
    """Where its input lies in the root's context; None where it is a text of its own."""
    given = input_of(facts, node)
    if given.start is None or given.stop is None or given.stop <= given.start:
        return None
    return given.start, given.stop


def merged(ranges: Iterable[Range]) -> list[Range]:
    """The same bytes, in order, as ranges that neither touch nor overlap."""
    found: list[Range] = []
    for start, stop in sorted(ranges):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(stop, found[-1][1]))
        else:
            found.append((start, stop))
    return found


def covered(ranges: Iterable[Range]) -> int:
    """How many bytes these are, each counted once."""
    return sum(stop - start for start, stop in merged(ranges))


def _has_read(facts: Facts, node: Node) -> bool:
    return kind_of(node) in {"leaf", "direct"} and state_of(facts, node) == "ok"


def _total(facts: Facts, ranges: Iterable[Range]) -> int:
    root = input_of(facts, facts.tree.root)
    return max([root.stop or root.chars, *(stop for _, stop in ranges)])
