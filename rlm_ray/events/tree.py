"""The recursion tree of a run, built from its records, one after the other, in any order they arrive in.

`RunTree.add` takes a record; nodes, their calls, cells and maps are there to read at any moment, also while the run
goes on. A node of which nothing but a child or a call is known yet stands there without its own facts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from rlm_ray.core.context import InputSummary
from rlm_ray.core.display import html_text, one_line
from rlm_ray.events.records import (
    CallEnded,
    CallSent,
    CellEnded,
    MapEnded,
    MapOpened,
    NodePath,
    NodeRecord,
    Record,
    RunFinished,
    RunStarted,
    SessionEnded,
    SessionOpened,
    ToolEnded,
)

_QUERY_CHARS, _ANSWER_CHARS = 60, 60
"""So much of a question and of an answer stands in the line of a node."""


@dataclass(eq=False, slots=True)
class Node:
    """A session, or a leaf: a node with one call."""

    path: NodePath
    session_starts: list[SessionOpened] = field(default_factory=list)
    """One for each attempt; empty for a leaf."""
    session_ends: list[SessionEnded] = field(default_factory=list)
    calls_sent: dict[int, CallSent] = field(default_factory=dict)
    """By call number; the latest of each."""
    calls: dict[int, CallEnded] = field(default_factory=dict)
    cells: dict[int, CellEnded] = field(default_factory=dict)
    """By turn."""
    rerun_cells: list[CellEnded] = field(default_factory=list)
    """Those that were run once more, for their REPL was killed through no fault of their code."""
    tools: dict[tuple[int, int], ToolEnded] = field(default_factory=dict)
    """Calls of tools, by turn and number."""
    maps: dict[int, MapOpened] = field(default_factory=dict)
    """By first ordinal."""
    map_ends: dict[int, MapEnded] = field(default_factory=dict)
    children: list[Node] = field(default_factory=list)
    """In the order of their first records."""

    @property
    def depth(self) -> int:
        return len(self.path)

    @property
    def is_leaf(self) -> bool:
        return not self.session_starts and (call := self.call) is not None and call.role == "leaf"

    @property
    def call(self) -> CallEnded | CallSent | None:
        """Return the first call; a leaf's only one."""
        return self.calls.get(1) or self.calls_sent.get(1)

    @property
    def last_start(self) -> SessionOpened | None:
        """Return the start of its last attempt; None for a leaf."""
        return max(self.session_starts, key=_order, default=None)

    @property
    def end(self) -> SessionEnded | None:
        """Return how its last attempt ended; None while it goes on, and for a leaf."""
        end, latest = max(self.session_ends, key=_order, default=None), self.last_start
        return end if end is None or latest is None or _order(end) >= _order(latest) else None

    @property
    def query(self) -> str:
        if latest := self.last_start:
            return latest.query
        call = self.calls.get(1)
        return call.query if call is not None else ""

    @property
    def input(self) -> InputSummary:
        call = self.calls.get(1)
        latest = self.last_start
        given = latest.input if latest is not None else call.input if call is not None else None
        return given or InputSummary()

    @property
    def model(self) -> str:
        known = self.last_start or self.call
        return known.model if known is not None else ""

    @property
    def answer(self) -> str | None:
        if self.is_leaf:
            call = self.calls.get(1)
            return call.text if call is not None and not call.error_kind else None
        return self.end.answer if self.end is not None else None

    @property
    def started(self) -> float | None:
        """Return the Unix time of the first thing known of it."""
        call = self.calls.get(1)
        times = [session.at for session in self.session_starts]
        times += [call.started] if call is not None else [sent.at for sent in self.calls_sent.values()]
        return min(times, default=None)

    @property
    def ended(self) -> float | None:
        """Return when it ended; None while it goes on."""
        if self.is_leaf:
            call = self.calls.get(1)
            return None if call is None else call.at
        return None if self.end is None else self.end.at

    @property
    def state(self) -> str:
        """Return `running`, `ok`, `stopped` (by a limit, with what was known) or `error`."""
        if self.is_leaf:
            call = self.calls.get(1)
            return "running" if call is None else "error" if call.error_kind else "ok"
        if self.end is None:
            return "running"
        if self.end.error_kind:
            return "error"
        return "ok" if self.end.stop_reason == "answered" else "stopped"

    @property
    def error(self) -> str:
        """Return its failure in one line; empty where it did not fail."""
        call = self.calls.get(1) if self.is_leaf else None
        failed: CallEnded | SessionEnded | None = call if self.is_leaf else self.end
        return f"{failed.error_kind}: {failed.why}" if failed is not None and failed.error_kind else ""

    def __repr__(self) -> str:
        return f"Node({self.describe()})"

    def describe(self) -> str:
        """Return it in one line."""
        name = ".".join(map(str, self.path)) or "root"
        calls = f"{len(self.calls)} call{'s' if len(self.calls) != 1 else ''}"
        work = calls if self.is_leaf else f"{len(self.cells)} turns, {calls}"
        said = self.error or (
            one_line(self.answer, _ANSWER_CHARS) if self.answer is not None else "no answer yet"
        )
        return (
            f"{name} · {self.model} · {work} · {self.state} · {one_line(self.query, _QUERY_CHARS)} → {said}"
        )

    def add(self, record: NodeRecord) -> None:
        """Add a record of this node."""
        match record:
            case SessionOpened():
                self.session_starts.append(record)
            case SessionEnded():
                self.session_ends.append(record)
            case CallSent():
                self.calls_sent[record.call] = record
            case CallEnded():
                self.calls[record.call] = record
            case CellEnded(again=True):
                self.rerun_cells.append(record)
            case CellEnded():
                self.cells[record.turn] = record
            case ToolEnded():
                self.tools[record.turn, record.number] = record
            case MapOpened():
                self.maps[record.first] = record
            case MapEnded():
                self.map_ends[record.first] = record

    def walk(self) -> Iterator[Node]:
        """Yield the node and all below it, parents first. Not recursive: trees may be deep."""
        stack = [self]
        while stack:
            node = stack.pop()
            yield node
            stack.extend(reversed(node.children))


def _order(record: SessionOpened | SessionEnded) -> tuple[int, float]:
    """Return the order of the beginnings and ends of one session, whatever order they arrive in."""
    return record.attempt, record.at


class SeenRecords:
    """Tells the records that come for the first time: one may be written, or arrive, more than once."""

    __slots__ = ("_ids",)

    def __init__(self) -> None:
        self._ids: set[str] = set()

    def is_new(self, record: Record) -> bool:
        """Note a record; True where it has not come before. One without an id is always new."""
        if not record.id:
            return True
        if record.id in self._ids:
            return False
        self._ids.add(record.id)
        return True


class RunTree:
    """Holds all that is known of a run; printed, it is drawn as a tree."""

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self.opened: list[RunStarted] = []
        """One for each attempt: a resumed run has several."""
        self.ended: RunFinished | None = None
        self.root = Node(())
        self.nodes: dict[NodePath, Node] = {(): self.root}
        self._seen = SeenRecords()
        for record in records:
            self.add(record)

    def __repr__(self) -> str:
        return "\n".join(self.lines())

    def _repr_html_(self) -> str:
        """Show it in a notebook."""
        return html_text(repr(self))

    def lines(self, max_lines: int = 100, max_children: int = 10) -> list[str]:
        """Draw it: a line for each node, of many siblings the first ones and how many more there are."""
        run_id = self.opened[-1].run_id if self.opened else "?"
        end = (
            self.ended.stop_reason if self.ended is not None else "under way" if self.opened else "no records"
        )
        drawn = [f"run {run_id} · {end} · {len(self.nodes):,} nodes"]
        stack: list[tuple[Node | str, str, str]] = [(self.root, "", "")]
        while stack and len(drawn) < max_lines:
            node, lead, below = stack.pop()
            if isinstance(node, str):
                drawn.append(f"{lead}{node}")
                continue
            drawn.append(f"{lead}{node.describe()}")
            shown: list[Node | str] = list(node.children[:max_children])
            if hidden := node.children[max_children:]:
                states = Counter(child.state for child in hidden)
                shown.append(
                    f"… {len(hidden):,} more ({', '.join(f'{count:,} {state}' for state, count in states.items())})"
                )
            for place, child in reversed(list(enumerate(shown))):
                is_last = place == len(shown) - 1
                stack.append(
                    (child, below + ("└ " if is_last else "├ "), below + ("  " if is_last else "│ "))
                )
        return [*drawn, *(["…"] if stack else [])]

    def add(self, record: Record) -> bool:
        """Add a record; False for one that was added before."""
        if not self._seen.is_new(record):
            return False
        match record:
            case RunStarted():
                self.opened.append(record)
                self.ended = None
            case RunFinished():
                self.ended = record
            case _:
                self.node(record.path).add(record)
        return True

    def node(self, path: NodePath) -> Node:
        """Return the node of this path; makes it and its parents if they have no record yet."""
        known = self.nodes.get(path)
        if known is None:
            known = self.nodes[path] = Node(path)
            self.node(path[:-1]).children.append(known)
        return known
