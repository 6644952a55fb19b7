"""What earlier attempts of a run have on record, and which of it may be used again.

A session is a function of its model replies and of the outcomes of its sub-calls. So a reply is used again where the
same node makes the same call (path, number, hash of the request); a child's answer where its question and context
are the same. Failures are tried again, unless the model has seen them: then its history holds them.
"""

from __future__ import annotations

from rlm_ray import errors
from rlm_ray.core.llm import ModelReply
from rlm_ray.core.repl_types import CellResult, Failed, SubCallAnswer, SubCallOutcome
from rlm_ray.core.reply import judge
from rlm_ray.core.thinking import split_thinking
from rlm_ray.events.records import (
    SUMMARY_CALLS,
    CallEnded,
    CallSent,
    CellEnded,
    MapOpened,
    NodePath,
    SessionEnded,
    SessionOpened,
    from_line,
)
from rlm_ray.events.tree import RunTree
from rlm_ray.events.usage import CANCELLED

_DETERMINISTIC_STOPS = frozenset(
    {"answered", "max_iterations", "no_code", "no_progress", "no_citations", "context_window"}
)
"""Stop reasons that another attempt would come to again; limits may have been raised."""


class ReplayIndex:
    """Indexes the records of a run, as far as they were read."""

    def __init__(self, *, content: bool = True) -> None:
        self.offset = 0
        """Bytes of the journal that were read."""
        self.tree = RunTree()
        self._content = content

    def ingest(self, data: bytes) -> None:
        """Read whole lines, from `offset` on."""
        self.offset += len(data)
        for line in data.splitlines():
            record = from_line(line)
            # Without its texts a fact cannot be used again; that something was under way is known all the same.
            if self._content or isinstance(record, CallSent | SessionOpened):
                self.tree.add(record)

    def call(self, path: NodePath, number: int, key: str) -> CallEnded | None:
        """Return the recorded end of this very call, if it was answered: with a usable reply, or one that history stands on."""
        call = self._call(path, number)
        if call is None or call.key != key or call.error_kind:
            return None
        judged = judge(to_reply(call), takes_code=call.role == "turn")
        return call if judged.kind == "usable" or self._is_history(call) else None

    def status(self, path: NodePath, number: int) -> str | None:
        """Return the status line of a recorded turn."""
        call = self._call(path, number)
        return call.status if call is not None and not call.error_kind else None

    def refusal(self, path: NodePath, turn: int) -> str:
        """Return why the answer of this turn was not taken, as the call after it was told; empty where nothing says so."""
        call = self._call(path, turn + 1)
        return call.refused if call is not None else ""

    def summary(self, path: NodePath, turns: int) -> CallEnded | None:
        """Return the recorded summary of so many turns, also one that failed; None where there is none."""
        return self._call(path, SUMMARY_CALLS + turns)

    def was_in_flight(self, path: NodePath, number: int, key: str) -> bool:
        """Tell whether this very call was sent and nothing is known of its end."""
        node = self.tree.nodes.get(path)
        sent = node.calls_sent.get(number) if node is not None else None
        ended = self._call(path, number)
        if sent is None or sent.key != key:
            return False
        return ended is None or ended.error_kind == CANCELLED or ended.at < sent.at

    def cell(self, path: NodePath, turn: int) -> CellEnded | None:
        """Return what the code of this turn did; None where it belongs to an older reply than the recorded one.

        As long as the model has not seen its result, code is run again that was killed (its actor may have been dying), or whose
        sub-calls failed (their provider may have been down).
        """
        node, reply = self.tree.nodes.get(path), self._call(path, turn)
        cell = node.cells.get(turn) if node is not None else None
        if cell is None or reply is None or cell.at < reply.at:
            return None
        went_wrong = bool(cell.killed) or self._cell_had_failures(path, turn)
        return None if went_wrong and not self._model_continued_after(path, cell) else cell

    def tool(self, path: NodePath, turn: int, number: int, key: str) -> SubCallOutcome | None:
        """Return how this very call of a tool ended, failures too: what a tool did is not done again.

        None where it is not on record, or was made by the code of an older reply than the recorded one."""
        node, reply = self.tree.nodes.get(path), self._call(path, turn)
        ended = node.tools.get((turn, number)) if node is not None else None
        if ended is None or ended.key != key or reply is None or ended.at < reply.at:
            return None
        return Failed(ended.error_kind, ended.why) if ended.error_kind else SubCallAnswer(ended.result)

    def sub_calls(self, path: NodePath, turn: int) -> int:
        """Count the sub-calls that the code of this turn made."""
        return sum(sent.count for sent in self._effective_maps(path) if sent.turn == turn)

    def attempts(self, path: NodePath) -> int:
        """Count how often the session at `path` was sent to an actor."""
        node = self.tree.nodes.get(path)
        return len(node.session_starts) if node is not None else 0

    def end(self, path: NodePath, key: str) -> SessionEnded | None:
        """Return how the session at `path` ended, where that may be used again."""
        node = self.tree.nodes.get(path)
        for end in reversed(node.session_ends) if node is not None else ():
            if end.key == key and (_finished(end) or self._outcome_was_seen(path)):
                return end
        return None

    def seen_failure(self, path: NodePath, key: str = "") -> Failed | None:
        """Return how the plain call at `path` failed, where the model has seen that; with a `key`, this very call only."""
        call = self._call(path, 1)
        if (
            call is None
            or not call.error_kind
            or call.error_kind == CANCELLED
            or (key and call.key != key)
            or not self._outcome_was_seen(path)
        ):
            return None
        # A model's error is recorded beside its model, and was shown with it.
        cls = getattr(errors, call.error_kind, None)
        is_of_model = isinstance(cls, type) and issubclass(cls, errors.ModelError)
        return Failed(call.error_kind, f"{call.model}: {call.why}" if is_of_model else call.why)

    def seen_cancelled(self, path: NodePath) -> bool:
        """Tell whether the sub-call at `path` was cancelled for the failure of another that the model has seen."""
        node = self.tree.nodes.get(path)
        if node is None or not self._outcome_was_seen(path):
            return False
        end: CallEnded | SessionEnded | None = node.end or node.calls.get(1)
        return end is not None and end.error_kind == CANCELLED

    def _call(self, path: NodePath, number: int) -> CallEnded | None:
        node = self.tree.nodes.get(path)
        return node.calls.get(number) if node is not None else None

    def _outcome_was_seen(self, path: NodePath) -> bool:
        """Tell whether the model has seen the result of the cell that made this sub-call, so that its outcome is history."""
        above, ordinal = path[:-1], path[-1]
        turns = [
            sent.turn
            for sent in self._effective_maps(above)
            if sent.first <= ordinal < sent.first + sent.count
        ]
        cell = self.tree.nodes[above].cells.get(turns[-1]) if turns else None
        return cell is not None and self._model_continued_after(above, cell)

    def _model_continued_after(self, path: NodePath, cell: CellEnded) -> bool:
        """Tell whether the cell was the session's last, or the model has answered since."""
        calls = self.tree.nodes[path].calls.items()
        return cell.final is not None or any(
            number > cell.turn and call.at >= cell.at and not call.error_kind for number, call in calls
        )

    def _is_history(self, call: CallEnded) -> bool:
        """Tell whether later messages were written with this reply in the history."""
        node = self.tree.nodes[call.path]
        if call.role == "summary":
            return any(later.at > call.at for later in node.calls.values())
        if call.role == "turn":
            return call.call in node.cells or any(
                number > call.call and later.at >= call.at for number, later in node.calls.items()
            )
        return call.role == "leaf" and self._outcome_was_seen(call.path)

    def _cell_had_failures(self, path: NodePath, turn: int) -> bool:
        ends = self.tree.nodes[path].map_ends
        return any(
            sent.turn == turn and sent.first in ends and ends[sent.first].failed
            for sent in self._effective_maps(path)
        )

    def _effective_maps(self, path: NodePath) -> list[MapOpened]:
        """Return the maps of a session; one that was sent again takes the place of all that came after it before."""
        node = self.tree.nodes.get(path)
        maps: list[MapOpened] = []
        for sent in sorted(node.maps.values() if node is not None else (), key=lambda sent: sent.at):
            while maps and maps[-1].first >= sent.first:
                maps.pop()
            maps.append(sent)
        return maps


def to_reply(call: CallEnded) -> ModelReply:
    """Return the recorded reply as it was used."""
    text, _ = split_thinking(call.text)  # older versions wrote it down with its thinking
    return ModelReply(
        text,
        call.finish_reason or "stop",
        call.usage,
        call.cost_usd,
        call.tool_call,
        at=call.at,
        recorded=True,
        reasoning=call.reasoning,
    )


def to_cell_result(cell: CellEnded) -> CellResult:
    """Return the recorded result of a cell, as the model saw it."""
    return CellResult(
        cell.output,
        cell.output_chars,
        cell.error,
        cell.final,
        cell.looked,
        cell.killed,
        cell.variables,
        cell.notes,
        citations=cell.citations,
    )


def outcome_from_record(end: SessionEnded) -> SubCallOutcome:
    """Return what a parent's code gets for a recorded end."""
    if end.answer is not None and not end.error_kind:
        return SubCallAnswer(end.answer)
    return Failed(end.error_kind or end.stop_reason, end.why)


def _finished(end: SessionEnded) -> bool:
    return not end.error_kind and end.answer is not None and end.stop_reason in _DETERMINISTIC_STOPS
