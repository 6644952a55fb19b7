"""What a session does next: a pure function of its trajectory.

Laws:
- Code that has been written is run once, unless the provider cut it off in the middle.
- An answer on the first turn counts only if the model has looked at the context (or saw it whole).
- Three messages in a row that neither run code nor answer end the session: more of them cost and change nothing.
- A further question starts the count of turns anew.
- `Stop` is followed by one last call for the best answer from what is known; `Finish` by nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from rlm_ray.core.trajectory import Trajectory, Turn

MAX_IDLE_TURNS = 3


@dataclass(frozen=True, slots=True)
class Generate:
    """Ask the model for its next message."""


@dataclass(frozen=True, slots=True)
class Execute:
    """Run this code."""

    blocks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Finish:
    """The session has its answer."""

    answer: str


@dataclass(frozen=True, slots=True)
class Stop:
    """No further turn: `reason` is a stop reason, `why` a sentence for people."""

    reason: str
    why: str


Step: TypeAlias = "Generate | Execute | Finish | Stop"


def next_step(trajectory: Trajectory) -> Step:
    """Decide the next step."""
    turn = trajectory.last
    if turn is None or trajectory.turns_before == len(trajectory.turns):
        return Generate()
    if turn.result is None and runnable(turn):
        return Execute(turn.parsed.blocks)
    answer = final_answer(turn)
    if answer is not None and not answered_unseen(trajectory):
        return Finish(answer)
    return _stop(trajectory) or Generate()


def runnable(turn: Turn) -> bool:
    """The message has code, and the provider did not cut it off in the middle."""
    return bool(turn.parsed.blocks) and not was_cut(turn)


def was_cut(turn: Turn) -> bool:
    """The message's code was cut off at the token limit."""
    return turn.parsed.cut and turn.judged.kind == "truncated"


def final_answer(turn: Turn) -> str | None:
    """The answer the turn gave, from its code or in plain words; words that were cut off are none."""
    if turn.result is not None:
        return turn.result.final
    return turn.parsed.answer if turn.judged.kind != "truncated" else None


def answered_unseen(trajectory: Trajectory) -> bool:
    """The very first message answers although the model has not looked at the context."""
    return len(trajectory.turns) == 1 and not trajectory.looked


def _stop(trajectory: Trajectory) -> Stop | None:
    limit, turns = trajectory.task.max_iterations, trajectory.turns[trajectory.turns_before :]
    if len(turns) >= limit:
        allowed = "1 turn" if limit == 1 else f"{limit} turns"
        return Stop("max_iterations", f"the model did not finish within {allowed}; raise max_iterations")
    idle = turns[-MAX_IDLE_TURNS:]
    if len(idle) == MAX_IDLE_TURNS and all(map(_idle, idle)):
        why = f"the model wrote no code in {MAX_IDLE_TURNS} messages"
        return Stop("no_code", f"{why}; {idle[-1].judged.why or 'try another model'}")
    return None


def _idle(turn: Turn) -> bool:
    return turn.result is None and final_answer(turn) is None
