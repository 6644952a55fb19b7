"""The records of a run, put in order for a page: nodes parents first, and every call and cell with its node.

The tree keeps the latest call of each number; what an earlier attempt of a lost session did was paid for as well, so
it is kept here too, marked as superseded.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from rlm_ray.core.context import InputSummary
from rlm_ray.events.records import CallEnded, CellEnded, NodePath, Record, RunFinished
from rlm_ray.events.tree import Node, RunTree
from rlm_ray.events.usage import CANCELLED

UNFINISHED = "unfinished"
"""The state of a run or a node of which no end is recorded: it goes on, or was killed."""
FAILED_STATES = ("error", "lost", CANCELLED)
"""Ends of a session that are failures."""


class RunClock:
    """Seconds of work since the run began: pauses between the attempts of a resumed run do not count."""

    def __init__(self, times: Iterable[float] = (), attempt_starts: Sequence[float] = ()) -> None:
        moments = sorted(times)
        self.began = moments[0] if moments else 0.0
        self._resumed = sorted(attempt_starts)[1:]
        earlier = [bisect_right(moments, at - 1e-9) for at in self._resumed]
        pauses = [
            at - moments[count - 1] if count else 0.0
            for at, count in zip(self._resumed, earlier, strict=True)
        ]
        self._paused = [0.0, *accumulate(pauses)]
        self.last = self(moments[-1]) if moments else 0.0

    def __call__(self, at: float) -> float:
        return at - self.began - self._paused[bisect_right(self._resumed, at)]

    @property
    def paused(self) -> float:
        """Return the seconds left out in all."""
        return self._paused[-1]

    @property
    def resumes(self) -> list[float]:
        """Return when later attempts began."""
        return [self(at) for at in self._resumed]


@dataclass(frozen=True, slots=True)
class RunData:
    """A run, put in order for a page."""

    tree: RunTree
    nodes: tuple[Node, ...]
    """Parents first, children by ordinal: what is below a node stands right behind it."""
    calls: dict[NodePath, list[CallEnded]]
    """Every one, by the time they were wanted."""
    cells: dict[NodePath, list[CellEnded]]
    clock: RunClock


def run_data_from_records(records: Iterable[Record]) -> RunData:
    """Read each record once."""
    tree = RunTree()
    calls: dict[NodePath, list[CallEnded]] = defaultdict(list)
    cells: dict[NodePath, list[CellEnded]] = defaultdict(list)
    times: list[float] = []
    for record in records:
        if not tree.add(record):
            continue
        times.append(record.at)
        if isinstance(record, CallEnded):
            calls[record.path].append(record)
            times.append(record.started)
        elif isinstance(record, CellEnded):
            cells[record.path].append(record)
            times.append(record.started)
    for node in tree.nodes.values():
        node.children.sort(key=lambda child: child.path)
        calls[node.path].sort(key=lambda call: call.started)
        cells[node.path].sort(key=lambda cell: cell.started)
    clock = RunClock(times, [life.at for life in tree.opened])
    return RunData(tree, tuple(tree.root.walk()), calls, cells, clock)


def kind_of(node: Node) -> str:
    """Return `session`, `leaf`, `direct` (an answer without a REPL), or `unknown`: only its children are known."""
    if node.is_leaf:
        return "leaf"
    if (call := node.call) is not None and call.role == "direct":
        return "direct"
    return "session" if node.session_starts or call is not None or node.cells else "unknown"


def state_of(facts: RunData, node: Node) -> str:
    """Return `ok`, `stopped`, `error`, `lost`, `cancelled` or `unfinished`."""
    run = facts.tree.ended
    if node.end is not None and node.end.stop_reason in FAILED_STATES:
        return node.end.stop_reason
    if node.state == "running" and node is facts.tree.root and run is not None:
        return _failed_state(run) or ("ok" if run.stop_reason == "answered" else "stopped")
    if run is not None and node is not facts.tree.root and kind_of(node) == "unknown":
        return state_of(facts, facts.tree.root)  # a number in paths, of which nothing is recorded
    return UNFINISHED if node.state == "running" else node.state


def run_state(facts: RunData) -> str:
    """Return `answered`, what stopped the run, `error`, `cancelled`, or `unfinished`."""
    run = facts.tree.ended
    if run is None:
        return UNFINISHED
    return _failed_state(run) or run.stop_reason


def _failed_state(run: RunFinished) -> str:
    """Return `error`, `cancelled`, or nothing where it did not fail."""
    return CANCELLED if run.error_kind == CANCELLED else "error" if run.error_kind else ""


def error_of(facts: RunData, node: Node) -> str:
    """Return one line; empty where it did not fail."""
    if node.error:
        return node.error
    if node.end is not None and node.end.stop_reason != "answered":
        return node.end.why
    run = facts.tree.ended
    if node is facts.tree.root and run is not None and run.stop_reason != "answered":
        return ": ".join(part for part in (run.error_kind, run.why) if part)
    return ""


def query_of(facts: RunData, node: Node) -> str:
    if node is facts.tree.root and not node.query and facts.tree.opened:
        return facts.tree.opened[-1].query
    return node.query


def input_of(facts: RunData, node: Node) -> InputSummary:
    given = node.input
    if node is facts.tree.root and given == InputSummary() and facts.tree.opened:
        return facts.tree.opened[-1].input
    return given


def answer_of(facts: RunData, node: Node) -> str | None:
    if node is facts.tree.root and facts.tree.ended is not None:
        return facts.tree.ended.answer
    return node.answer


def time_range(facts: RunData, node: Node) -> tuple[float | None, float | None]:
    """Return when it began and ended on the run's clock; None where that is not known."""
    started, ended = node.started, node.ended
    if node is facts.tree.root:
        started = facts.clock.began if facts.tree.opened else started
        ended = facts.tree.ended.at if facts.tree.ended is not None else ended
    return (
        None if started is None else facts.clock(started),
        None if ended is None else facts.clock(ended),
    )
