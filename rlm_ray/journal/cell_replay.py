"""Records the cells of one session, and replays those that an earlier attempt of the run has recorded.

As long as every reply of a session comes from the record, the results of its code do, too. The first reply that is
new needs the variables that the code before it made: that code is run again then, with recorded outcomes for its
sub-calls; the model has seen what it prints.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from rlm_ray.core.repl_types import CellResult, Citation, Failed, SubCallAnswer, SubCallOutcome, ToolRequest
from rlm_ray.core.state_machine import Trajectory
from rlm_ray.events.records import CallEnded, CellEnded, MapEnded, MapOpened, NodePath, ToolEnded
from rlm_ray.journal.recorder import NullRecorder
from rlm_ray.journal.replay import to_cell_result


@dataclass(slots=True)
class CellExecution:
    """One execution of the code of a turn."""

    turn: int
    blocks: Sequence[str]
    started: float
    first: int
    """The ordinal of its next sub-call."""
    is_rerun: bool
    """The code is run again for its variables only; what it does is on record."""
    waited_s: float = 0.0
    """For sub-calls."""
    cut: int = 0
    """Answers of sub-calls that were cut off at the token limit."""
    tool_calls: int = 0
    citations: list[Citation] = field(default_factory=list)
    result: CellResult = CellResult()  # noqa: RUF009 - frozen


class CellReplay:
    """Knows which cells of a session are on record, and records the others."""

    def __init__(
        self, recorder: NullRecorder, path: NodePath, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._recorder, self._path, self._clock = recorder, path, clock
        self._next_ordinal = 0
        self._first: dict[int, int] = {}
        self._turns_run: list[int] = []
        """Turns whose code made the variables that the session has."""
        self._turns_to_rerun: list[int] = []
        """Those of them that the REPL does not have."""
        self._still_replaying = True

    def status(self, turn: int) -> str | None:
        """Return the recorded status line of this turn: with the same words it is the same request."""
        return self._recorder.replay.status(self._path, turn) if self._still_replaying else None

    def refusal(self, turn: int) -> str:
        """Return why the recorded answer of this turn was not taken; empty where that is not on record."""
        return self._recorder.replay.refusal(self._path, turn) if self._still_replaying else ""

    def summary(self, turns: int) -> CallEnded | None:
        """Return the recorded summary of so many turns, also one that failed; None where there is none."""
        return self._recorder.replay.summary(self._path, turns) if self._still_replaying else None

    def result(self, trajectory: Trajectory) -> CellResult | None:
        """Return the recorded result of the last turn's code; None where it has to be run."""
        turn = len(trajectory.turns)
        cell = self._recorder.replay.cell(self._path, turn)
        self._still_replaying = (
            self._still_replaying and trajectory.turns[-1].reply.recorded and cell is not None
        )
        if not self._still_replaying or cell is None:
            return None
        self._first[turn] = self._next_ordinal
        self._next_ordinal += self._recorder.replay.sub_calls(self._path, turn)
        result = to_cell_result(cell)
        self._turns_run = [] if result.kill_reason else [*self._turns_run, turn]
        self._turns_to_rerun = list(self._turns_run)
        return result

    def turns_to_rerun(self) -> list[int]:
        """Return, once, the turns whose code has to be run again for the variables it made."""
        turns, self._turns_to_rerun = self._turns_to_rerun, []
        return turns

    async def on_repl_lost(self, cell: CellExecution) -> bool:
        """Prepare for a new REPL after one was killed from outside; False where the cells cannot be run again for free."""
        if not await self._recorder.load_history():
            return False
        self._turns_to_rerun = list(self._turns_run)
        self._put(cell, again=True)
        return True

    def start(self, turn: int, blocks: Sequence[str], *, again: bool) -> CellExecution:
        """Begin the execution of a turn's code."""
        first = self._first.setdefault(turn, self._next_ordinal)
        return CellExecution(turn, blocks, self._clock(), first, again)

    @contextmanager
    def record_map(
        self,
        cell: CellExecution,
        queries: Sequence[str],
        sessions: int,
        slots: Sequence[SubCallOutcome | None],
    ) -> Iterator[int]:
        """Record a map of the cell's sub-calls around the block; yields the ordinal of the first."""
        first, count, begun = cell.first, len(queries), self._clock()
        cell.first += count
        self._next_ordinal = max(self._next_ordinal, cell.first)
        if cell.is_rerun:
            yield first
            return
        query = queries[0] if queries else ""
        self._recorder.append(MapOpened(begun, self._path, cell.turn, first, count, sessions, query))
        try:
            yield first
        finally:
            answered = sum(isinstance(slot, SubCallAnswer) for slot in slots)
            now = self._clock()
            cell.waited_s += now - begun
            self._recorder.append(MapEnded(now, self._path, first, answered, count - answered))

    async def call_tool(
        self,
        cell: CellExecution,
        request: ToolRequest,
        call: Callable[[ToolRequest], Awaitable[SubCallOutcome]],
    ) -> SubCallOutcome:
        """Return the outcome that is on record, or call the tool; its outcome is used once it is on record."""
        number, begun = cell.tool_calls, self._clock()
        cell.tool_calls += 1
        known = self._recorder.replay.tool(self._path, cell.turn, number, request.key)
        if known is not None:
            return known
        outcome = await call(request)
        now = self._clock()
        cell.waited_s += now - begun
        ended = ToolEnded(
            now, self._path, cell.turn, number, request.name, request.key, begun, request.arguments
        )
        if isinstance(outcome, Failed):
            ended = replace(ended, error_kind=outcome.kind, why=outcome.why)
        else:
            ended = replace(ended, result=outcome.text)
        self._recorder.append(ended)
        await self._recorder.flush()
        return outcome

    def record(self, cell: CellExecution) -> None:
        """Record a finished execution."""
        self._turns_run = [] if cell.result.kill_reason else [*self._turns_run, cell.turn]
        self._put(cell)

    def _put(self, cell: CellExecution, *, again: bool = False) -> None:
        result = cell.result
        self._recorder.append(
            CellEnded(
                self._clock(), self._path, cell.turn, cell.started, cell.waited_s,
                code="\n".join(cell.blocks), output=result.output, output_chars=result.output_chars,
                error=result.error, killed=result.kill_reason, final=result.final_answer, looked=result.context_was_read,
                variables=result.variables, notes=result.notes, again=again, citations=result.citations,
            )
        )  # fmt: skip
