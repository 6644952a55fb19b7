"""What earlier lives of a run have on record, and which of it holds again.

A session is a function of its model replies and of the outcomes of its sub-calls. So a reply is used again where the
same node makes the same call (path, number, hash of the request); a child's answer where its question and context
are the same. Failures are tried again, unless the model has seen them: then its history holds them.
"""

from __future__ import annotations

from rlm_ray.core.cell import Answered, CellResult, Failed, Outcome
from rlm_ray.core.model import ModelReply
from rlm_ray.core.records import CallEnded, CellEnded, Path, SessionEnded, from_line
from rlm_ray.core.tree import RunTree

CANCELLED = "cancelled"
"""The `error_kind` of a call or session that was given up; what it cost is not known."""

_FINISHED = frozenset({"answered", "max_iterations", "no_code", "context_window"})
"""Stop reasons that another life would come to again; limits may have been raised."""


class Replay:
    """The records of a run, as far as they were read."""

    def __init__(self) -> None:
        self.offset = 0
        """Bytes of the journal that were read."""
        self.tree = RunTree()

    def feed(self, data: bytes) -> None:
        """Whole lines, from `offset` on."""
        self.offset += len(data)
        for line in data.splitlines():
            self.tree.add(from_line(line))

    def call(self, path: Path, number: int, key: str) -> CallEnded | None:
        """The recorded end of this very call, if it was answered."""
        call = self._call(path, number)
        return call if call is not None and call.key == key and not call.error_kind else None

    def status(self, path: Path, number: int) -> str | None:
        """The status line a recorded turn was asked under."""
        call = self._call(path, number)
        return call.status if call is not None and not call.error_kind else None

    def was_under_way(self, path: Path, number: int, key: str) -> bool:
        """This very call had gone out, and nothing is known of its end."""
        node = self.tree.nodes.get(path)
        sent = node.sent.get(number) if node is not None else None
        ended = self._call(path, number)
        return sent is not None and sent.key == key and (ended is None or ended.error_kind == CANCELLED)

    def cell(self, path: Path, turn: int) -> CellEnded | None:
        """What the code of this turn did."""
        node = self.tree.nodes.get(path)
        return node.cells.get(turn) if node is not None else None

    def sub_calls(self, path: Path, turn: int) -> int:
        """How many sub-calls the code of this turn made."""
        node = self.tree.nodes.get(path)
        return sum(sent.count for sent in node.maps.values() if sent.turn == turn) if node is not None else 0

    def attempts(self, path: Path) -> int:
        """How often the session at `path` was sent to an actor."""
        node = self.tree.nodes.get(path)
        return len(node.opened) if node is not None else 0

    def child(self, path: Path, key: str) -> Outcome | None:
        """How the child session at `path` ended, where that holds again."""
        node = self.tree.nodes.get(path)
        for end in reversed(node.ends) if node is not None else ():
            if end.key == key and (_finished(end) or self._seen(path)):
                return outcome_of(end)
        return None

    def failure(self, path: Path) -> Failed | None:
        """How the plain call at `path` failed, where the model has seen that."""
        call = self._call(path, 1)
        if call is None or not call.error_kind or not self._seen(path):
            return None
        return Failed(call.error_kind, call.why)

    def _call(self, path: Path, number: int) -> CallEnded | None:
        node = self.tree.nodes.get(path)
        return node.calls.get(number) if node is not None else None

    def _seen(self, path: Path) -> bool:
        """The cell that sent this sub-call out is over, so its outcome is part of its parent's history."""
        parent = self.tree.nodes[path[:-1]]
        ordinal = path[-1]
        turns = [
            sent.turn for sent in parent.maps.values() if sent.first <= ordinal < sent.first + sent.count
        ]
        return bool(turns) and turns[-1] in parent.cells


def reply_of(call: CallEnded) -> ModelReply:
    """The reply as the model gave it."""
    return ModelReply(
        call.text,
        call.finish_reason or "stop",
        call.usage,
        call.cost_usd,
        call.tool_call,
        at=call.at,
        recorded=True,
    )


def result_of(cell: CellEnded) -> CellResult:
    """What the code did, as the model was told."""
    return CellResult(
        cell.output,
        cell.output_chars,
        cell.error,
        cell.final,
        cell.looked,
        cell.killed,
        cell.variables,
        cell.notes,
    )


def outcome_of(end: SessionEnded) -> Outcome:
    """What a parent's code gets."""
    if end.answer is not None and not end.error_kind:
        return Answered(end.answer)
    return Failed(end.error_kind or end.stop_reason, end.why)


def _finished(end: SessionEnded) -> bool:
    return not end.error_kind and end.answer is not None and end.stop_reason in _FINISHED
